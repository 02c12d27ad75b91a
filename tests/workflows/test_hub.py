from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.errors import WorkflowError
from penstock.workflows.hub import Hub, Peer
from penstock.workflows.line import Line, read_address
from penstock.workflows.messages import Beat, Ended, TaskRef, Welcome
from penstock.workflows.wire import LARGEST, Frames, Knock, Message, Opened, pack


class Told:
    """A hub's receiver that can be waited for."""

    def __init__(self, hub: Hub) -> None:
        self.messages: list[Beat] = []
        self.gone: list[str] = []
        self._changed = threading.Condition()
        hub.route(Beat, self._take)
        hub.notice(gone=self._lost)

    def wait(self, n: int) -> list[Beat]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.messages) >= n, 10)
        return self.messages

    def wait_gone(self) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: self.gone, 10)
        return self.gone

    def _take(self, peer: Peer, message: Beat) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()
        peer.send([Welcome(peer.name, 7)])

    def _lost(self, peer: Peer) -> None:
        with self._changed:
            self.gone.append(peer.name)
            self._changed.notify_all()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    opened = Hub(tmp_path / "run")
    yield opened
    opened.close()


def test_messages_go_both_ways_whatever_their_size(hub: Hub, tmp_path: Path) -> None:
    told = Told(hub)
    hub.open()
    line = Line(tmp_path / "run", "worker", "w")
    assert line.open()
    many = tuple(TaskRef("n" * 50, i, i) for i in range(50_000))
    for _ in range(3):
        assert line.send([Beat("w", many), Beat("w", ())])
        while line.wants_write:
            line.wait(1.0)
    assert [len(m.running) for m in told.wait(6)] == [50_000, 0] * 3
    answers: list[object] = []
    while len(answers) < 6:
        line.wait(1.0)
        answers += line.receive()
    assert answers == [Welcome("w", 7)] * 6
    line.close()
    assert told.wait_gone() == ["w"]


def test_only_the_token_opens_and_only_its_owner_reads_it(hub: Hub, tmp_path: Path) -> None:
    address = hub.open()
    assert (tmp_path / "run" / "hub.json").stat().st_mode & 0o777 == 0o600
    assert read_address(tmp_path / "run") == address
    bad: list[bytes] = [
        pack([Knock("worker", "w", "guess")]),
        pack([Knock("worker", "", address.token)]),
        pack([Beat("w", ())]),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xff\xff\xff\x00" + b"x" * 5000,
    ]
    for data in bad:
        with socket.create_connection((address.host, address.port), timeout=10) as line:
            line.sendall(data)
            with contextlib.suppress(ConnectionResetError):
                assert line.recv(100) == b""
    assert hub.peers("worker") == []


def test_a_name_that_comes_again_replaces_its_older_line(hub: Hub, tmp_path: Path) -> None:
    hub.open()
    first, second = (Line(tmp_path / "run", "stream", "s") for _ in range(2))
    assert first.open()
    assert second.open()
    first.wait(5.0)
    assert first.receive() == []
    assert not first.is_open
    peer = hub.peer("stream", "s")
    assert peer is not None
    assert peer.send([Welcome("s", 1)])
    second.wait(5.0)
    assert second.receive() == [Welcome("s", 1)]
    second.close()


def test_a_line_finds_the_next_hub(tmp_path: Path) -> None:
    line = Line(tmp_path / "run", "worker", "w")
    assert not line.open()
    for _ in range(2):
        hub = Hub(tmp_path / "run")
        hub.open()
        while not line.is_open:
            line.wait(0.5)
        hub.close()
        while line.is_open:
            line.wait(0.5)
            line.receive()
    line.close()


def test_a_kind_has_one_receiver(hub: Hub) -> None:
    Told(hub)
    with pytest.raises(WorkflowError, match="one receiver of Beat"):
        Told(hub)


def test_frames_come_whole_from_any_pieces() -> None:
    messages: list[Message] = [Opened(), Ended("w", TaskRef("r/n", 1, 2), "done", {"a": [1, None, "x"]}), Beat("w", ())]
    data = pack(messages)
    for size in (1, 2, 3, 7, len(data)):
        frames = Frames()
        assert [m for i in range(0, len(data), size) for m in frames.feed(data[i : i + size])] == messages


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(WorkflowError, match="frame"):
        Frames().feed(b"\xff\xff\xff\xff")
    for data in (msgspec.msgpack.encode({"type": "beat"}), msgspec.msgpack.encode({"type": "run_code"}), b"\xc1"):
        with pytest.raises(WorkflowError, match="message"):
            Frames().feed(len(data).to_bytes(4, "little") + data)
    with pytest.raises(WorkflowError, match="16 MiB"):
        pack([Ended("w", TaskRef("r/n", 1, 1), "done", {"a": "x" * LARGEST})])
