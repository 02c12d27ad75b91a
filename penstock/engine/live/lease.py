"""The lease of a state directory: one process at a time, with an epoch that rises from one to the next."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from penstock.engine.live.durable import replace_file
from penstock.errors import EngineError, StoreError

__all__ = ["Lease"]


class Lease:
    """Holds a state directory until closed or the process ends.

    Attributes:
        epoch: greater than that of every former holder; the log refuses appends of a lesser one.

    Raises:
        EngineError: another process holds the directory.
        StoreError: the epoch's file is unreadable.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "epoch"
        self._fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 20, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise EngineError(
                "a state directory is used by one process at a time",
                found=f"process {holder or 'unknown'} holds it",
                remedy="stop that process, or give this job another state directory",
                where=str(directory),
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        self.epoch = self._former()
        self.renew()

    def renew(self) -> None:
        """Raises the epoch: what this process began before is over, as another holder's would be."""
        self.epoch += 1
        replace_file(self._path, f"{self.epoch}\n".encode())

    def _former(self) -> int:
        if not self._path.exists():
            return 0
        text = self._path.read_text()
        if not text.strip().isdigit():
            raise StoreError(
                "the file `epoch` holds a number",
                found=repr(text[:40]),
                remedy="remove the state directory and start warm",
                where=str(self._path),
            )
        return int(text)

    def check(self) -> None:
        """Whether the lease still stands: a moved or copied directory may have been taken by another process.

        Raises:
            EngineError: another holder has raised the epoch.
        """
        if self._former() != self.epoch:
            raise EngineError(
                "the lease of the state directory is lost",
                found=f"epoch {self._former()}, mine is {self.epoch}",
                remedy="stop this process",
                where=str(self._path.parent),
            )

    def close(self) -> None:
        """Lets go of the directory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
