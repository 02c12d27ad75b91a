"""Reads of one key with little Python: buffers are made once, two calls of the kernel answer."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from penstock.algebra.binding import ffi, lib
from penstock.algebra.layout import SlotKind, WindowKind
from penstock.algebra.monoids import Status
from penstock.algebra.program import Kind
from penstock.engine.live.flow import origin_of
from penstock.engine.live.keyed import KeyedState
from penstock.engine.online.present import Moment, Present
from penstock.errors import DataError, EngineError, nearest
from penstock.plan.ir import AsOfPlan, GroupPlan

__all__ = ["PLAIN", "Key", "Plain", "ReadAsOf", "ReadGroup", "Values"]

Plain = float | int | str | bool | None
"""A value that is read one key at a time."""

Key = Sequence[Plain]
Values = tuple[Plain, ...]

_INT, _TEXT = 1, 4
_GOOD = (Status.OK, Status.ZERO)
_PATTERNS = 4_096
_LEAST, _GREATEST = -(2**63), 2**63 - 1
_FORMATS = {Kind.INT: "q", Kind.FLOAT: "d", Kind.DECIMAL: "q8x"}
PLAIN = frozenset({"int", "float", "bool", "text"})
"""Types of such values."""


@dataclass(frozen=True, slots=True)
class _KeySpec:
    """What is read by which key: for the kernel, and for who gives another."""

    what: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]

    def check(self) -> None:
        """Refuses keys that only tables of keys can hold.

        Raises:
            EngineError: a part is neither int nor text.
        """
        for kind in self.kinds:
            if kind not in ("int", "text"):
                raise _refused(f"a key of {kind}")


class _Series:
    """One keyed state, read by one key at a time."""

    def __init__(self, keyed: KeyedState, spec: _KeySpec) -> None:
        program, n = keyed.program, len(spec.kinds)
        self._handle, self._spec, sizes = keyed.handle, spec, program.sizes
        self._pin = keyed
        self._parts = ffi.new("ps_part[]", n)
        self._ints = [ffi.new("int64_t[1]") for _ in spec.kinds]
        self._ends = [ffi.new("int32_t[2]") for _ in spec.kinds]
        self._held: list[Any] = [None] * n
        for i, kind in enumerate(spec.kinds):
            self._parts[i].kind = _INT if kind == "int" else _TEXT
            self._parts[i].values = ffi.cast("void *", self._ints[i])
            self._parts[i].offsets = ffi.cast("void *", self._ends[i])
        self._record, self._hash = ffi.new("ps_off[1]"), ffi.new("uint64_t[1]")
        self._q, self._a = ffi.new("int64_t[1]"), ffi.new("int64_t[1]")
        asked = self._asked = ffi.new("ps_live_asked *")
        asked.n, asked.record, asked.hash, asked.q, asked.a = 1, self._record, self._hash, self._q, self._a
        asked.self, asked.calendar, asked.stride = 0, ffi.NULL, 1
        self._buffer, self._marks = ffi.new("uint8_t[]", sum(sizes) + 8), ffi.new("uint8_t[]", len(sizes))
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._columns = [
            ffi.new("uint8_t *[]", [self._buffer + start for start in starts]),
            ffi.new("uint8_t *[]", [self._marks + i for i in range(len(sizes))]),
        ]
        self._out = ffi.new("ps_columns *")
        self._out.values, self._out.statuses = self._columns
        self._value_bytes = ffi.buffer(self._buffer, sum(sizes))
        self._status_bytes = ffi.buffer(self._marks)
        self._unpack = struct.Struct("=" + "".join(_FORMATS[kind] for kind in program.kinds)).unpack
        self._choose: dict[bytes, Callable[[tuple[Any, ...]], Values]] = {}

    def read(self, key: Key, q_us: int, rank: int) -> Values | None:
        """All outputs, null where there is no value; None where the arena must be mapped again.

        Raises:
            DataError: the key has other parts, or parts of another type.
        """
        self._q[0], self._a[0] = q_us, rank
        if not self._place(key):
            self._record[0] = self._hash[0] = 0
        elif lib.ps_live_find(self._handle, self._parts, len(key), 1, ffi.NULL, 0, self._record, self._hash):
            return None
        if lib.ps_live_query(self._handle, self._asked, self._out):
            return None
        statuses = bytes(self._status_bytes)
        choose = self._choose.get(statuses) or self._chooser(statuses)
        return choose((*self._unpack(self._value_bytes), None))

    def _chooser(self, statuses: bytes) -> Callable[[tuple[Any, ...]], Values]:
        """What takes the values out of what was found and a null; kept, since few patterns of statuses come."""
        if len(self._choose) >= _PATTERNS:
            self._choose.clear()
        n = len(statuses)
        taken = itemgetter(*(i if status in _GOOD else n for i, status in enumerate(statuses)), n)
        self._choose[statuses] = taken
        return taken

    def _place(self, key: Key) -> bool:
        """Puts the key where the kernel looks; False for one with a null part, of which nothing is known."""
        spec = self._spec
        if len(key) != len(spec.kinds):
            raise DataError(f"{spec.what} is read by {', '.join(spec.names)}", found=f"{len(key)} parts")
        for i, part in enumerate(key):
            if part is None:
                return False
            if spec.kinds[i] == "int" and type(part) is int and _LEAST <= part <= _GREATEST:
                self._ints[i][0] = part
            elif spec.kinds[i] == "text" and type(part) is str:
                data = part.encode()
                self._held[i] = ffi.from_buffer("uint8_t[]", data)
                self._parts[i].values = ffi.cast("void *", self._held[i])
                self._ends[i][1] = len(data)
            else:
                raise DataError(f"{spec.names[i]} is {spec.kinds[i]}", found=repr(part))
        return True


class ReadGroup:
    """Features of a group, of one key at a time.

    Args:
        columns: names of features; all by default.

    Raises:
        EngineError: a feature is no number, truth or text, or computed from rows; some window of the group is a
            calendar's; a part of the key is neither int nor text; or the job does not keep the group.
    """

    def __init__(self, present: Present, plan: GroupPlan, columns: Sequence[str] | None = None) -> None:
        self._present, self._plan, self._log = present, plan, origin_of(plan.input).name
        outputs = {output.name: output for output in plan.layout.outputs}
        self.names = tuple(outputs) if columns is None else tuple(columns)
        for name in self.names:
            if name not in outputs:
                raise EngineError("no feature has this name", found=repr(name), remedy=nearest(name, outputs))
        self._outputs = [outputs[name] for name in self.names]
        self._spec = _KeySpec(plan.name.name, plan.key_names, tuple(kind.name for kind in plan.key_types))
        self._state: Any = None
        self._refuse()
        self._bind()

    def read(self, key: Key, moment: Moment, q_us: int) -> Values | None:
        """The features by `names`; None where the arena must be mapped again."""
        if self._present.group(self._plan) is not self._state:
            self._bind()
        found = self._series.read(key, q_us, moment.rank(self._log))
        if found is None:
            return None
        found = self._take(found)
        return found if not self._shown else _shown(found, self._shown)

    def _bind(self) -> None:
        self._state = self._present.group(self._plan)
        for name in self.names:
            if name not in self._state.places:
                raise _refused(f"{name}, which is computed from rows")
        self._series = _Series(self._state.keyed, self._spec)
        self._take = _taker([self._state.places[name] for name in self.names])
        self._shown = _conversions(
            {i: output.type for i, output in enumerate(self._outputs)}, self._state.interner.text
        )

    def _refuse(self) -> None:
        self._spec.check()
        layout = self._plan.layout
        for window in layout.windows:
            if window.kind is WindowKind.CALENDAR:
                raise _refused(f"{window.name}, a calendar's window")
        for output in self._outputs:
            measure = layout.measures[output.measure]
            coded = measure.slot is not None and layout.slots[measure.slot].kind is SlotKind.CODE
            valued = measure.op.name in ("FIRST", "LAST", "MIN", "MAX")
            if output.type not in PLAIN or (coded and valued and output.type != "text"):
                raise _refused(f"{output.name}, {output.type}")


class ReadAsOf:
    """Columns of the newest row of a relation, of one key at a time.

    Raises:
        EngineError: a column is no number, truth or text; a part of the key neither int nor text; or the job does not
            keep the read.
    """

    def __init__(self, present: Present, plan: AsOfPlan, columns: Sequence[str]) -> None:
        self._present, self._plan, self.names = present, plan, tuple(columns)
        self._log = origin_of(plan.relation).name
        self._kinds = {i: str(plan.relation.schema[name].type) for i, name in enumerate(self.names)}
        self._spec = _KeySpec("the row", plan.key_names, tuple(kind.name for kind in plan.key_types))
        self._spec.check()
        for name, kind in zip(self.names, self._kinds.values(), strict=True):
            if kind not in PLAIN:
                raise _refused(f"{name}, {kind}")
        self._nothing: Values = (None,) * len(self.names)
        self._state: Any = None
        self._bind()

    def read(self, key: Key, moment: Moment, q_us: int) -> Values | None:
        """The columns by `names`; None where the arena must be mapped again."""
        if self._present.asof(self._plan) is not self._state:
            self._bind()
        found = self._series.read(key, q_us, moment.rank(self._log))
        if found is None:
            return None
        deleted, t_us, within_us = found[0], found[1], self._plan.within_us
        if t_us is None or deleted or (within_us is not None and q_us - int(t_us) > within_us):
            return self._nothing
        values = tuple([found[place] if found[place + 1] else None for place in self._places])
        return values if not self._shown else _shown(values, self._shown)

    def _bind(self) -> None:
        state = self._state = self._present.asof(self._plan)
        self._series = _Series(state.state.keyed, self._spec)
        self._places = [2 + 2 * state.columns.index(name) for name in self.names]
        self._shown = _conversions(self._kinds, state.state.interner.text)


Conversions = Sequence[tuple[int, Callable[[Any], Plain]]]


def _conversions(kinds: Mapping[int, str], text: Callable[[int], str]) -> Conversions:
    """What makes of the kernel's values what is shown: codes become text, ints become truths."""
    made: dict[str, Callable[[Any], Plain]] = {"text": text, "bool": bool}
    return [(i, made[kind]) for i, kind in kinds.items() if kind in made]


def _shown(values: Values, conversions: Conversions) -> Values:
    made = list(values)
    for i, convert in conversions:
        if made[i] is not None:
            made[i] = convert(made[i])
    return tuple(made)


def _taker(places: Sequence[int]) -> Callable[[Values], Values]:
    if places == list(range(len(places))):
        n = len(places)
        return lambda values: values[:n]
    return lambda values: tuple([values[place] for place in places])


def _refused(found: str) -> EngineError:
    return EngineError(
        "a read of one key gives numbers, truths and text, merged over plain windows, by ints and text",
        found=found,
        remedy="ask online.group or online.view, or prepare the other columns",
    )
