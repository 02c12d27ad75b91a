"""What a task may leave behind in its process, and how that is seen.

A process serves a further task only when nothing here has changed. Directory, standard streams, random numbers and
context variables are set anew for every task, so they need no look.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes an enumeration of every value: 20 us
import atexit
import contextlib
import ctypes
import gc
import locale
import logging
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

__all__ = ["MOST_TASKS", "Traces", "has_children"]

MOST_TASKS: Final = 1_000
"""Tasks that one process serves at most."""
_MOST_GROWTH: Final = 32 << 20
_LIMITS: Final = tuple(getattr(resource, n) for n in dir(resource) if n.startswith("RLIMIT_"))
_SIGNALS: Final = tuple(int(n) for n in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_ENVIRON: Final = vars(os.environ)["_data"]  # as bytes: a copy that decodes costs 35 us
_STDIO: Final = ("stdin", "stdout", "stderr")


class Traces:
    """A process as it was before its first task. Made in the template; `begin` in the forked process.

    Args:
        project: modules of this folder are forgotten after a task, and loaded again by the next.
    """

    def __init__(self, project: Path) -> None:
        self.project = project
        self._within = str(project) + os.sep
        self._modules = set(sys.modules)
        self._attributes = [
            _Attributes(module)
            for name, module in list(sys.modules.items())
            if isinstance(module, ModuleType) and not name.startswith(_OWN)
        ]
        self._streams = [getattr(sys, n) for n in _STDIO]
        self._before: dict[str, Any] = {}
        self._versions: list[int] = []
        self._memory = self._tasks = 0

    def begin(self) -> None:
        """Looks at what a forked process does not have from its template."""
        self._before = {name: look() for name, look in _LOOKS.items()}
        self._memory = _memory()
        for attributes in self._attributes:
            attributes.look()  # some modules set themselves right after a fork
        self._versions = [a.version.value for a in self._attributes]

    def left(self) -> str:
        """What the last task has changed for good, in one or two words; empty when the process is as it was."""
        self._tasks += 1
        if self._tasks >= MOST_TASKS:
            return "age"
        if has_children():
            return "processes"
        if any(getattr(sys, n) is not s for n, s in zip(_STDIO, self._streams, strict=True)):
            return "standard streams"
        loaded = self._forget_modules()
        if loaded:
            return f"module {loaded}"
        for name, look in _LOOKS.items():
            if look() != self._before[name]:
                return name
        if changed := self._changed_module():
            return f"attributes of {changed}"
        return "memory" if _memory() - self._memory > _MOST_GROWTH else ""

    def _changed_module(self) -> str:
        """The name of a module of which a variable is another than before; empty when there is none."""
        if _VERSIONED and [a.version.value for a in self._attributes] == self._versions:
            return ""
        for attributes in self._attributes:
            if attributes.changed():
                return attributes.module.__name__
        self._versions = [a.version.value for a in self._attributes]
        return ""

    def _forget_modules(self) -> str:
        """Drops modules of the project; the name of another new module, if there is one."""
        modules = sys.modules
        if len(modules) == len(self._modules) and modules.keys() == self._modules:
            return ""
        if missing := self._modules - modules.keys():
            return min(missing)
        for name in [n for n in modules if n not in self._modules]:
            file = getattr(modules[name], "__file__", None) or ""
            if not (file.startswith(self._within) and file.endswith(".py")):
                return name
            del modules[name]
            parent, _, child = name.rpartition(".")
            if parent in modules:
                with contextlib.suppress(AttributeError):
                    delattr(modules[parent], child)
        return ""


_OWN: Final = ("__main__", "penstock.workflows.executor.local", "linecache", "tokenize", "re", "functools")
"""Modules whose variables change by themselves."""


class _Attributes:
    """The variables of a module as they were.

    CPython counts the changes of a dictionary; only one that was written to since is compared (all of them: 0.5 ms).
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.version = ctypes.c_uint64.from_address(id(vars(module)) + _VERSION_OFFSET) if _VERSIONED else _NONE
        self._before: dict[str, Any] = {}
        self._seen = -1
        self.look()

    def look(self) -> None:
        """Takes the variables as they are for what they should be."""
        if not _VERSIONED or self.version.value != self._seen:
            self._before = dict(vars(self.module))
            self._seen = self.version.value

    def changed(self) -> bool:
        """Whether a variable is another than before."""
        if _VERSIONED and self.version.value == self._seen:
            return False
        try:
            same = vars(self.module) == self._before  # looks at identity first
        except Exception:  # noqa: BLE001  a value that cannot be compared was put there by somebody
            return True
        self._seen = self.version.value
        return not same


_NONE: Final = ctypes.c_uint64(0)
_VERSION_OFFSET: Final = 24
"""Of `ma_version_tag` in CPython's `PyDictObject`, 3.11 to 3.13, on 64 bits."""


def _is_versioned() -> bool:
    """Whether the count of changes is where we look for it."""
    if sys.implementation.name != "cpython" or sys.maxsize < 2**63 - 1 or hasattr(sys, "gettotalrefcount"):
        return False
    probe: dict[str, int] = {"a": 1}
    count = ctypes.c_uint64.from_address(id(probe) + _VERSION_OFFSET)
    seen = []
    for value in range(2, 5):
        seen.append(count.value)
        probe["a"] = value
    return len({*seen, count.value}) == 4


_VERSIONED: Final = _is_versioned()


def has_children() -> bool:
    """Whether this process has children; as it adopts orphans, whether anything is left of what it started."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _memory() -> int:
    """Bytes resident."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _interpreter() -> tuple[Any, ...]:
    return (
        list(sys.path), list(sys.meta_path), list(sys.path_hooks), list(sys.argv), sys.gettrace(), sys.getprofile(),
        sys.getrecursionlimit(), sys.getswitchinterval(), sys.excepthook, sys.displayhook, threading.excepthook,
        gc.isenabled(), gc.get_threshold(), atexit._ncallbacks(), list(warnings.filters),
    )  # fmt: skip


def _logging() -> tuple[Any, ...]:
    root = logging.root
    return root.level, list(root.handlers), list(root.filters), logging.root.manager.disable


_LOOKS: Final[dict[str, Callable[[], Any]]] = {
    "environment": lambda: dict(_ENVIRON),
    "umask": _umask,
    "threads": lambda: Path("/proc/self/task").stat().st_nlink,
    "open files": lambda: sorted(e.name for e in os.scandir("/proc/self/fd")),
    "signals": lambda: [_signal.getsignal(n) for n in _SIGNALS],
    "blocked signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    "timers": lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 0,
    "limits": lambda: [resource.getrlimit(n) for n in _LIMITS],
    "priority": lambda: os.getpriority(os.PRIO_PROCESS, 0),
    "processors": lambda: os.sched_getaffinity(0),
    "locale": lambda: locale.setlocale(locale.LC_ALL),
    "interpreter": _interpreter,
    "logging": _logging,
}
