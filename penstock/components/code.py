"""The identity of a project's code: what a run is frozen with, and what a worker compares before it starts a task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

__all__ = ["CodeIdentity"]

_PATTERNS: Final = ("*.py", "*.sql", "*.sh", "*.yaml", "*.yml", "pyproject.toml", "*.lock", "requirements*.txt")
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages", "data", "notebooks"})


class CodeIdentity:
    """Names the content of a project's code files; a file is read again only when it looks changed.

    Code is `*.py`, `*.sql`, `*.sh`, YAML, and files that fix versions. Hidden folders, environments (folders with a
    `pyvenv.cfg`), `data`, `notebooks` and `node_modules` hold none.

    Args:
        project: its folder.
    """

    def __init__(self, project: Path) -> None:
        self._project = project
        self._seen: dict[str, tuple[tuple[int, int, int], bytes]] = {}

    def now(self) -> str:
        """The identity of the files as they are, 16 hexadecimal digits."""
        seen, whole = {}, hashlib.sha256()
        for path, looks in sorted(_files(str(self._project), "")):
            known = self._seen.get(path)
            if known is None or known[0] != looks:
                try:
                    known = looks, hashlib.sha256((self._project / path).read_bytes()).digest()
                except OSError:  # gone since we looked
                    continue
            seen[path] = known
            whole.update(os.fsencode(path) + b"\0" + known[1])
        self._seen = seen
        return whole.hexdigest()[:16]


def _files(folder: str, below: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    if below and any(e.name == "pyvenv.cfg" for e in entries):
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED:
                yield from _files(entry.path, f"{below}{entry.name}/")
        elif any(fnmatch(entry.name, p) for p in _PATTERNS) and entry.is_file():
            look = entry.stat()
            yield below + entry.name, (look.st_mtime_ns, look.st_size, look.st_ino)
