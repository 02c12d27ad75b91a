"""An LMDB environment shared by every thread of the process: growth, full disks and stale readers handled once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import lmdb

from penstock.errors import StoreError

__all__ = ["DATABASES", "Durability", "Environment"]

Durability = Literal["sync", "process"]

DATABASES: Final = ("about", "topics", "heads", "batches", "producers", "ids", "dead", "counts", "state", "audit")
"""The named databases of a log."""

_FIRST_MAP_BYTES: Final = 1 << 34
_MAX_READERS: Final = 1024
_T = TypeVar("_T")

_open: dict[str, Environment] = {}
_open_lock = threading.Lock()


class Environment:
    """One LMDB environment; LMDB allows one per path and process, so all who open the path share it.

    Work is handed in as functions of a transaction, because a write that outgrows the map is run again on a larger
    one. Such a function changes nothing but the transaction, and no buffer it reads outlives it.
    """

    def __init__(self, path: Path, durability: Durability, map_bytes: int) -> None:
        self.path, self.durability = path, durability
        self._pid = os.getpid()
        self._users = 1
        self._gate = threading.Condition()
        self._active = 0
        self._growing = False
        with _clear_errors(path):
            self._env = lmdb.open(
                str(path),
                map_size=map_bytes,
                max_dbs=len(DATABASES),
                max_readers=_MAX_READERS,
                sync=durability == "sync",
                metasync=durability == "sync",
                subdir=True,
            )
            # A map smaller than the file is raised by LMDB itself.
            self.map_bytes = int(self._env.info()["map_size"])
            self._env.reader_check()
            self.db: dict[str, Any] = {name: self._env.open_db(name.encode()) for name in DATABASES}

    @classmethod
    def open(cls, path: Path, durability: Durability, map_bytes: int = _FIRST_MAP_BYTES) -> Environment:
        """The process's environment at `path`, opened if it is not yet.

        Raises:
            StoreError: it is open in this process with another durability, or the disk refuses.
        """
        key = str(path.resolve())
        with _open_lock:
            shared = _open.get(key)
            if shared is not None and shared._pid == os.getpid():
                if shared.durability != durability:
                    raise StoreError(
                        f"open the log with durability {durability!r}",
                        found=f"it is open in this process with {shared.durability!r}",
                        remedy="use one durability for a log within a process",
                        where=str(path),
                    )
                shared._users += 1
                return shared
            _open[key] = cls(path, durability, map_bytes)
            return _open[key]

    def close(self) -> None:
        """Lets go; the last user of the process closes the files."""
        with _open_lock:
            self._users -= 1
            if self._users:
                return
            _open.pop(str(self.path.resolve()), None)
        with self._gate:
            self._gate.wait_for(lambda: not self._active)
            self._growing = True
            self._env.close()

    def view(self, work: Callable[[lmdb.Transaction], _T]) -> _T:
        """Runs `work` on a snapshot."""
        return self._run(work, write=False, keep=False)

    def update(self, work: Callable[[lmdb.Transaction], _T]) -> _T:
        """Runs `work` and commits, durable when it returns; nothing of it stays if it raises."""
        return self._run(work, write=True, keep=True)

    def exclusive(self, work: Callable[[lmdb.Transaction], _T]) -> _T:
        """Runs `work` on the newest state while no process writes; nothing is written."""
        return self._run(work, write=True, keep=False)

    def _run(self, work: Callable[[lmdb.Transaction], _T], *, write: bool, keep: bool) -> _T:
        while True:
            try:
                with _clear_errors(self.path), self._entered():
                    txn = self._env.begin(write=write, buffers=True)
                    try:
                        result = work(txn)
                        if keep:
                            txn.commit()
                    finally:
                        txn.abort()
                    return result
            except lmdb.MapFullError:
                self._grow(self.map_bytes * 2)
            except lmdb.MapResizedError:
                self._grow(0)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        if self._pid != os.getpid():
            raise StoreError(
                "use a log in the process that opened it",
                found="a fork of that process",
                remedy="open the log after forking, or start processes by spawning",
                where=str(self.path),
            )
        with self._gate:
            self._gate.wait_for(lambda: not self._growing)
            self._active += 1
        try:
            yield
        finally:
            with self._gate:
                self._active -= 1
                if not self._active:
                    self._gate.notify_all()

    def _grow(self, map_bytes: int) -> None:
        """Sets the size of the map once no transaction of this process runs; 0 takes what another process set."""
        with self._gate:
            if map_bytes and map_bytes <= self.map_bytes:
                return
            self._gate.wait_for(lambda: not self._growing)
            self._growing = True
            self._gate.wait_for(lambda: not self._active)
            try:
                with _clear_errors(self.path):
                    if not map_bytes or map_bytes > self.map_bytes:
                        self._env.set_mapsize(map_bytes)
                    self.map_bytes = int(self._env.info()["map_size"])
            finally:
                self._growing = False
                self._gate.notify_all()

    def used_bytes(self) -> int:
        """Bytes of the file up to its last page in use."""
        info = self._env.info()
        return int((info["last_pgno"] + 1) * self._env.stat()["psize"])

    def clear_stale_readers(self) -> int:
        """Frees the slots of readers whose process died; how many."""
        return int(self._env.reader_check())


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    """Turns what LMDB and the disk raise into errors with a remedy; growth signals pass."""
    try:
        yield
    except (lmdb.MapFullError, lmdb.MapResizedError):
        raise
    except (lmdb.Error, OSError) as error:
        raise _explained(error, path) from error


def _explained(error: Exception, path: Path) -> StoreError:
    text = str(error)
    if isinstance(error, lmdb.DiskError) or any(
        words in text for words in ("No space left", "File too large", "quota", "Input/output")
    ):
        return StoreError(
            "write to the log",
            found=text,
            remedy="free space on the disk; nothing was half written and the log can be read as before",
            where=str(path),
        )
    if isinstance(error, (lmdb.VersionMismatchError, lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError)):
        return StoreError(
            "open the log",
            found=text,
            remedy="the files are damaged or of another program: restore them",
            where=str(path),
        )
    if isinstance(error, lmdb.ReadersFullError):
        return StoreError(
            "read the log",
            found=text,
            remedy=f"at most {_MAX_READERS} reads run at once; close some readers",
            where=str(path),
        )
    return StoreError("use the log", found=text, remedy="see the cause", where=str(path))
