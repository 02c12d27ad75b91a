"""Keeps secrets out of logs: from its first secret on, a task's output goes through a process that strikes them out.

That process is a child of the template, so that it outlives the task, however that ends, and brings its last words to
the log. (`workflows/hidden.py` does the same with a thread, for processes that have no template.)
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Iterable
from typing import Final

__all__ = ["STRUCK", "Veil", "filter_log", "strike"]

STRUCK: Final = b"***"
SHORTEST: Final = 4
_CHUNK: Final = 1 << 16


def strike(text: bytes, secrets: Iterable[bytes]) -> bytes:
    """A text without secrets.

    >>> strike(b"token=abcd; ab", [b"ab", b"abcd"])
    b'token=***; ***'
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, STRUCK)
    return text


class Veil:
    """The secrets of one task.

    Args:
        ask: a socket to the template.
    """

    def __init__(self, ask: socket.socket) -> None:
        self._ask = ask
        self._filter: socket.socket | None = None
        self._secrets: list[bytes] = []

    @property
    def is_used(self) -> bool:
        """Whether the task knows a secret."""
        return bool(self._secrets)

    def hide(self, secret: str) -> None:
        """Strikes a text of four characters or more, and each such line of it, out of what is written from now on."""
        lines = {line.encode() for line in (secret, *secret.splitlines()) if len(line) >= SHORTEST}
        for line in lines - set(self._secrets):
            if self._filter is None:
                self._filter = self._start()
            self._secrets.append(line)
            self._filter.send(line)
            self._filter.recv(1)

    def clean(self, text: str) -> str:
        """A text without the secrets."""
        return strike(text.encode(), self._secrets).decode(errors="replace") if self._secrets else text

    def _start(self) -> socket.socket:
        """Puts the filter between us and the log."""
        read, write = os.pipe()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self._ask, [str(os.getpid()).encode()], [read, far.fileno(), 1])
        os.close(read)
        far.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        return near


def filter_log(source: int, control: int, log: int) -> None:
    """Copies what comes to the log, without the secrets that `control` tells; until nobody is left who writes."""
    told: socket.socket | None = socket.socket(fileno=control)
    secrets: list[bytes] = []
    held = b""
    while True:
        ready, _, _ = select.select([source] if told is None else [source, told.fileno()], [], [])
        if told is not None and told.fileno() in ready:
            secret = told.recv(1 << 18)
            if secret:
                secrets.append(secret)
                told.send(b"k")
            else:
                told.close()
                told = None
        if source in ready:
            data = os.read(source, _CHUNK)
            held = strike(held + data, secrets)
            keep = _begun(held, secrets) if data else 0
            _write(log, held[: len(held) - keep])
            held = held[len(held) - keep :]
            if not data:
                return


def _begun(text: bytes, secrets: list[bytes]) -> int:
    """How many of the last bytes may be the beginning of a secret."""
    longest = max(map(len, secrets), default=1) - 1
    for n in range(min(longest, len(text)), 0, -1):
        if any(secret.startswith(text[-n:]) for secret in secrets):
            return n
    return 0


def _write(log: int, data: bytes) -> None:
    while data:
        data = data[os.write(log, data) :]
