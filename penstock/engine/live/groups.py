"""The state of one feature group: rows in, features out, at any instant and known position. For writers and readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.algebra.folding import is_endless, keeps_of, needs_prefix, unfolded
from penstock.algebra.keys import key_hashes
from penstock.algebra.layout import Layout, Measure, Op, Output, Slot, SlotKind, WindowKind
from penstock.algebra.measures import Groups, Reader, measure_groups
from penstock.algebra.monoids import Status, arguments
from penstock.algebra.program import Kind, Mask, compile_program, slow_outputs
from penstock.algebra.table import Column, Rows
from penstock.engine.history.slots import flatten, to_arrow
from penstock.engine.live.interner import Interner
from penstock.engine.live.keyed import Answered, Found, KeyedState, Records, Slots
from penstock.plan.expr.types import INT, Type
from penstock.plan.ir import GroupPlan
from penstock.semantics.columns import ID
from penstock.semantics.windows import edges_us

__all__ = ["Features", "GroupState", "LayoutState", "SlotValue", "reach_us"]

Int64s = npt.NDArray[np.int64]

_OK, _ZERO = Status.OK.value, Status.ZERO.value


@dataclass(frozen=True, eq=False)
class Features:
    """Answers to queries.

    Attributes:
        columns: by output name, in the output's type.
        statuses: a row per output, in the same order: a `Status` code per query.
        seen: whether any row of the key counts in any window.
    """

    columns: dict[str, pa.Array]
    statuses: npt.NDArray[np.uint8]
    seen: npt.NDArray[np.bool_]


class SlotValue(Protocol):
    """What computes a slot: an expression, or a column as it is."""

    @property
    def type(self) -> Type:
        """The type of its values."""
        ...

    @property
    def nullable(self) -> bool:
        """Whether they may be null."""
        ...

    def evaluate(self, table: pa.RecordBatch) -> Any:
        """One value per row."""
        ...


class LayoutState:
    """Keyed series under a layout, with Arrow values on the outside.

    Args:
        slots: one expression per slot of the layout, over the input's columns.
        instants: whether queries ask about known times rather than ranks.
        customs: users' own aggregates by name.

    Attributes:
        places: which output of the kernel's program an output is; of those that it answers.
        endless: whether some window has no left edge in time. folds: whether rows may be folded then.
    """

    def __init__(
        self,
        handle: Any,
        root: int,
        layout: Layout,
        slots: Sequence[SlotValue],
        interner: Interner,
        *,
        reader: bool = False,
        instants: bool = False,
        customs: dict[str, Any] | None = None,
    ) -> None:
        self.layout, self.slots, self.interner = layout, slots, interner
        self.customs = customs or {}
        self._wide, counters = _widened(layout, slots)
        nullable = [slot.nullable for slot in slots]
        program = compile_program(
            self._wide,
            nullable=nullable,
            outputs=range(len(self._wide.outputs)),
            keeps=keeps_of(layout),
            prefix=needs_prefix(layout),
        )
        self.endless, self.folds = is_endless(layout), is_endless(layout) and not unfolded(layout)
        self.keyed = KeyedState(handle, program, root, reader=reader, instants=instants)
        self._slow = slow_outputs(layout)
        self.places = {self._wide.outputs[o].name: place for place, o in enumerate(program.outputs)}
        self._counters = [self.places[name] for name in counters]
        self._places = [self.places.get(output.name, 0) for output in layout.outputs]
        self._as_it_lies = [self._plain_kind(output) for output in layout.outputs]

    def encode(self, rows: pa.RecordBatch) -> Slots:
        """Slot values of rows of the group's input."""
        values: list[npt.NDArray[Any] | None] = []
        valid: list[npt.NDArray[np.bool_] | None] = []
        for expression, slot in zip(self.slots, self.layout.slots, strict=True):
            made = expression.evaluate(rows)
            if isinstance(made, pa.ChunkedArray):
                made = made.combine_chunks()
            if slot.kind is SlotKind.CODE:
                values.append(self.interner.codes(made))
                valid.append(np.asarray(made.is_valid()) if made.null_count else None)
            else:
                flat, flags, _ = flatten(made, slot.kind)
                values.append(flat)
                valid.append(flags)
        return Slots(values, valid)

    def query(self, keys: Sequence[pa.Array], q: Int64s, a: Int64s, *, own: bool = False) -> Features:
        """The features of keys at instants `q`, knowing `a` (ranks, or known times where the state keeps those).

        Args:
            own: the row with t = q and rank a counts, where the layout includes it.
        """
        return self.query_found(self.keyed.find(keys, create=False), q, a, own=own)

    def query_found(
        self, found_keys: tuple[Records, npt.NDArray[np.uint64]], q: Int64s, a: Int64s, *, own: bool
    ) -> Features:
        """The same of keys that `keyed.find` has found already."""
        records, hashes = found_keys
        own = own and self.layout.include_self
        calendar = self._calendar(q)
        made = self.keyed.query(records, hashes, q, a, own=own, calendar=calendar)
        seen = np.zeros(q.size, np.bool_)
        for place in self._counters:
            seen |= made.column(place).values > 0
        slow: dict[str, Column] = {}
        for window in sorted({self.layout.outputs[i].window for i in self._slow}):
            place = self.keyed.program.windows.index(window)
            limit = self._enough(window)
            rows = self.keyed.select(records, hashes, q, a, place, limit=limit, own=own, calendar=calendar)
            slow |= self._measured(window, rows, q)
        statuses = made.statuses[self._places]
        for i in self._slow:
            statuses[i] = slow[self.layout.outputs[i].name].status
        return Features(self.shown(made, statuses, range(len(self._places)), slow), statuses, seen)

    def shown(
        self, made: Answered, statuses: npt.NDArray[np.uint8], which: Sequence[int], slow: Mapping[str, Column]
    ) -> dict[str, pa.Array]:
        """Some outputs of the layout by name, in their types, null where a status says so.

        Args:
            statuses: a row per output of the layout.
            slow: outputs that the kernel does not answer.
        """
        present = (statuses == _OK) | (statuses == _ZERO)
        complete, bits = present.all(axis=1).tolist(), np.packbits(present, axis=1, bitorder="little")
        bitmaps, size = pa.py_buffer(bits), bits.shape[1]
        data, starts, columns = pa.py_buffer(made.data), made.starts, {}
        for i in which:
            output, place, kind = self.layout.outputs[i], self._places[i], self._as_it_lies[i]
            if kind is None:
                column = slow.get(output.name) or Column(made.column(place).values, statuses[i])
                columns[output.name] = to_arrow(self._decoded(output, column), output.type)
                continue
            bitmap = None if complete[i] else bitmaps.slice(i * size, size)
            values = data.slice(starts[place], starts[place + 1] - starts[place])
            columns[output.name] = pa.Array.from_buffers(kind, statuses.shape[1], [bitmap, values])
        return columns

    def _plain_kind(self, output: Output) -> pa.DataType | None:
        """The type of an output whose values are Arrow's as the kernel leaves them; None for the others."""
        program, kind = self.keyed.program, Type.parse(output.type)
        if output.name not in self.places or self._is_coded(output):
            return None
        made, size = program.kinds[self.places[output.name]], program.sizes[self.places[output.name]]
        plain = {"int": (Kind.INT, 8), "float": (Kind.FLOAT, 8), "decimal": (Kind.DECIMAL, 16)}
        return kind.arrow if plain.get(kind.name) == (made, size) else None

    def merged(self, keys: Sequence[pa.Array], q: Int64s, a: Int64s) -> Answered:
        """What the kernel answers, its outputs in the order of the layout's where none is slow."""
        records, hashes = self.keyed.find(keys, create=False)
        return self.keyed.query(records, hashes, q, a, own=False, calendar=self._calendar(q))

    @property
    def has_slow(self) -> bool:
        """Whether some features are computed from rows rather than merged."""
        return bool(self._slow)

    def visible(self, keys: Sequence[pa.Array], q: Int64s, a: Int64s, window: int) -> tuple[Found, Rows]:
        """The rows that count in a window of the layout for each query, and their slots with dictionaries."""
        records, hashes = self.keyed.find(keys, create=False)
        place = self.keyed.program.windows.index(window)
        found = self.keyed.select(records, hashes, q, a, place, calendar=self._calendar(q))
        rows, dictionaries = self._plain(found)
        return found, replace(rows, dictionaries=dictionaries)

    def _calendar(self, q: Int64s) -> Int64s | None:
        windows = [self._wide.windows[i] for i in self.keyed.program.calendar]
        if not windows:
            return None
        lefts = [edges_us(q, kind="calendar", offset_us=w.offset_us, unit=w.unit, zone=w.zone)[0] for w in windows]
        return np.concatenate(lefts)

    def _enough(self, window: int) -> int:
        """How many of the newest rows do for last_n alone, when no row is passed over; else all of them."""
        measures = [self.layout.measures[o.measure] for o in self.layout.outputs if o.window == window]
        measures = [m for m in measures if _is_slow(self.layout, m)]
        for m in measures:
            complete = any(not self.slots[slot].nullable for slot in arguments(m))
            if m.op is not Op.LAST_N or m.where is not None or m.per is not None or not complete:
                return -1
        return max(m.n for m in measures)

    def _measured(self, window: int, found: Found, q: Int64s) -> dict[str, Column]:
        rows, dictionaries = self._plain(found)
        reader = Reader(self.layout, replace(rows, dictionaries=dictionaries), self.customs)
        at = q - self.layout.windows[window].offset_us
        groups = Groups(found.offsets, np.arange(found.t.size, dtype=np.int64), at)
        outputs = [self.layout.outputs[i] for i in self._slow if self.layout.outputs[i].window == window]
        return {o.name: measure_groups(reader, self.layout.measures[o.measure], o.type, groups) for o in outputs}

    def _plain(self, found: Found) -> tuple[Rows, list[pa.Array | None]]:
        """Found rows as the algebra reads rows: nulls out of the mask bits, codes out of the arena."""
        masks = {mask: i for i, mask in enumerate(self.keyed.program.masks)}
        values: list[npt.NDArray[Any] | None] = []
        valid: list[npt.NDArray[np.bool_] | None] = []
        dictionaries: list[pa.Array | None] = []
        for i, slot in enumerate(self.layout.slots):
            stored, flags = found.values[i], _bits(found.mask, masks.get(Mask(valid=i)))
            if stored is None:
                stored = _bits(found.mask, masks.get(Mask(where=i)))
                flags = None
            dictionary = None
            if slot.kind is SlotKind.CODE and stored is not None:
                kind = self.slots[i].type.arrow
                dictionary, stored = self.interner.dictionary(stored.astype(np.int64), kind)
            values.append(stored.view(np.float64) if slot.kind is SlotKind.FLOAT and stored is not None else stored)
            valid.append(flags)
            dictionaries.append(dictionary)
        key = np.zeros(found.t.size, np.int64)
        return Rows(key, found.t, found.rank, values, valid), dictionaries

    def _is_coded(self, output: Output) -> bool:
        """Whether its values are codes of values in the arena."""
        measure = self.layout.measures[output.measure]
        if measure.op not in (Op.FIRST, Op.LAST) or measure.slot is None or measure.per is not None:
            return False
        return self.layout.slots[measure.slot].kind is SlotKind.CODE

    def _decoded(self, output: Output, column: Column) -> Column:
        slot = self.layout.measures[output.measure].slot
        if slot is None or not self._is_coded(output):
            return column
        codes = np.where(column.valid, column.values, 0)
        dictionary, at = self.interner.dictionary(codes, self.slots[slot].type.arrow)
        return Column(dictionary.take(pa.array(at)), column.status)


@dataclass(frozen=True, slots=True)
class _IdHash:
    """Hashes of event ids as a slot: an asking row is told by them from its own row in the log."""

    type: Type = INT
    nullable: bool = True

    def evaluate(self, table: pa.RecordBatch) -> pa.Array:
        ids = table.column(ID)
        return pa.array(key_hashes([ids]).view(np.int64), mask=np.asarray(ids.is_null()))


class GroupState(LayoutState):
    """The state of a planned group; one that includes the asking row keeps hashes of ids in a slot more."""

    def __init__(self, plan: GroupPlan, handle: Any, root: int, interner: Interner, *, reader: bool = False) -> None:
        self.plan = plan
        customs = {name: type(made) for name, made in plan.customs.items()}
        layout, slots = plan.layout, tuple[SlotValue, ...](plan.slots)
        if layout.include_self:
            layout = replace(layout, slots=(*layout.slots, Slot(ID, SlotKind.INT, "int")))
            slots = (*slots, _IdHash())
        super().__init__(handle, root, layout, slots, interner, reader=reader, customs=customs)


def reach_us(layout: Layout) -> int:
    """How far before q a row may lie and still count in one window and not in another, or not for every later q."""
    reach = 0
    for output in layout.outputs:
        window = layout.windows[output.window]
        match window.kind:
            case WindowKind.TIME:
                reach = max(reach, window.width_us + window.hop_us + window.offset_us)
            case WindowKind.CALENDAR:
                reach = max(reach, _CALENDAR_US[window.unit] + window.offset_us)
            case _:
                reach = max(reach, window.offset_us)
    return reach


_DAY_US = 86_400_000_000
_CALENDAR_US = {"day": 2 * _DAY_US, "week": 8 * _DAY_US, "month": 32 * _DAY_US, "year": 367 * _DAY_US}


def _is_slow(layout: Layout, measure: Measure) -> bool:
    return any(layout.measures[layout.outputs[i].measure] is measure for i in slow_outputs(layout))


def _widened(layout: Layout, slots: Sequence[SlotValue]) -> tuple[Layout, tuple[str, ...]]:
    """The layout with a count of rows over every window, whose names are also given, and with counts that make the
    kernel keep, as mask bits, the nulls and conditions that slow measures read."""
    extra: list[Measure] = [Measure(Op.COUNT)]
    for i in range(len(layout.outputs)) if layout.include_self else slow_outputs(layout):
        measure = layout.measures[layout.outputs[i].measure]
        if layout.include_self and measure.op is Op.SHARE:
            extra.append(Measure(Op.COUNT, where=measure.slot))
        read = {*arguments(measure), *(s for s in (measure.slot2, measure.per) if s is not None)}
        extra += [Measure(Op.COUNT, slot=slot) for slot in sorted(read) if slots[slot].nullable]
        extra += [Measure(Op.COUNT, where=measure.where)] if measure.where is not None else []
    measures = list(layout.measures) + [m for m in dict.fromkeys(extra) if m not in layout.measures]
    windows = sorted({o.window for o in layout.outputs})
    counter = measures.index(extra[0])
    outputs = list(layout.outputs) + [Output(f"_rows_{w}", counter, w, "int") for w in windows]
    outputs += [Output(f"_mask_{i}", measures.index(m), windows[0], "int") for i, m in enumerate(extra[1:])]
    return replace(layout, measures=tuple(measures), outputs=tuple(outputs)), tuple(f"_rows_{w}" for w in windows)


def _bits(mask: npt.NDArray[np.uint8], bit: int | None) -> npt.NDArray[np.bool_] | None:
    return None if bit is None else (mask[:, bit >> 3] >> (bit & 7) & 1).astype(np.bool_)
