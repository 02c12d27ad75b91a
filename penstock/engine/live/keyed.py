"""Keyed series in an arena, as flat arrays: the thin face of the kernel's live state. For writers and readers."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.algebra.binding import ffi, lib
from penstock.algebra.keys import _Parts
from penstock.algebra.layout import SlotKind
from penstock.algebra.program import Kind, Program
from penstock.algebra.table import Column
from penstock.errors import EngineError

__all__ = [
    "FOREVER",
    "Answered",
    "Applied",
    "Counts",
    "Found",
    "Horizon",
    "KeyedState",
    "Records",
    "Slots",
    "Stale",
    "id_hashes",
]

Int64s = npt.NDArray[np.int64]
Records = npt.NDArray[np.uint64]

FOREVER = -(2**63)
"""A cutoff before which nothing lies."""

_READER, _INSTANTS = 1, 2


class Stale(Exception):  # noqa: N818 a reader's signal to itself, no error
    """The arena has grown past a reader's mapping."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Slot values of rows: per slot int64, float64, uint8 (bool) or (n, 2) uint64 (decimal); None where not stored.

    Attributes:
        valid: per slot, which are not null; None: all.
    """

    values: Sequence[npt.NDArray[Any] | None]
    valid: Sequence[npt.NDArray[np.bool_] | None]


@dataclass(frozen=True, slots=True)
class Horizon:
    """What no query to come can tell: either rows are forgotten by their age, or they are folded.

    Attributes:
        cutoff_us: rows before it are covered by no query. settled: no query asks below this rank any more.
        fold_us: rows before it are covered, in every window without left edge, by all queries, and in no other window.
        fold_rank: rows of at most this rank are known to all queries, and no correction reaches them.
    """

    cutoff_us: int = FOREVER
    settled: int = FOREVER
    fold_us: int = FOREVER
    fold_rank: int = FOREVER

    @property
    def is_nothing(self) -> bool:
        """Whether everything stays."""
        return self.cutoff_us == FOREVER and self.fold_us == FOREVER

    def put(self, to: Any) -> None:
        """Writes it where the kernel reads it."""
        to.cutoff, to.settled = max(self.cutoff_us, FOREVER), self.settled
        to.fold_t, to.fold_rank = max(self.fold_us, FOREVER), max(self.fold_rank, FOREVER)


NOTHING = Horizon()


@dataclass(frozen=True, slots=True)
class Applied:
    """Rows to apply, in the order of their ranks.

    Attributes:
        keep: False for a row that only takes back the former version of its id.
        ids: (n, 2) hashes of id and partition, zeros for none; None where rows are never corrected.
        corrected_us: how far back corrections reach; None: for ever.
        horizon: what may be forgotten or folded.
    """

    records: Records
    t: Int64s
    rank: Int64s
    known: Int64s
    keep: npt.NDArray[np.bool_]
    slots: Slots
    ids: npt.NDArray[np.uint64] | None = None
    corrected_us: int | None = None
    horizon: Horizon = NOTHING


class Counts(NamedTuple):
    """What a state holds: keys, rows, ids, and how many rows it has forgotten."""

    keys: int
    rows: int
    ids: int
    forgotten: int


@dataclass(frozen=True, slots=True)
class Found:
    """Visible rows of queries: those of query i are [offsets[i], offsets[i + 1]), oldest first; slots as stored."""

    offsets: Int64s
    t: Int64s
    rank: Int64s
    mask: npt.NDArray[np.uint8]
    values: Sequence[npt.NDArray[Any] | None]


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers of a program's outputs to n queries.

    Attributes:
        data: values as the kernel left them, those of output i in the bytes from starts[i] to starts[i + 1].
        statuses: a row per output.
        kinds: of the outputs.
    """

    data: npt.NDArray[np.uint8]
    starts: Sequence[int]
    statuses: npt.NDArray[np.uint8]
    kinds: Sequence[Kind]

    def column(self, i: int) -> Column:
        """One output: int64, float64, or, where a value has 16 bytes, halves of uint64."""
        part, n = self.data[self.starts[i] : self.starts[i + 1]], self.statuses.shape[1]
        if part.size == 16 * n and n:
            return Column(part.view(np.uint64).reshape(n, 2), self.statuses[i])
        return Column(part.view(np.float64 if self.kinds[i] is Kind.FLOAT else np.int64), self.statuses[i])


class KeyedState:
    """The series of all keys under one root of an arena.

    Args:
        handle: the arena, as the kernel's struct.
        program: of the layout; the same for writer and readers.
        instants: keep known times themselves beside the ranks, so that queries may ask about any instant.

    Raises:
        EngineError: memory is short, or a reader finds nothing under the root.
    """

    def __init__(
        self, handle: Any, program: Program, root: int, *, reader: bool = False, instants: bool = False
    ) -> None:
        self.program, self._arena = program, handle
        code = ffi.cast("int64_t *", program.code.ctypes.data)
        made = lib.ps_program_new(code, program.code.size)
        assert made != ffi.NULL, "the compiler made a program that the kernel refuses"
        self._program = ffi.gc(made, lib.ps_program_free)
        flags = (_READER if reader else 0) | (_INSTANTS if instants else 0)
        state = lib.ps_live_new(handle, self._program, root, flags)
        if state == ffi.NULL:
            raise EngineError(
                f"bind root {root} of the arena",
                found="nothing there" if reader else "not enough memory",
                remedy="start the live job" if reader else "give the state more memory",
            )
        self._state = ffi.gc(state, lib.ps_live_delete)
        self._starts = np.concatenate([[0], np.cumsum(program.sizes)]).astype(np.int64)

    @property
    def handle(self) -> Any:
        """The kernel's own, for calls with buffers that are made once."""
        return self._state

    def find(self, columns: Sequence[pa.Array], *, create: bool) -> tuple[Records, npt.NDArray[np.uint64]]:
        """Records and hashes of keys; record 0 for a key with a null part and, unless `create`, for an unknown one."""
        parts = _Parts(columns)
        records, hashes = np.zeros(parts.n, np.uint64), np.zeros(parts.n, np.uint64)
        valid = ffi.NULL if parts.valid is None else ffi.cast("uint8_t *", parts.valid.ctypes.data)
        out, hash_out = ffi.cast("ps_off *", records.ctypes.data), ffi.cast("uint64_t *", hashes.ctypes.data)
        self._check(
            lib.ps_live_find(self._state, parts.pointer, len(columns), parts.n, valid, int(create), out, hash_out)
        )
        return records, hashes

    def key_bytes(self, record: int) -> bytes:
        """Canonical bytes of a record's key; none when there is no such record."""
        out = ffi.new("uint8_t **")
        n = lib.ps_live_key(self._state, record, out)
        return bytes(ffi.buffer(out[0], n)) if n else b""

    def apply(self, rows: Applied) -> None:
        """Adds rows and takes back what they correct.

        Raises:
            EngineError: memory is short; the arena is torn then.
        """
        pins: list[Any] = []
        made = ffi.new("ps_live_rows *")
        made.n = rows.t.size
        made.record = _pointer("ps_off *", rows.records, pins)
        made.t, made.rank, made.k = (_pointer("int64_t *", x, pins) for x in (rows.t, rows.rank, rows.known))
        made.keep = _pointer("uint8_t *", rows.keep, pins)
        made.mask = _pointer("uint8_t *", self._masks(rows.slots, rows.t.size), pins)
        made.slots = self._slots(rows.slots, pins)
        made.ids = ffi.NULL if rows.ids is None else _pointer("uint64_t *", rows.ids, pins)
        made.corrected_us = -1 if rows.corrected_us is None else rows.corrected_us
        rows.horizon.put(made.horizon)
        self._check(lib.ps_live_apply(self._state, made))

    def query(
        self,
        records: Records,
        hashes: npt.NDArray[np.uint64],
        q: Int64s,
        a: Int64s,
        *,
        own: bool,
        calendar: Int64s | None,
    ) -> Answered:
        """Answers of all outputs of the program.

        Args:
            own: the row with t = q and rank a counts whatever the window's edge, where the layout includes it.
            calendar: left edges of the calendar windows, one after the other.

        Raises:
            Stale: a reader must map the arena again.
        """
        n, pins = q.size, list[Any]()
        asked = self._asked(records, hashes, q, a, calendar=calendar, own=own, pins=pins)
        starts = self._starts * n
        data, statuses = np.zeros(int(starts[-1]) + 8, np.uint8), np.zeros((starts.size - 1, n + 1), np.uint8)
        out = ffi.new("ps_columns *")
        out.values = _pointers_at(data.ctypes.data + starts.astype(np.uint64), pins)
        out.statuses = _pointers_at(statuses.ctypes.data + np.arange(starts.size, dtype=np.uint64) * (n + 1), pins)
        self._check(lib.ps_live_query(self._state, asked, out))
        return Answered(data, starts.tolist(), statuses[:, :n], self.program.kinds)

    def select(
        self,
        records: Records,
        hashes: npt.NDArray[np.uint64],
        q: Int64s,
        a: Int64s,
        window: int,
        *,
        limit: int = -1,
        own: bool = False,
        calendar: Int64s | None = None,
    ) -> Found:
        """The visible rows of one window of the program for each query, the newest `limit` of them."""
        pins: list[Any] = []
        asked = self._asked(records, hashes, q, a, calendar=calendar, own=own, pins=pins)
        lengths = np.zeros(q.size, np.int64)
        found = lib.ps_live_select(self._state, asked, window, limit, ffi.cast("int64_t *", lengths.ctypes.data))
        if found == ffi.NULL:
            raise Stale
        try:
            n, sizes = int(found.n), self.program.slot_sizes
            slots = [None if not size else _taken(found.slot[i], n, size) for i, size in enumerate(sizes)]
            mask = np.frombuffer(ffi.buffer(found.mask, n * self.program.mask_bytes), np.uint8).copy() if n else _NONE
            t, rank = (_taken(x, n, 8) for x in (found.t, found.rank))
        finally:
            lib.ps_live_found_free(found, len(sizes))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Found(offsets, t, rank, mask.reshape(n, -1) if n else mask.reshape(0, self.program.mask_bytes), slots)

    def sweep(self, first_shard: int, shards: int, horizon: Horizon) -> None:
        """Forgets and folds, in some shards, what the horizon allows, with keys without rows and ids of no use."""
        made = ffi.new("ps_horizon *")
        horizon.put(made)
        self._check(lib.ps_live_sweep(self._state, first_shard, shards, made))

    def counts(self) -> Counts:
        """What the state holds now."""
        out = ffi.new("ps_live_counts *")
        lib.ps_live_count(self._state, out)
        return Counts(int(out.n_keys), int(out.n_rows), int(out.n_ids), int(out.dropped))

    def _asked(
        self,
        records: Records,
        hashes: npt.NDArray[np.uint64],
        q: Int64s,
        a: Int64s,
        *,
        calendar: Int64s | None,
        own: bool,
        pins: list[Any],
    ) -> Any:
        asked = ffi.new("ps_live_asked *")
        asked.n = q.size
        asked.record, asked.hash = _pointer("ps_off *", records, pins), _pointer("uint64_t *", hashes, pins)
        asked.q, asked.a = _pointer("int64_t *", q, pins), _pointer("int64_t *", a, pins)
        asked.self = int(own)
        asked.calendar = ffi.NULL if calendar is None else _pointer("int64_t *", calendar, pins)
        asked.stride = q.size
        pins.append(asked)
        return asked

    def _masks(self, slots: Slots, n: int) -> npt.NDArray[np.uint8]:
        program, pins = self.program, list[Any]()
        out = np.zeros((n, program.mask_bytes), np.uint8)
        if not program.masks:
            return out
        spec = np.array([(m.valid, m.where, m.also) for m in program.masks], np.int32)
        used = {int(slot) for slot in spec[:, 1:].ravel() if slot >= 0}
        valid = [None if v is None else v.view(np.uint8) for v in slots.valid]
        truth = [
            np.not_equal(v, 0).view(np.uint8) if i in used and v is not None else None
            for i, v in enumerate(slots.values)
        ]
        lib.ps_fill_masks(
            n,
            len(program.masks),
            _pointer("int32_t *", spec, pins),
            _pointers(valid, pins),
            _pointers(truth, pins),
            ffi.cast("uint8_t *", out.ctypes.data),
        )
        return out

    def _slots(self, slots: Slots, pins: list[Any]) -> Any:
        kept: list[npt.NDArray[Any] | None] = []
        for slot, values, size in zip(self.program.layout.slots, slots.values, self.program.slot_sizes, strict=True):
            if not size:
                kept.append(None)
                continue
            assert values is not None
            kinds: dict[SlotKind, type[Any]] = {SlotKind.FLOAT: np.float64, SlotKind.DECIMAL: np.uint64}
            kept.append(np.ascontiguousarray(values.astype(kinds.get(slot.kind, np.int64), copy=False)))
        return _pointers(kept, pins)

    def _check(self, code: int) -> None:
        if code == -2:
            raise Stale
        if code:
            raise _no_room(self._arena)


def _no_room(arena: Any) -> EngineError:
    """The error of a state that cannot grow: which directory is full, or that its bound is reached."""
    where = Path(f"/proc/self/fd/{arena.fd}")
    place = where.readlink().parent if arena.fd >= 0 and where.exists() else None
    if arena.error == errno.ENOMEM or place is None:
        found, remedy = "not enough memory", f"give the job more than {arena.reserve:,} bytes (Options.reserve_bytes)"
    else:
        found = f"{place}, where the job keeps its memory: {os.strerror(arena.error)}"
        remedy = f"free space in {place}, or name another folder: penstock features live --memory-dir FOLDER"
    return EngineError(
        "live state grows with its rows",
        found=found,
        remedy=f"{remedy}; the job goes on from its last checkpoint",
        where=None if place is None else str(place),
    )


_NONE = np.zeros(0, np.uint8)


def id_hashes(ids: pa.Array, partition: npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    """128-bit hashes (n, 2) of event ids within their partitions; zeros for a row without an id."""
    parts = _Parts([ids])
    out = np.zeros((parts.n, 2), np.uint64)
    valid = ffi.NULL if parts.valid is None else ffi.cast("uint8_t *", parts.valid.ctypes.data)
    partition = np.ascontiguousarray(partition.astype(np.int32, copy=False))
    done = lib.ps_live_ids(
        parts.pointer,
        parts.n,
        valid,
        ffi.cast("int32_t *", partition.ctypes.data),
        ffi.cast("uint64_t *", out.ctypes.data),
    )
    if done:
        raise EngineError("hash event ids", found="not enough memory")
    return out


def _pointer(kind: str, values: npt.NDArray[Any], pins: list[Any]) -> Any:
    values = np.ascontiguousarray(values)
    pins.append(values)
    return ffi.cast(kind, values.ctypes.data)


def _pointers(arrays: Sequence[npt.NDArray[Any] | None], pins: list[Any]) -> Any:
    pins.append(arrays)
    made = ffi.new(
        "uint8_t *[]", [ffi.NULL if x is None else ffi.cast("uint8_t *", x.ctypes.data) for x in arrays] + [ffi.NULL]
    )
    pins.append(made)
    return made


def _pointers_at(addresses: npt.NDArray[np.uint64], pins: list[Any]) -> Any:
    addresses = np.ascontiguousarray(addresses, np.uint64)
    pins.append(addresses)
    return ffi.cast("uint8_t **", addresses.ctypes.data)


def _taken(pointer: Any, n: int, size: int) -> npt.NDArray[Any]:
    if not n:
        return np.zeros((0, 2), np.uint64) if size == 16 else np.zeros(0, np.int64)
    raw = np.frombuffer(ffi.buffer(pointer, n * size), np.uint64 if size == 16 else np.int64).copy()
    return raw.reshape(n, 2) if size == 16 else raw
