"""What the log remembers of each producer: its epoch, its last sequence, and its last results."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any, Final

import lmdb
import msgspec

from penstock.errors import StoreError
from penstock.store.log.interface import AppendResult

__all__ = ["Producer", "producer_key"]

_RESULTS_KEPT: Final = 8
_NUMBER: Final = struct.Struct(">I")
_MAX_NAME_BYTES: Final = 400


def producer_key(topic: int, name: str) -> bytes:
    """The key of a producer of a topic.

    Raises:
        StoreError: the name is empty or too long.
    """
    data = name.encode()
    if not 1 <= len(data) <= _MAX_NAME_BYTES:
        raise StoreError(
            f"a producer id has 1 to {_MAX_NAME_BYTES} bytes", found=repr(name[:80]), remedy="shorten the producer id"
        )
    return _NUMBER.pack(topic) + data


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    epoch: int
    sequence: int
    results: tuple[tuple[int, AppendResult], ...]


@dataclass(slots=True)
class Producer:
    """A producer of one topic within one write transaction.

    Attributes:
        admitted: by sequence, the index of an append admitted in this commit whose result is not known yet.
    """

    name: str
    epoch: int = 0
    sequence: int = -1
    results: dict[int, AppendResult] = field(default_factory=dict)
    admitted: dict[int, int] = field(default_factory=dict)

    @classmethod
    def load(cls, txn: lmdb.Transaction, db: Any, topic: int, name: str) -> Producer:
        """The producer as stored, or a new one."""
        data = txn.get(producer_key(topic, name), db=db)
        if data is None:
            return cls(name)
        stored = msgspec.msgpack.decode(data, type=_Stored)
        return cls(name, stored.epoch, stored.sequence, dict(stored.results))

    def save(self, txn: lmdb.Transaction, db: Any, topic: int) -> None:
        """Stores the epoch, the last sequence and the last results."""
        kept = sorted(self.results.items())[-_RESULTS_KEPT:]
        stored = _Stored(self.epoch, self.sequence, tuple(kept))
        txn.put(producer_key(topic, self.name), msgspec.msgpack.encode(stored), db=db)

    def admit(self, sequence: int, epoch: int, index: int, where: str) -> AppendResult | int | None:
        """Judges an append: None lets it in under `index`; an earlier one gives its result, or its index.

        Raises:
            StoreError: an older epoch, a gap in the sequence, or a repeat whose result is no longer kept.
        """
        if epoch < self.epoch:
            raise StoreError(
                f"append as {self.name} of epoch {epoch}",
                found=f"epoch {self.epoch} has appended",
                remedy="another process took over this producer: stop",
                where=where,
            )
        if sequence in self.admitted:
            return self.admitted[sequence]
        if sequence in self.results:
            return replace(self.results[sequence], repeated=True)
        if sequence <= self.sequence:
            raise StoreError(
                f"append sequence {sequence} of {self.name} again",
                found=f"it was stored, but results are kept from {min(self.results, default=self.sequence)} on",
                remedy=f"go on with sequence {self.sequence + 1}",
                where=where,
            )
        if sequence != self.sequence + 1:
            raise StoreError(
                f"append sequence {sequence} of {self.name}",
                found=f"the last one stored is {self.sequence}",
                remedy=f"go on with sequence {self.sequence + 1}; what lies between was not stored",
                where=where,
            )
        self.epoch, self.sequence = epoch, sequence
        self.admitted[sequence] = index
        return None
