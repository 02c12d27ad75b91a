"""Processes of Linux that Python has no words for: orphans come to us, we end with our parent, whole trees end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

__all__ = ["adopt_orphans", "children_of", "descendants_of", "die_with_parent", "end_tree", "has_ended", "threads"]

_PDEATHSIG: Final = 1
_SUBREAPER: Final = 36


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def adopt_orphans() -> None:
    """Descendants whose parent dies become our children, whatever session they are in."""
    _prctl(_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Ends us when process `parent` ends; at once when it has already."""
    _prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _parents() -> dict[int, int]:
    """Process id -> its parent's, of all processes."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended
                stat = (entry / "stat").read_bytes()
                found[int(entry.name)] = int(stat[stat.rindex(b")") + 2 :].split(None, 2)[1])
    return found


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`, ended ones that nobody has waited for among them."""
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split()]
    except OSError:  # a kernel without that file
        return [child for child, parent in _parents().items() if parent == pid]


def descendants_of(pid: int) -> list[int]:
    """All processes below `pid`, nearest first."""
    parents = _parents()
    found, level = [], {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found += sorted(level)
    return found


def end_tree(pid: int) -> None:
    """Ends a process, its group and all its descendants for certain; the caller waits for the process itself.

    The process is stopped first, so that orphans of what ends below it cannot slip away between two looks.
    """
    _signal(pid, signal.SIGSTOP)
    for _ in range(100):
        alive = [p for p in descendants_of(pid) if not has_ended(p)]
        if not alive:
            break
        for below in alive:
            _signal(below, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits only to be waited for."""
    try:
        stat = Path("/proc", str(pid), "stat").read_bytes()
    except OSError:
        return True
    return stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] in b"ZX"


def threads() -> int:
    """Threads of this process."""
    return Path("/proc/self/task").stat().st_nlink - 2
