"""What worker, template and task process say to each other, over socket pairs of one machine."""

from __future__ import annotations

import socket
import struct
from typing import Any, Final, Literal, TypeAlias

import msgspec

from penstock.workflows.messages import Assignment, FactValue

__all__ = [
    "Died",
    "Finished",
    "Fork",
    "Forked",
    "FromTask",
    "FromTemplate",
    "Job",
    "Known",
    "Moved",
    "Ready",
    "Signal",
    "ToTemplate",
    "decode_from_task",
    "decode_from_template",
    "decode_to_template",
    "encode",
    "receive_job",
    "send_whole",
]


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Fork a process that takes its tasks from the socket that comes along."""


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """Send a signal to a process' group; with `whole`, end it and all its descendants for certain."""

    pid: int
    number: int
    whole: bool = False


class Known(msgspec.Struct, frozen=True):
    """A component that a template has: its version, and what it wants loaded."""

    version: str
    preload: tuple[str, ...]


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """A template is ready to fork. `refused`: modules that must not be loaded before a fork, and why."""

    pid: int
    components: dict[str, Known]
    broken: dict[str, str]
    refused: dict[str, str]


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """The next of the asked-for processes is there; 0 when there was none to be had."""

    pid: int
    error: str = ""


class Died(msgspec.Struct, frozen=True, tag="died"):
    """A process has ended with all its descendants; `status` is an exit code, or minus a signal."""

    pid: int
    status: int


class Job(msgspec.Struct, frozen=True):
    """A task for a process, with its places."""

    assignment: Assignment
    log: str
    work: str
    alone: bool
    """Whether its process may serve no other task."""
    staged: str
    target: str
    """Where the staged folder goes, below the state folder."""


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """Progress of the task."""

    done: float
    total: float | None
    note: str


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The task is over. `again`: its process can serve another; else it ends now, `left` says because of what."""

    outcome: Literal["done", "failed"]
    outputs: dict[str, Any]
    facts: tuple[FactValue, ...]
    error: str
    again: bool
    left: str = ""


ToTemplate: TypeAlias = Fork | Signal
FromTemplate: TypeAlias = Ready | Forked | Died
FromTask: TypeAlias = Moved | Finished

encode: Final = msgspec.msgpack.Encoder().encode
decode_to_template: Final = msgspec.msgpack.Decoder(ToTemplate).decode
decode_from_template: Final = msgspec.msgpack.Decoder(FromTemplate).decode
decode_from_task: Final = msgspec.msgpack.Decoder(FromTask).decode
_decode_job: Final = msgspec.msgpack.Decoder(Job).decode
_LENGTH: Final = struct.Struct("<I")


def send_whole(line: socket.socket, message: Job | FromTask) -> None:
    """Sends a message with its length over a stream socket; waits for room."""
    data = encode(message)
    line.sendall(_LENGTH.pack(len(data)) + data)


def receive_job(line: socket.socket) -> Job | None:
    """Waits for the next job; None at the end of the line."""
    head = _exactly(line, 4)
    data = head and _exactly(line, _LENGTH.unpack(head)[0])
    return _decode_job(data) if data else None


def _exactly(line: socket.socket, n: int) -> bytes:
    data = line.recv(n)
    while data and len(data) < n:
        more = line.recv(n - len(data))
        data = data + more if more else b""
    return data
