"""The near end of a line to the hub: what a worker and a stream process hold. It comes again when the line breaks."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from penstock.errors import WorkflowError
from penstock.workflows.wire import Frames, Knock, Message, Opened, Role, pack

__all__ = ["HUB_FILE", "HubAddress", "Line", "read_address"]

HUB_FILE: Final = "hub.json"
_CONNECT_S: Final = 2.0
_SLOWEST_S: Final = 1.0


class HubAddress(msgspec.Struct, frozen=True):
    """Where the hub listens, and its token; a file that only the owner reads."""

    host: str
    port: int
    token: str


def read_address(run: Path) -> HubAddress | None:
    """The hub's address as written in the folder `run`, or None where none is (yet)."""
    try:
        return msgspec.json.decode((run / HUB_FILE).read_bytes(), type=HubAddress)
    except (OSError, msgspec.DecodeError):
        return None


class Line:
    """A line to the hub. Not for several threads.

    Args:
        run: the folder with `hub.json`; it is read anew at every attempt, for a new server has a new address.
        role, name: who comes.
    """

    def __init__(self, run: Path, role: Role, name: str) -> None:
        self._run, self._role, self._name = run, role, name
        self._socket: socket.socket | None = None
        self._frames = Frames()
        self._out = bytearray()
        self._next_s, self._wait_s = 0.0, 0.02

    @property
    def is_open(self) -> bool:
        """Whether the hub let us in, as far as is known."""
        return self._socket is not None

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for room."""
        return bool(self._out)

    def fileno(self) -> int:
        """The socket's descriptor, for a selector; -1 while the line is broken."""
        return -1 if self._socket is None else self._socket.fileno()

    def due_s(self) -> float:
        """Seconds until `open` is worth another try."""
        return max(0.0, self._next_s - time.monotonic())

    def open(self) -> bool:
        """Tries to connect when a try is due; whether the line is open now. Waits 2 s at most."""
        if self._socket is not None:
            return True
        if self.due_s() > 0:
            return False
        self._wait_s = min(self._wait_s * 1.5, _SLOWEST_S)
        self._next_s = time.monotonic() + random.uniform(self._wait_s / 2, self._wait_s)  # noqa: S311  no secret
        address = read_address(self._run)
        if address is None:
            return False
        try:
            line = socket.create_connection((address.host, address.port), timeout=_CONNECT_S)
        except OSError:
            return False
        try:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.sendall(pack([Knock(self._role, self._name, address.token)]))
            opened = pack([Opened()])
            got = b""
            while len(got) < len(opened):
                data = line.recv(len(opened) - len(got))
                if not data:
                    raise OSError("the hub closed the line")
                got += data
            if got != opened:
                raise OSError("this is not the hub")
        except OSError:
            line.close()
            return False
        line.setblocking(False)
        self._socket, self._frames, self._out = line, Frames(), bytearray()
        self._wait_s, self._next_s = 0.02, 0.0
        return True

    def send(self, messages: Iterable[Message]) -> bool:
        """Sends, or keeps what finds no room for the next `flush`; False when the line is broken (then all is lost)."""
        if self._socket is None:
            return False
        self._out += pack(messages)
        return self.flush()

    def flush(self) -> bool:
        """Sends what waits, as far as there is room; False when the line is broken."""
        if self._socket is None:
            return False
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                return True
            except OSError:
                self.close()
                return False
            del self._out[:sent]
        return True

    def receive(self) -> list[Message]:
        """What has come; nothing waits. The line is closed when it broke."""
        found: list[Message] = []
        while self._socket is not None:
            try:
                data = self._socket.recv(1 << 18)
                if not data:
                    raise OSError("closed")
                found += self._frames.feed(data)
            except BlockingIOError:
                break
            except (OSError, WorkflowError):
                self.close()
            else:
                if len(data) < 1 << 18:
                    break
        return found

    def wait(self, timeout_s: float) -> None:
        """Sleeps until something comes, room is made for what waits, or so long; tries to open a broken line."""
        if self._socket is None:
            time.sleep(min(timeout_s, self.due_s()))
            self.open()
            return
        select.select([self], [self] if self._out else [], [], timeout_s)
        self.flush()

    def close(self) -> None:
        """Lets go of the line; `open` makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._out = bytearray()
