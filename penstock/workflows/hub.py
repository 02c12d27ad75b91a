"""The hub: one socket of the server, on loopback, for workers and stream processes.

A line begins with a knock that shows the token of `hub.json`. Then messages go both ways; each kind has one receiver in
this process, called from the hub's thread. A name that knocks again replaces its older line.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.errors import WorkflowError
from penstock.workflows.line import HUB_FILE, HubAddress
from penstock.workflows.wire import LARGEST, Frames, Knock, Message, Opened, Role, pack

__all__ = ["Hub", "Peer"]

_KNOCK_BYTES: Final = 4096
_KNOCK_S: Final = 5.0
_MOST_WAITING: Final = 4 * LARGEST


class Peer:
    """The far end of a line: a worker or a stream process."""

    def __init__(self, hub: Hub, line: socket.socket) -> None:
        self.role: Role = "stream"
        self.name = ""
        self._hub, self._line = hub, line
        self._frames = Frames(_KNOCK_BYTES)
        self._out = bytearray()
        self._lock = threading.Lock()
        self._came_s = time.monotonic()
        self._is_open = True

    def __repr__(self) -> str:
        return f"<{self.role} {self.name!r}>"

    @property
    def is_open(self) -> bool:
        """Whether the line stands, as far as is known."""
        return self._is_open

    def send(self, messages: Iterable[Message]) -> bool:
        """Sends, from any thread and without waiting; False when the line is broken."""
        data = pack(messages)
        with self._lock:
            if not self._is_open:
                return False
            if not self._out:
                data = data[self._push(data) :]
            if data and self._is_open:
                self._out += data
                if len(self._out) > _MOST_WAITING:
                    self._is_open = False  # it does not read; it must come again
                self._hub.wake()
            return self._is_open

    def close(self) -> None:
        """Ends the line; the peer may come again."""
        with self._lock:
            self._is_open = False
        self._hub.wake()

    def _push(self, data: bytes | bytearray) -> int:
        """Bytes that found room."""
        try:
            return self._line.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._is_open = False
            self._hub.wake()
            return len(data)


class Hub:
    """Listens on loopback and routes messages.

    Args:
        run: the folder in which `hub.json` tells peers where to come.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._token = secrets.token_urlsafe(32)
        self._receivers: dict[type[Any], Callable[[Peer, Any], None]] = {}
        self._came: list[Callable[[Peer], None]] = []
        self._gone: list[Callable[[Peer], None]] = []
        self._peers: dict[int, Peer] = {}
        self._named: dict[tuple[Role, str], Peer] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._server: socket.socket | None = None

    def route(self, kind: type[Any], receive: Callable[[Peer, Any], None]) -> None:
        """Sets who receives messages of a kind. Called from the hub's thread; must not wait.

        Raises:
            WorkflowError: the kind has a receiver.
        """
        if kind in self._receivers:
            raise WorkflowError(f"one receiver of {kind.__name__}", found="two", remedy="route each kind once")
        self._receivers[kind] = receive

    def notice(self, came: Callable[[Peer], None] | None = None, gone: Callable[[Peer], None] | None = None) -> None:
        """Sets who is told, from the hub's thread, that a peer was let in, or that its line broke."""
        if came is not None:
            self._came.append(came)
        if gone is not None:
            self._gone.append(gone)

    def open(self) -> HubAddress:
        """Begins to listen and writes `hub.json` (mode 0600).

        Raises:
            OSError: there is no socket to be had, or the folder cannot be written.
        """
        server = socket.create_server(("127.0.0.1", 0), backlog=64)
        server.setblocking(False)
        self._server = server
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        address = HubAddress("127.0.0.1", server.getsockname()[1], self._token)
        self._run.mkdir(parents=True, exist_ok=True)
        part = self._run / f".{HUB_FILE}.{os.getpid()}"
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(address))
        part.replace(self._run / HUB_FILE)
        self._thread = threading.Thread(target=self._serve, name="penstock-hub", daemon=True)
        self._thread.start()
        return address

    def peer(self, role: Role, name: str) -> Peer | None:
        """The peer of that name, while its line stands."""
        return self._named.get((role, name))

    def peers(self, role: Role) -> list[Peer]:
        """All peers of a role."""
        return [p for (r, _), p in list(self._named.items()) if r == role]

    def wake(self) -> None:
        """Makes the hub's thread look again."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it is over
            self._wake_in.send(b"x")

    def close(self) -> None:
        """Ends all lines; peers try again until another hub is there."""
        self._closing = True
        self.wake()
        if self._thread is not None:
            self._thread.join()
        for peer in list(self._peers.values()):
            self._drop(peer)
        for thing in (self._server, self._wake_in, self._wake_out, self._selector):
            if thing is not None:
                thing.close()

    def _serve(self) -> None:
        while not self._closing:
            for key, events in self._selector.select(1.0):
                if key.fileobj is self._server:
                    self._accept()
                elif key.fileobj is self._wake_out:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_out.recv(4096)
                elif (peer := self._peers.get(key.fd)) is not None:
                    if events & selectors.EVENT_READ:
                        self._read(peer)
                    if events & selectors.EVENT_WRITE:
                        self._write(peer)
            self._tidy()

    def _accept(self) -> None:
        assert self._server is not None
        try:
            line, _ = self._server.accept()
        except OSError:
            return
        line.setblocking(False)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peers[line.fileno()] = Peer(self, line)
        self._selector.register(line, selectors.EVENT_READ)

    def _tidy(self) -> None:
        """Drops broken lines and strangers, and watches for room where bytes wait."""
        now_s = time.monotonic()
        for peer in list(self._peers.values()):
            if not peer._is_open or (not peer.name and now_s - peer._came_s > _KNOCK_S):
                self._drop(peer)
            elif peer._out:
                self._selector.modify(peer._line, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer._line.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        try:
            for message in peer._frames.feed(data):
                if not peer.name:
                    self._admit(peer, message)
                elif (receive := self._receivers.get(type(message))) is not None:
                    receive(peer, message)
        except WorkflowError:  # not our protocol, or not our token
            self._drop(peer)
        except Exception:  # noqa: BLE001  edge of the thread: a receiver that fails must not end everybody's hub
            traceback.print_exc(file=sys.stderr)
            self._drop(peer)

    def _admit(self, peer: Peer, message: Message) -> None:
        if not isinstance(message, Knock) or not hmac.compare_digest(message.token.encode(), self._token.encode()):
            raise WorkflowError("a knock with the hub's token", found=type(message).__name__)
        if not message.name:
            raise WorkflowError("a name", found="none")
        older = self._named.get((message.role, message.name))
        if older is not None:
            self._drop(older)
        peer.role, peer.name = message.role, message.name
        peer._frames.largest = LARGEST
        with peer._lock:  # who finds the peer cannot send before our answer; who has our answer is found
            self._named[peer.role, peer.name] = peer
            peer._push(pack([Opened()]))
        for came in self._came:
            came(peer)

    def _write(self, peer: Peer) -> None:
        with peer._lock:
            sent = peer._push(peer._out)
            del peer._out[:sent]
            if not peer._out and peer._is_open:
                self._selector.modify(peer._line, selectors.EVENT_READ)

    def _drop(self, peer: Peer) -> None:
        if self._peers.pop(peer._line.fileno(), None) is None:
            return
        with peer._lock:
            peer._is_open = False
            self._selector.unregister(peer._line)
            peer._line.close()
        if peer.name and self._named.get((peer.role, peer.name)) is peer:
            del self._named[peer.role, peer.name]
            for gone in self._gone:
                gone(peer)
