"""The index of event ids: sorted runs of 128-bit hashes, merged as they grow, in the commit that adds them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import lmdb
import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.semantics.versions import UNSEEN_US

__all__ = ["Entries", "IdIndex", "pack_places", "unpack_places"]

_FANOUT: Final = 4
_KEY: Final = struct.Struct(">IQ")
_MANIFEST: Final = 2**64 - 1
_DELETED: Final = 1 << 51
_OFFSET_MASK: Final = _DELETED - 1
_COLUMN_BYTES: Final = 8


def pack_places(
    partitions: NDArray[np.int64], offsets: NDArray[np.int64], deleted: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Where the last version of an id lies, in 64 bits: partition (12), deleted (1), offset (51)."""
    return (partitions << 52) | (deleted.astype(np.int64) << 51) | offsets


def unpack_places(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Partitions, offsets and deleted flags of packed places."""
    return places >> 52, places & _OFFSET_MASK, (places & _DELETED) != 0


@dataclass(frozen=True, slots=True)
class Entries:
    """What is known of ids, sorted by the first half of the hash; all arrays `(n,)`.

    Attributes:
        high: first half of the id's hash.
        low: second half.
        inserted_us: known time of the last accepted insert.
        places: of the last version, packed.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    inserted_us: NDArray[np.int64]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.high)

    def take(self, rows: NDArray[Any]) -> Entries:
        """The entries at `rows`."""
        return Entries(self.high[rows], self.low[rows], self.inserted_us[rows], self.places[rows])

    def to_bytes(self) -> bytes:
        """The columns, one after the other."""
        return b"".join(column.tobytes() for column in (self.high, self.low, self.inserted_us, self.places))

    @classmethod
    def over(cls, data: Any) -> Entries:
        """The entries in a buffer, without copying."""
        n = len(data) // (4 * _COLUMN_BYTES)
        words = np.frombuffer(data, "<u8").reshape(4, n)
        return cls(words[0], words[1], words[2].view(np.int64), words[3].view(np.int64))

    @classmethod
    def merged(cls, newest_first: list[Entries]) -> Entries:
        """One run of several: the newest entry of each id."""
        high = np.concatenate([entries.high for entries in newest_first])
        order = np.argsort(high, kind="stable")
        together = cls(
            high[order],
            np.concatenate([entries.low for entries in newest_first])[order],
            np.concatenate([entries.inserted_us for entries in newest_first])[order],
            np.concatenate([entries.places for entries in newest_first])[order],
        )
        repeated = np.zeros(len(together), np.bool_)
        repeated[1:] = (together.high[1:] == together.high[:-1]) & (together.low[1:] == together.low[:-1])
        return together.take(~repeated) if repeated.any() else together

    def find(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The index of each hash, -1 for none; fastest for sorted hashes."""
        at = np.searchsorted(self.high, high)
        found = np.full(len(high), -1, np.int64)
        asked = np.arange(len(high))
        while len(asked):
            inside = at < len(self)
            at, asked = at[inside], asked[inside]
            same = self.high[at] == high[asked]
            at, asked = at[same], asked[same]
            hit = self.low[at] == low[asked]
            found[asked[hit]] = at[hit]
            at, asked = at[~hit] + 1, asked[~hit]
        return found


class _Run(msgspec.Struct, frozen=True, array_like=True):
    number: int
    n: int

    @property
    def level(self) -> int:
        return max(self.n.bit_length() - 1, 0) // 2


class IdIndex:
    """The ids of one topic within one write transaction.

    Runs are listed from old to new, never of a higher level after a lower one; `_FANOUT` runs of one level become
    one. An id is looked up from the newest run to the oldest.
    """

    def __init__(self, txn: lmdb.Transaction, db: Any, topic: int) -> None:
        self._txn, self._db, self._topic = txn, db, topic
        stored = txn.get(_KEY.pack(topic, _MANIFEST), db=db)
        self._runs: list[_Run] = msgspec.msgpack.decode(stored, type=list[_Run]) if stored is not None else []

    def _entries(self, run: _Run) -> Entries:
        return Entries.over(self._txn.get(_KEY.pack(self._topic, run.number), db=self._db))

    def lookup(
        self, high: NDArray[np.uint64], low: NDArray[np.uint64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """Of each hash: whether it is known, its last accepted insert's known time, its last version's place."""
        known = np.zeros(len(high), np.bool_)
        inserted_us = np.full(len(high), UNSEEN_US, np.int64)
        places = np.zeros(len(high), np.int64)
        asked = np.argsort(high)
        for run in reversed(self._runs):
            if not len(asked):
                break
            entries = self._entries(run)
            at = entries.find(high[asked], low[asked])
            hit = at >= 0
            if hit.any():
                rows = asked[hit]
                known[rows] = True
                inserted_us[rows] = entries.inserted_us[at[hit]]
                places[rows] = entries.places[at[hit]]
                asked = asked[~hit]
        return known, inserted_us, places

    def add(self, entries: Entries, oldest_us: int | None = None) -> None:
        """Adds a run sorted by `high`, each id once, and merges what the list's order asks for.

        Args:
            entries: the newest knowledge of their ids.
            oldest_us: entries inserted before it are forgotten when runs merge; none by default.
        """
        if not len(entries):
            return
        trailing, taken = [entries], 0
        size = len(entries)
        while True:
            level = _Run(0, size).level
            below = [run for run in self._runs[: len(self._runs) - taken] if run.level < level]
            same = [run for run in self._runs[: len(self._runs) - taken] if run.level == level]
            if not below and len(same) < _FANOUT - 1:
                break
            take = below if below else same
            trailing += [self._entries(run) for run in reversed(take)]
            size += sum(run.n for run in take)
            taken += len(take)
        old = self._runs[len(self._runs) - taken :]
        if old:
            entries = Entries.merged(trailing)
            if oldest_us is not None:
                entries = entries.take(entries.inserted_us >= oldest_us)
        number = 1 + max((run.number for run in self._runs), default=-1)
        self._runs = self._runs[: len(self._runs) - taken]
        data = entries.to_bytes()
        for run in old:
            self._txn.delete(_KEY.pack(self._topic, run.number), db=self._db)
        if len(entries):
            self._txn.put(_KEY.pack(self._topic, number), data, db=self._db)
            self._runs.append(_Run(number, len(entries)))
        self._save()

    def rewrite(self, drop: Callable[[Entries], NDArray[np.bool_]]) -> int:
        """Takes entries out of every run; how many."""
        gone, runs = 0, []
        for run in self._runs:
            entries = self._entries(run)
            leave = drop(entries)
            if leave.any():
                gone += int(leave.sum())
                entries = entries.take(~leave)
                data = entries.to_bytes()
                key = _KEY.pack(self._topic, run.number)
                if data:
                    self._txn.put(key, data, db=self._db)
                else:
                    self._txn.delete(key, db=self._db)
            if len(entries):
                runs.append(_Run(run.number, len(entries)))
        self._runs = runs
        self._save()
        return gone

    def _save(self) -> None:
        self._txn.put(_KEY.pack(self._topic, _MANIFEST), msgspec.msgpack.encode(self._runs), db=self._db)
