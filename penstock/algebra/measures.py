"""Measures computed from the visible rows of each query: what the kernel does not merge as fields.

That is last_n, distinct (exact and approximate), users' own aggregates, least and greatest of interned values, and
every measure split by `per`. Everything works on ragged groups: group g owns `rows[offsets[g]:offsets[g + 1]]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.algebra import sketches
from penstock.algebra.layout import Layout, Measure, Op, SlotKind
from penstock.algebra.monoids import Status, arguments, own_status
from penstock.algebra.sorting import order_groups
from penstock.algebra.table import Column, Rows
from penstock.define import Aggregate
from penstock.errors import EngineError

__all__ = ["Groups", "Reader", "join_columns", "measure_groups"]

Int64s = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Groups:
    """Ragged groups of rows, oldest first, and per group the instant that decay refers to."""

    offsets: Int64s
    rows: Int64s
    at_us: Int64s

    @property
    def sizes(self) -> Int64s:
        """Rows per group."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Int64s:
        """Group of each row."""
        return np.repeat(np.arange(self.offsets.size - 1), self.sizes)

    def where(self, keep: Flags) -> Groups:
        """The same groups with some of their rows."""
        counts = np.bincount(self.owners[keep], minlength=self.offsets.size - 1)
        return Groups(_offsets(counts), self.rows[keep], self.at_us)


@dataclass
class Reader:
    """Reads the slots of rows; remembers what is derived from dictionaries."""

    layout: Layout
    rows: Rows
    custom: Mapping[str, type[Aggregate]] = field(default_factory=dict)
    _ranks: dict[int, tuple[Int64s, Int64s]] = field(default_factory=dict)
    _hashes: dict[int, npt.NDArray[np.uint64]] = field(default_factory=dict)

    def raw(self, slot: int, rows: Int64s) -> npt.NDArray[Any]:
        """Values as they are stored."""
        values = self.rows.values[slot]
        if values is None:
            raise EngineError(f"a measure of slot {slot}", found="no values", remedy="give the rows that slot's values")
        return values[rows]

    def valid(self, slot: int, rows: Int64s) -> Flags:
        """Where values are not null."""
        flags = self.rows.valid[slot]
        return np.ones(rows.size, np.bool_) if flags is None else flags[rows]

    def true(self, slot: int, rows: Int64s) -> Flags:
        """Where a BOOL slot is true; null is false."""
        flags: Flags = np.not_equal(self.raw(slot, rows), 0) & self.valid(slot, rows)
        return flags

    def numbers(self, slot: int, rows: Int64s) -> npt.NDArray[np.longdouble]:
        """Values as wide floats, unscaled."""
        values = self.raw(slot, rows)
        if self.layout.slots[slot].kind is not SlotKind.DECIMAL:
            return values.astype(np.longdouble)
        return np.array(decimal_ints(values), dtype=object).astype(np.longdouble)

    def identity(self, slot: int, rows: Int64s) -> Int64s:
        """An int64 per value, equal exactly for equal values."""
        values = self.raw(slot, rows)
        if self.layout.slots[slot].kind is SlotKind.DECIMAL:
            pairs = np.ascontiguousarray(values).view([("low", np.uint64), ("high", np.uint64)]).ravel()
            return np.unique(pairs, return_inverse=True)[1].astype(np.int64)
        return values.view(np.int64) if values.dtype == np.float64 else values.astype(np.int64)

    def rank(self, slot: int, rows: Int64s) -> Int64s:
        """An int64 per value that sorts as the values do (text by its bytes)."""
        dictionary = self.dictionary(slot)
        if dictionary is None:
            return _float_ranks(self.raw(slot, rows)) if self.is_float(slot) else self.identity(slot, rows)
        if slot not in self._ranks:
            order = pc.sort_indices(dictionary).to_numpy().astype(np.int64)
            ranks = np.empty_like(order)
            ranks[order] = np.arange(order.size)
            self._ranks[slot] = (ranks, order)
        return self._ranks[slot][0][self.raw(slot, rows).astype(np.int64)]

    def hashes(self, slot: int, rows: Int64s) -> npt.NDArray[np.uint64]:
        """The published hash of each value."""
        dictionary = self.dictionary(slot)
        if dictionary is None:
            return sketches.hash_numbers(self.identity(slot, rows))
        if slot not in self._hashes:
            self._hashes[slot] = sketches.hash_values(dictionary)
        return self._hashes[slot][self.raw(slot, rows).astype(np.int64)]

    def is_float(self, slot: int) -> bool:
        """Whether a slot holds floats."""
        return self.layout.slots[slot].kind is SlotKind.FLOAT

    def dictionary(self, slot: int) -> pa.Array | None:
        """What the codes of a slot stand for, if it holds codes and the rows say so."""
        if self.layout.slots[slot].kind is not SlotKind.CODE or self.rows.dictionaries is None:
            return None
        return self.rows.dictionaries[slot]

    def arrow(self, slot: int, rows: Int64s, missing: Flags | None = None) -> pa.Array:
        """Values as an Arrow array; also null where `missing`."""
        null = ~self.valid(slot, rows)
        if missing is not None:
            null |= missing
        kind, raw = self.layout.slots[slot].kind, self.raw(slot, rows)
        dictionary = self.dictionary(slot)
        if dictionary is not None:
            return dictionary.take(pa.array(np.where(null, 0, raw.astype(np.int64)), mask=null))
        if kind is SlotKind.DECIMAL:
            return decimal_array(raw, self.layout.slots[slot].scale, null)
        return pa.array(np.not_equal(raw, 0) if kind is SlotKind.BOOL else raw, mask=null)


def measure_groups(reader: Reader, measure: Measure, sum_type: str, groups: Groups) -> Column:
    """A measure over each group."""
    counted = groups.where(_counted(reader, measure, groups.rows))
    if measure.per is not None:
        return _by_bucket(reader, measure, sum_type, counted)
    return _measure(reader, measure, sum_type, counted)


def join_columns(parts: Sequence[Column], order: Int64s | None) -> Column:
    """One column from the parts of a sweep; answer i of the sweep goes to place order[i]."""
    status = np.concatenate([part.status for part in parts])
    values: Any = parts[0].values
    if isinstance(values, pa.Array):
        typed = next((p.values.type for p in parts if not pa.types.is_null(p.values.type)), values.type)
        values = pa.chunked_array([p.values.cast(typed) for p in parts], typed).combine_chunks()
    else:
        values = np.concatenate([part.values for part in parts])
    if order is None:
        return Column(values, status)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return Column(values.take(pa.array(place)) if isinstance(values, pa.Array) else values[place], status[place])


def _counted(reader: Reader, measure: Measure, rows: Int64s) -> Flags:
    """Which rows a measure counts: by `where`, by nulls of its arguments, by a null bucket."""
    keep = np.ones(rows.size, np.bool_) if measure.where is None else reader.true(measure.where, rows)
    slots = arguments(measure) + (() if measure.slot2 is None else (measure.slot2,))
    if slots:
        flags = [reader.valid(slot, rows) for slot in slots]
        keep &= np.logical_and.reduce(flags) if measure.op is Op.CUSTOM else np.logical_or.reduce(flags)
    if measure.per is not None:
        keep &= reader.valid(measure.per, rows)
    return keep


def _by_bucket(reader: Reader, measure: Measure, sum_type: str, groups: Groups) -> Column:
    """A map per group from each bucket, in rising order, to the measure over the bucket's rows."""
    assert measure.per is not None
    owners, ranks = groups.owners, reader.rank(measure.per, groups.rows)
    order = order_groups(groups.offsets, ranks)
    ranks, rows = ranks[order], groups.rows[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(owners) != 0) | (np.diff(ranks) != 0)]) if rows.size else _NO_ROWS
    inner = Groups(np.r_[starts, rows.size].astype(np.int64), rows, groups.at_us[owners[starts]])
    column = _measure(reader, replace(measure, per=None), sum_type, inner)
    offsets = _offsets(np.bincount(owners[starts], minlength=groups.offsets.size - 1))
    empty = np.diff(offsets) == 0
    status = np.where(empty, Status.EMPTY, Status.OK).astype(np.uint8)
    for bad in (Status.LIMIT, Status.OVERFLOW):
        status[owners[starts][column.status == bad]] = bad
    keys = reader.arrow(measure.per, rows[starts])
    maps = pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), keys, as_arrow(column, _scale(reader, measure)), mask=pa.array(empty)
    )
    return Column(maps, status)


def _scale(reader: Reader, measure: Measure) -> int:
    return 0 if measure.slot is None else reader.layout.slots[measure.slot].scale


_NO_ROWS: Int64s = np.zeros(0, np.int64)


def _measure(reader: Reader, m: Measure, sum_type: str, groups: Groups) -> Column:
    empty = groups.sizes == 0
    match m.op:
        case Op.COUNT:
            return Column(groups.sizes, np.where(empty, Status.ZERO, Status.OK).astype(np.uint8))
        case Op.DISTINCT:
            return _distinct(reader, m, groups)
        case Op.DISTINCT_APPROX:
            assert m.slot is not None
            found = sketches.estimate(groups.offsets, reader.hashes(m.slot, groups.rows))
            return Column(found, np.where(empty, Status.ZERO, Status.OK).astype(np.uint8))
        case Op.LAST_N:
            return _last_n(reader, m, groups)
        case Op.CUSTOM:
            return _custom(reader, m, groups)
        case Op.FIRST | Op.LAST | Op.MIN | Op.MAX:
            return _one_row(reader, m, groups)
        case Op.SUM:
            return _sum(reader, m, sum_type, groups)
    return _float_measure(reader, m, groups)


def _distinct(reader: Reader, m: Measure, groups: Groups) -> Column:
    assert m.slot is not None
    owners, values = groups.owners, reader.identity(m.slot, groups.rows)
    values = values[order_groups(groups.offsets, values)]
    new = np.r_[True, (np.diff(owners) != 0) | (np.diff(values) != 0)] if owners.size else np.zeros(0, np.bool_)
    found = np.bincount(owners[new], minlength=groups.offsets.size - 1).astype(np.int64)
    above = found > m.limit if m.limit else np.zeros(found.size, np.bool_)
    status = np.where(above, Status.LIMIT, np.where(found == 0, Status.ZERO, Status.OK)).astype(np.uint8)
    return Column(np.where(above, 0, found), status)


def _last_n(reader: Reader, m: Measure, groups: Groups) -> Column:
    """Lists of the newest n rows' values, newest first; of structs (fields f0, f1, ...) for several columns."""
    sizes = np.minimum(groups.sizes, m.n)
    offsets = _offsets(sizes)
    back = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    rows = groups.rows[np.repeat(groups.offsets[1:], sizes) - 1 - back]
    columns = [reader.arrow(slot, rows) for slot in arguments(m)]
    if len(columns) > 1:
        columns = [pa.StructArray.from_arrays(columns, [f"f{i}" for i in range(len(columns))])]
    empty = sizes == 0
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), columns[0], mask=pa.array(empty))
    return Column(lists, np.where(empty, Status.EMPTY, Status.OK).astype(np.uint8))


def _custom(reader: Reader, m: Measure, groups: Groups) -> Column:
    own = reader.custom[m.custom]()
    values = [reader.arrow(slot, groups.rows).to_pylist() for slot in arguments(m)]
    results: list[Any] = []
    for begin, end in zip(groups.offsets[:-1].tolist(), groups.offsets[1:].tolist(), strict=True):
        states = (own.lift(*(column[i] for column in values)) for i in range(begin, end))
        results.append(own.finalize(reduce(own.merge, states)) if begin < end else None)
    status = [own_status(result, size > 0) for size, result in zip(groups.sizes.tolist(), results, strict=True)]
    kept = [None if how == Status.OVERFLOW else result for how, result in zip(status, results, strict=True)]
    return Column(pa.array(kept), np.array(status, np.uint8))


def _one_row(reader: Reader, m: Measure, groups: Groups) -> Column:
    """The value of one row per group: the first, the last, the least or the greatest."""
    assert m.slot is not None
    empty, full = groups.sizes == 0, np.flatnonzero(groups.sizes)
    if m.op is Op.FIRST:
        at = groups.offsets[:-1][full]
    elif m.op is Op.LAST:
        at = groups.offsets[1:][full] - 1
    else:
        is_decimal = reader.layout.slots[m.slot].kind is SlotKind.DECIMAL
        ranks = _decimal_ranks(reader.raw(m.slot, groups.rows)) if is_decimal else reader.rank(m.slot, groups.rows)
        order = order_groups(groups.offsets, ranks)
        at = order[groups.offsets[:-1][full] if m.op is Op.MIN else groups.offsets[1:][full] - 1]
    rows = np.zeros(empty.size, np.int64)
    rows[full] = groups.rows[at]
    status = np.where(empty, Status.EMPTY, Status.OK).astype(np.uint8)
    if not reader.rows.t.size:
        rows = rows[:0]
        return Column(pa.nulls(empty.size, reader.arrow(m.slot, rows).type), status)
    return Column(reader.arrow(m.slot, rows, missing=empty), status)


def _sum(reader: Reader, m: Measure, sum_type: str, groups: Groups) -> Column:
    assert m.slot is not None
    kind, scale = reader.layout.slots[m.slot].kind, reader.layout.slots[m.slot].scale
    if kind is SlotKind.FLOAT or sum_type.startswith(("float", "double")):
        return _floats(_reduce(reader.numbers(m.slot, groups.rows), groups) / 10**scale, groups)
    raw = reader.raw(m.slot, groups.rows)
    if kind is SlotKind.DECIMAL:
        parts = np.array(decimal_ints(raw), dtype=object)
        full = np.flatnonzero(groups.sizes)
        totals = [0] * groups.sizes.size
        for g in full.tolist():
            totals[g] = int(sum(parts[groups.offsets[g] : groups.offsets[g + 1]]))
    else:
        raw = raw.astype(np.int64)
        high, low = _reduce(raw >> 32, groups), _reduce(raw & 0xFFFFFFFF, groups)
        totals = [(h << 32) + x for h, x in zip(high.tolist(), low.tolist(), strict=True)]
    as_decimal = kind is SlotKind.DECIMAL or sum_type.startswith("decimal")
    fits = [abs(x) < 10**38 if as_decimal else -(2**63) <= x < 2**63 for x in totals]
    status = np.where(groups.sizes == 0, Status.EMPTY, np.where(fits, Status.OK, Status.OVERFLOW)).astype(np.uint8)
    kept = [x if ok else 0 for x, ok in zip(totals, fits, strict=True)]
    return Column(decimal_pairs(kept) if as_decimal else np.array(kept, np.int64), status)


def _float_measure(reader: Reader, m: Measure, groups: Groups) -> Column:
    """Measures that are floats: mean, share, variance, std, ratio, decayed sum and count."""
    sizes = groups.sizes.astype(np.longdouble)
    if m.op in (Op.DECAYED_SUM, Op.DECAYED_COUNT):
        age = (groups.at_us[groups.owners] - reader.rows.t[groups.rows]).astype(np.longdouble)
        weights = np.exp2(-age / m.half_life_us)
        if m.op is Op.DECAYED_SUM:
            assert m.slot is not None
            weights = weights * reader.numbers(m.slot, groups.rows) / 10 ** reader.layout.slots[m.slot].scale
        column = _floats(_reduce(weights, groups), groups)
        if m.op is Op.DECAYED_COUNT:
            column.status[groups.sizes == 0] = Status.ZERO
        return column
    assert m.slot is not None, m.op
    scale = np.longdouble(10) ** reader.layout.slots[m.slot].scale
    if m.op is Op.RATIO:
        return _ratio(reader, m, groups, scale)
    x = reader.numbers(m.slot, groups.rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _reduce(x, groups) / sizes
        if m.op in (Op.MEAN, Op.SHARE):
            return _floats(mean / scale, groups)
        squares = _reduce((x - np.repeat(mean, groups.sizes)) ** 2, groups)
        variance = squares / (sizes - 1) / scale**2
        column = _floats(np.sqrt(variance) if m.op is Op.STD else variance, groups)
    column.status[groups.sizes == 1] = Status.UNDEFINED
    column.values[groups.sizes == 1] = 0.0
    return column


def _ratio(reader: Reader, m: Measure, groups: Groups, scale: np.longdouble) -> Column:
    assert m.slot is not None and m.slot2 is not None
    sums, counts = [], []
    for slot in (m.slot, m.slot2):
        valid = reader.valid(slot, groups.rows)
        sums.append(_reduce(np.where(valid, reader.numbers(slot, groups.rows), 0), groups))
        counts.append(_reduce(valid.astype(np.int64), groups))
    none = (counts[0] == 0) | (counts[1] == 0) | (sums[1] == 0)
    below = np.where(none, 1, sums[1]) * scale / np.longdouble(10) ** reader.layout.slots[m.slot2].scale
    column = _floats(np.where(none, 0, sums[0]) / below, groups)
    column.status[none & (groups.sizes > 0)] = Status.UNDEFINED
    return column


def _floats(values: npt.NDArray[Any], groups: Groups) -> Column:
    with np.errstate(over="ignore", invalid="ignore"):
        out = values.astype(np.float64)
    empty, bad = groups.sizes == 0, ~np.isfinite(out)
    status = np.where(empty, Status.EMPTY, np.where(bad, Status.OVERFLOW, Status.OK)).astype(np.uint8)
    return Column(np.where(empty | bad, 0.0, out), status)


def _reduce(values: npt.NDArray[Any], groups: Groups) -> npt.NDArray[Any]:
    """Sum per group; 0 for empty groups."""
    out = np.zeros(groups.offsets.size - 1, values.dtype)
    full = np.flatnonzero(groups.sizes)
    if full.size:
        out[full] = np.add.reduceat(values, groups.offsets[:-1][full])
    return out


def _offsets(sizes: npt.NDArray[Any]) -> Int64s:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _float_ranks(values: npt.NDArray[np.float64]) -> Int64s:
    bits = values.view(np.int64)
    return np.where(bits < 0, bits ^ np.int64(2**63 - 1), bits)


def _decimal_ranks(values: npt.NDArray[np.uint64]) -> Int64s:
    high, low = values[:, 1].view(np.int64), values[:, 0]
    order = np.lexsort((low, high))
    changed = np.r_[False, (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)] if order.size else order
    ranks = np.empty(order.size, np.int64)
    ranks[order] = np.cumsum(changed)
    return ranks


def decimal_ints(values: npt.NDArray[np.uint64]) -> list[int]:
    """Pairs (low, high) as Python ints.

    >>> decimal_ints(np.array([[5, 0], [2**64 - 1, 2**64 - 1]], np.uint64))
    [5, -1]
    """
    high = np.ascontiguousarray(values[:, 1]).view(np.int64).tolist()
    return [(h << 64) | low for h, low in zip(high, values[:, 0].tolist(), strict=True)]


def decimal_pairs(values: list[int]) -> npt.NDArray[np.uint64]:
    """Python ints as pairs (low, high) of 128 bits, two's complement."""
    whole = 2**64 - 1
    return np.array([(x & whole, (x >> 64) & whole) for x in values], np.uint64).reshape(-1, 2)


def decimal_array(values: npt.NDArray[np.uint64], scale: int, null: Flags) -> pa.Array:
    """Pairs (low, high) as Arrow decimals of 38 digits, without a copy of the values."""
    bits = pa.py_buffer(np.packbits(~null, bitorder="little"))
    kind = pa.decimal128(38, scale)
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def as_arrow(column: Column, scale: int = 0) -> pa.Array:
    """A column's values as an Arrow array, null where they are; `scale` is that of decimals."""
    if isinstance(column.values, pa.Array):
        return column.values
    if column.values.ndim == 2:
        return decimal_array(column.values, scale, ~column.valid)
    return pa.array(column.values, mask=~column.valid)
