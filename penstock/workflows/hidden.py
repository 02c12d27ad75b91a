"""Keeps secrets out of a process's log: from the first secret on, output passes through a filter."""

from __future__ import annotations

import os
import sys
import threading
from typing import Final

__all__ = ["Hidden"]

_STRUCK: Final = b"***"
_SHORTEST: Final = 4
_LONGEST_LINE: Final = 1 << 16
_JOIN_S: Final = 5.0


class Hidden:
    """Strikes texts out of whatever this process, and what it starts, writes to standard output and error.

    Until `hide` is called nothing is changed and nothing is spent. Lines are held until they are whole (or 64 KiB), so
    that a secret is found however it was written. A secret of fewer than four characters is not struck out.
    """

    def __init__(self) -> None:
        self._texts: list[bytes] = []
        self._thread: threading.Thread | None = None
        self._log = self._write = -1

    def hide(self, secret: str) -> None:
        """Strikes a secret out from now on; each line of one that has several."""
        lines = [line.encode() for line in secret.splitlines() if len(line) >= _SHORTEST]
        self._texts = sorted({*self._texts, *lines}, key=len, reverse=True)
        if self._texts and self._thread is None:
            self._begin()

    def clean(self, text: str) -> str:
        """A text without the secrets that were read so far."""
        return self._struck(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")

    def close(self) -> None:
        """Writes what is held and lets output go to the log as before."""
        if self._thread is None:
            return
        self._flush()
        for fd in (1, 2):
            os.dup2(self._log, fd)
        os.close(self._write)
        self._thread.join(_JOIN_S)  # a process that was left behind may still hold the other end
        self._thread = None

    def _begin(self) -> None:
        self._flush()
        read, self._write = os.pipe2(os.O_CLOEXEC)
        self._log = os.dup(1)
        for fd in (1, 2):
            os.dup2(self._write, fd)
        self._thread = threading.Thread(target=self._filter, args=(read, self._log), name="penstock-log", daemon=True)
        self._thread.start()

    def _filter(self, read: int, log: int) -> None:
        held = b""
        while data := os.read(read, 65_536):
            *lines, held = (held + data).split(b"\n")
            out = b"".join(line + b"\n" for line in lines)
            if len(held) > _LONGEST_LINE:
                out, held = out + held, b""
            if out:
                _write(log, self._struck(out))
        _write(log, self._struck(held))
        os.close(read)
        os.close(log)

    def _struck(self, data: bytes) -> bytes:
        for text in self._texts:
            data = data.replace(text, _STRUCK)
        return data

    @staticmethod
    def _flush() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
