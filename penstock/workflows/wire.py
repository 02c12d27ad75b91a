"""Frames of the hub: a length and a message as msgspec data. Nothing that comes over a line is ever run."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec

from penstock.errors import WorkflowError
from penstock.workflows.messages import (
    Acknowledged,
    Attach,
    Beat,
    Command,
    CommandDone,
    Detached,
    Ended,
    Granted,
    Hello,
    Kill,
    Progress,
    Refused,
    Report,
    Start,
    Started,
    Watch,
    Welcome,
)

__all__ = ["LARGEST", "Frames", "Knock", "Message", "Opened", "Role", "pack"]

LARGEST: Final = 16 << 20
"""Bytes of the largest message; what is larger is an artifact."""

Role: TypeAlias = Literal["worker", "stream"]


class Knock(msgspec.Struct, frozen=True, tag="knock"):
    """The first message of a line: who comes, and the token that lets it in."""

    role: Role
    name: str
    token: str


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The answer to a knock; a wrong token is answered by silence."""


Message: TypeAlias = (
    Knock | Opened | Hello | Welcome | Start | Kill | Beat | Started | Progress | Ended | Acknowledged
    | Attach | Granted | Refused | Watch | Command | CommandDone | Report | Detached
)  # fmt: skip

_LENGTH: Final = struct.Struct("<I")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Message).decode


def pack(messages: Iterable[Message]) -> bytes:
    """Messages as frames.

    Raises:
        WorkflowError: a message is larger than a frame may be.
    """
    parts: list[bytes] = []
    for message in messages:
        data = _encode(message)
        if len(data) > LARGEST:
            raise WorkflowError(
                f"a message of at most {LARGEST >> 20} MiB",
                found=f"{type(message).__name__} of {len(data):,} bytes",
                remedy="hand over large values as a file or a table",
            )
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


class Frames:
    """Takes bytes as they come and gives whole messages."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._held = bytearray()
        self.largest = largest

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole now.

        Raises:
            WorkflowError: these are not frames of this protocol.
        """
        held = self._held
        held += data
        found: list[Message] = []
        at = 0
        while len(held) - at >= 4:
            (size,) = _LENGTH.unpack_from(held, at)
            if size > self.largest:
                raise WorkflowError("a frame of the hub", found=f"one of {size:,} bytes")
            if len(held) - at - 4 < size:
                break
            try:
                found.append(_decode(memoryview(held)[at + 4 : at + 4 + size]))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise WorkflowError("a message of the hub", found=str(error)) from error
            at += 4 + size
        if at:
            del held[:at]
        return found
