"""The index of event ids: sorted runs of 128-bit hashes, each with a filter, kept in the log's own commits.

A commit adds one small run; runs of like size merge until they hold 65,536 ids, so no commit merges more than some
hundred thousand. Runs stay in the order of time: one whose ids are all too old to matter is dropped whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

import lmdb
import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.semantics.versions import UNSEEN_US

__all__ = ["Entries", "IdIndex", "pack_places", "unpack_places"]

_FANOUT: Final = 4
_SEALED: Final = 1 << 16
_SEALED_LEVEL: Final = 99
_FILTERED: Final = 1 << 12
_FILTER_BITS: Final = 12
_KEY: Final = struct.Struct(">IQ")
_FILTER: Final = b"f"
_MANIFEST: Final = 2**64 - 1
_DELETED: Final = 1 << 51
_OFFSET_MASK: Final = _DELETED - 1

_ONE: Final = np.uint64(1)
_HALF: Final = np.uint64(32)


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
        versioned_us: known time of the last accepted version.
        places: of the last version, packed.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    inserted_us: NDArray[np.int64]
    versioned_us: NDArray[np.int64]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.high)

    def columns(self) -> list[NDArray[Any]]:
        """The five columns."""
        return [getattr(self, field.name) for field in fields(self)]

    def take(self, rows: NDArray[Any]) -> Entries:
        """The entries at `rows`."""
        return Entries(*(column[rows] for column in self.columns()))

    def to_bytes(self) -> bytes:
        """The columns, one after the other."""
        return b"".join(column.tobytes() for column in self.columns())

    @classmethod
    def over(cls, data: Any, n: int) -> Entries:
        """The `n` entries in a buffer, without copying."""
        words = np.frombuffer(data, "<u8").reshape(5, n)
        return cls(words[0], words[1], *(word.view(np.int64) for word in words[2:]))

    @classmethod
    def merged(cls, newest_first: list[Entries]) -> Entries:
        """One run of several: the newest entry of each id."""
        columns = [np.concatenate(parts) for parts in zip(*(one.columns() for one in newest_first), strict=True)]
        together = cls(*columns).take(np.argsort(columns[0], kind="stable"))
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


def _filter_words(n: int) -> int:
    """Words of the filter of a run: a power of two, 12 bits an id or more; none for a small run."""
    return 1 << (n * _FILTER_BITS // 64).bit_length() if n >= _FILTERED else 0


def _filter_of(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A blocked Bloom filter: each id sets four bits of one word (Putze, Sanders and Singler, 2007)."""
    words = np.zeros(_filter_words(len(high)), np.uint64)
    if len(words):
        np.bitwise_or.at(words, _word(high, len(words)), _mask(low))
    return words


def _word(high: NDArray[np.uint64], n_words: int) -> NDArray[np.int64]:
    """The word of each id: the first bits of its hash."""
    return (high >> np.uint64(65 - n_words.bit_length())).astype(np.int64)


def _mask(low: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = np.zeros(len(low), np.uint64)
    for shift in (0, 6, 12, 18):
        mask |= _ONE << ((low >> np.uint64(shift)) & np.uint64(63))
    return mask


class _Asked:
    """The rows still looked for, in the order of their hashes, with what the filters need of them."""

    def __init__(
        self, high: NDArray[np.uint64], low: NDArray[np.uint64], rows: NDArray[np.int64] | None = None
    ) -> None:
        self._high, self._low = high, low
        self.rows = np.argsort(high) if rows is None else rows
        self._mask = _mask(low[self.rows])
        self._words: dict[int, NDArray[np.int64]] = {}

    def maybe(self, held_by: Any) -> NDArray[np.int64]:
        """The rows that a run with this filter may hold."""
        filter_words = np.frombuffer(held_by, np.uint64)
        n_words = len(filter_words)
        if n_words not in self._words:
            self._words[n_words] = _word(self._high[self.rows], n_words)
        held = filter_words[self._words[n_words]]
        rows: NDArray[np.int64] = self.rows[(held & self._mask) == self._mask]
        return rows

    def without(self, found: NDArray[np.int64]) -> _Asked:
        """The others."""
        left = np.ones(len(self._high), np.bool_)
        left[found] = False
        return _Asked(self._high, self._low, self.rows[left[self.rows]])


class _Run(msgspec.Struct, frozen=True, array_like=True):
    """A run: its number, how many ids, and the greatest known time among them."""

    number: int
    n: int
    newest_us: int

    @property
    def level(self) -> int:
        return _level(self.n)


def _level(n: int) -> int:
    return _SEALED_LEVEL if n >= _SEALED else max(n.bit_length() - 1, 0) // 2


class IdIndex:
    """The ids of one topic within one write transaction.

    Runs are listed from old to new, never of a higher level after a lower one; `_FANOUT` runs of one level become
    one. An id is looked up from the newest run to the oldest.
    """

    def __init__(self, txn: lmdb.Transaction, db: Any, topic: int) -> None:
        self._txn, self._db, self._topic = txn, db, topic
        stored = txn.get(_KEY.pack(topic, _MANIFEST), db=db)
        self._runs: list[_Run] = msgspec.msgpack.decode(stored, type=list[_Run]) if stored is not None else []

    def _key(self, number: int) -> bytes:
        return _KEY.pack(self._topic, number)

    def _data(self, run: _Run) -> Any:
        # py-lmdb touches every page of a value it gets: hence the filter stands by itself.
        return self._txn.get(self._key(run.number), db=self._db)

    def _put(self, number: int, entries: Entries) -> None:
        self._txn.put(self._key(number), entries.to_bytes(), db=self._db)
        words = _filter_of(entries.high, entries.low)
        if len(words):
            self._txn.put(self._key(number) + _FILTER, words.tobytes(), db=self._db)
        else:
            self._txn.delete(self._key(number) + _FILTER, db=self._db)

    def lookup(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> Entries:
        """What is known of each hash, in the order asked; `UNSEEN_US` and place 0 where nothing is."""
        n = len(high)
        unseen = np.full(n, UNSEEN_US, np.int64)
        known = Entries(high, low, unseen, unseen.copy(), np.zeros(n, np.int64))
        asked = _Asked(high, low)
        for run in reversed(self._runs):
            if not len(asked.rows):
                break
            maybe = asked.rows
            if run.n >= _FILTERED:
                maybe = asked.maybe(self._txn.get(self._key(run.number) + _FILTER, db=self._db))
                if not len(maybe):
                    continue
            entries = Entries.over(self._data(run), run.n)
            at = entries.find(high[maybe], low[maybe])
            hit = at >= 0
            if hit.any():
                rows, at = maybe[hit], at[hit]
                known.inserted_us[rows] = entries.inserted_us[at]
                known.versioned_us[rows] = entries.versioned_us[at]
                known.places[rows] = entries.places[at]
                asked = asked.without(rows)
        return known

    def add(self, entries: Entries, oldest_us: int | None = None) -> None:
        """Adds a run sorted by `high`, each id once, and merges what the list's order asks for.

        Args:
            entries: the newest knowledge of their ids.
            oldest_us: ids without a version since then no longer matter; by default all do.
        """
        if not len(entries):
            return
        if oldest_us is not None:
            for run in [run for run in self._runs if run.newest_us < oldest_us]:
                self._drop(run)
        old = self._to_merge(len(entries))
        if old:
            parts = [entries, *(Entries.over(self._data(run), run.n) for run in reversed(old))]
            entries = Entries.merged(parts)
            if oldest_us is not None:
                entries = entries.take(entries.versioned_us >= oldest_us)
        number = 1 + max((run.number for run in self._runs), default=-1)
        # Merged entries are copies; without a merge they are the caller's own.
        for run in old:
            self._drop(run)
        if len(entries):
            self._put(number, entries)
            self._runs.append(_Run(number, len(entries), int(entries.versioned_us.max())))
        self._save()

    def _to_merge(self, size: int) -> list[_Run]:
        """The newest runs that become one with a new run of a size, from old to new."""
        taken = 0
        while (level := _level(size)) is not None:
            left = self._runs[: len(self._runs) - taken]
            below = [run for run in left if run.level < level]
            same = [run for run in left if run.level == level]
            if below:
                take = below
            elif level != _SEALED_LEVEL and len(same) >= _FANOUT - 1:
                take = same
            else:
                break
            size += sum(run.n for run in take)
            taken += len(take)
        return self._runs[len(self._runs) - taken :] if taken else []

    def _drop(self, run: _Run) -> None:
        self._delete(run.number)
        self._runs.remove(run)

    def _delete(self, number: int) -> None:
        self._txn.delete(self._key(number), db=self._db)
        self._txn.delete(self._key(number) + _FILTER, db=self._db)

    def rewrite(self, drop: Callable[[Entries], NDArray[np.bool_]]) -> int:
        """Takes entries out of every run; how many."""
        gone, runs = 0, []
        for run in self._runs:
            entries = Entries.over(self._data(run), run.n)
            leave = drop(entries)
            if leave.any():
                gone += int(leave.sum())
                entries = entries.take(~leave)
                if len(entries):
                    self._put(run.number, entries)
                else:
                    self._delete(run.number)
            if len(entries):
                runs.append(_Run(run.number, len(entries), run.newest_us))
        self._runs = runs
        self._save()
        return gone

    def _save(self) -> None:
        self._txn.put(_KEY.pack(self._topic, _MANIFEST), msgspec.msgpack.encode(self._runs), db=self._db)
