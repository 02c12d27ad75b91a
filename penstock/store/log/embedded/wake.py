"""Wakes waiting readers of any process after a commit, by a datagram to each reader's socket."""

from __future__ import annotations

import os
import select
import socket
import threading
import uuid
from pathlib import Path

from penstock.errors import StoreError

__all__ = ["Bell", "Listener"]

_SUN_PATH_MAX = 100


class Bell:
    """Rings every listener registered in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._lock = threading.Lock()

    def address(self, name: str) -> str:
        """The address of a socket in the directory, short enough for a socket address wherever the directory is."""
        full = str(self._directory / name)
        return full if len(full.encode()) <= _SUN_PATH_MAX else f"/proc/self/fd/{self._descriptor}/{name}"

    def ring(self) -> None:
        """Wakes all listeners; the sockets of listeners that died are taken away."""
        with self._lock:
            if self._socket.fileno() < 0:
                return
            for name in [entry.name for entry in self._directory.iterdir()]:
                try:
                    self._socket.sendto(b"!", self.address(name))
                except BlockingIOError:
                    continue  # it has rings waiting
                except (ConnectionRefusedError, FileNotFoundError):
                    (self._directory / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the sender."""
        with self._lock:
            if self._socket.fileno() >= 0:
                self._socket.close()
                os.close(self._descriptor)


class Listener:
    """One waiting reader. Arm it by `clear`, look at the log, then `wait`: no ring between is lost."""

    def __init__(self, bell: Bell) -> None:
        self._path = Path(bell.address(f"{os.getpid()}-{uuid.uuid4().hex[:12]}"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(str(self._path))
        except OSError as error:
            self._socket.close()
            raise StoreError(
                "wait for rows of the log",
                found=str(error),
                remedy="the directory of the log must be writable and allow sockets",
                where=str(self._path),
            ) from error

    def clear(self) -> None:
        """Forgets rings heard so far."""
        while True:
            try:
                self._socket.recv(16)
            except BlockingIOError:
                return

    def wait(self, timeout_s: float | None) -> bool:
        """Waits for a ring; whether there was one."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))

    def close(self) -> None:
        """Takes the listener away."""
        self._path.unlink(missing_ok=True)
        self._socket.close()
