"""The reference: every aggregate as a commutative monoid in plain Python. The kernel must agree with it.

A monoid has `lift` (a row to a state, None when the row does not count), `merge` (associative and commutative, None is
the identity) and `finalize` (a state to (value, status)); a user's own aggregate obeys the same contract. Values are
plain: int (also of decimals, scaled, and of codes), float, bool, None. Floats are added exactly here, as fractions of
integers, so that this is the truth the kernel's bound is stated against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction
from functools import reduce
from typing import Any

from penstock.algebra.layout import Layout, Measure, Op, SlotKind
from penstock.define import Aggregate

__all__ = ["Element", "Monoid", "Status", "aggregate", "arguments", "monoid_of", "own_status"]


class Status(IntEnum):
    """How a value came about; it is null but for OK and ZERO. `word` is what the engines show."""

    OK = 0
    EMPTY = 1  # nothing counted
    OVERFLOW = 2  # the value does not fit its type
    LIMIT = 3  # more different values than the limit
    UNDEFINED = 4  # something counted, but there is no value: the variance of one value, a ratio by 0
    ZERO = 5  # nothing counted, and the value is 0

    @property
    def word(self) -> str:
        """The status as engines show it: ok, empty, overflow or limit."""
        return ("ok", "empty", "overflow", "limit", "ok", "empty")[self]


OK, EMPTY, OVERFLOW, LIMIT, UNDEFINED, ZERO = Status
State = Any
Result = tuple[Any, Status]

_INT64 = 2**63
_DECIMAL = 10**38


@dataclass(frozen=True, slots=True)
class Element:
    """A row as an aggregate sees it: its place in the order, its event time, and one value per slot."""

    position: int
    t: int
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Monoid:
    """The three functions of a measure.

    Attributes:
        finalize: takes the state of at least one counted row, or None, and the instant decay refers to.
    """

    lift: Callable[[Element], State]
    merge: Callable[[State, State], State]
    finalize: Callable[[State, int], Result]


def aggregate(monoid: Monoid, rows: Iterable[Element], at_us: int) -> Result:
    """The result over rows, merged from the left."""
    return monoid.finalize(reduce(_or(monoid.merge), map(monoid.lift, rows), None), at_us)


def arguments(m: Measure) -> tuple[int, ...]:
    """The slots of a measure's arguments, of last_n and custom in the order they were written."""
    return (*(() if m.slot is None else (m.slot,)), *m.slots)


def _or(merge: Callable[[State, State], State]) -> Callable[[State, State], State]:
    return lambda p, q: q if p is None else p if q is None else merge(p, q)


def monoid_of(
    layout: Layout, measure: Measure, sum_type: str = "", custom: Mapping[str, type[Aggregate]] | None = None
) -> Monoid:
    """The monoid of a measure, its `where` and `per` included.

    Args:
        sum_type: declared type of the output; a sum of integers is held to int64 unless it says decimal.
        custom: users' own aggregates by name.
    """
    if measure.per is not None:
        return _per(monoid_of(layout, replace(measure, per=None), sum_type, custom), measure.per)
    made = _simple(layout, measure, sum_type, custom or {})
    where = measure.where
    if where is None:
        return Monoid(made.lift, _or(made.merge), made.finalize)
    return Monoid(lambda row: made.lift(row) if row.values[where] else None, _or(made.merge), made.finalize)


def _per(inner: Monoid, slot: int) -> Monoid:
    """A map from each value of `slot` to the inner result; rows where it is null are dropped."""

    def lift(row: Element) -> State:
        key, state = row.values[slot], inner.lift(row)
        return None if key is None or state is None else {key: state}

    def merge(p: State, q: State) -> State:
        return {key: inner.merge(p.get(key), q.get(key)) for key in p | q}

    def finalize(state: State, at_us: int) -> Result:
        if not state:
            return None, EMPTY
        results = {key: inner.finalize(state[key], at_us) for key in sorted(state)}
        worst = next((status for _, status in results.values() if status in (OVERFLOW, LIMIT)), OK)
        return {key: value for key, (value, _) in results.items()}, worst

    return Monoid(lift, _or(merge), finalize)


def _simple(layout: Layout, m: Measure, sum_type: str, custom: Mapping[str, type[Aggregate]]) -> Monoid:
    if m.op is Op.COUNT:
        slot = m.slot
        lift = (lambda row: 1) if slot is None else (lambda row: None if row.values[slot] is None else 1)
        return Monoid(lift, lambda p, q: p + q, lambda s, at: (s, OK) if s else (0, ZERO))
    if m.op in (Op.DECAYED_COUNT, Op.DECAYED_SUM):
        return _decay(layout, m)
    if m.op is Op.LAST_N:
        return _last_n(m)
    if m.op is Op.CUSTOM:
        return _custom(custom[m.custom](), arguments(m))
    assert m.slot is not None, m.op
    if m.op is Op.RATIO:
        return _ratio(layout, m)
    return _of_value(layout, m, m.slot, sum_type)


def _of_value(layout: Layout, m: Measure, slot: int, sum_type: str) -> Monoid:
    scale, floats = layout.slots[slot].scale, layout.slots[slot].kind is SlotKind.FLOAT

    def value(row: Element) -> Any:
        return row.values[slot]

    def plain(state: Callable[[Element], State]) -> Callable[[Element], State]:
        return lambda row: None if value(row) is None else state(row)

    def some(result: Callable[[State], Result]) -> Callable[[State, int], Result]:
        return lambda s, at: (None, EMPTY) if s is None else result(s)

    match m.op:
        case Op.SUM:
            decimal = sum_type.startswith("decimal") or layout.slots[slot].kind is SlotKind.DECIMAL
            as_float = floats or sum_type.startswith(("float", "double"))
            finish = some(lambda s: _float(s / 10**scale) if as_float else _whole(int(s), decimal))
            return Monoid(plain(lambda row: Fraction(value(row))), lambda p, q: p + q, finish)
        case Op.MEAN | Op.SHARE:
            return Monoid(plain(lambda row: (1, Fraction(value(row)))), _pairs, some(lambda s: _mean(s, scale)))
        case Op.VARIANCE | Op.STD:
            lift = plain(lambda row: (1, Fraction(value(row)), Fraction(value(row)) ** 2))
            return Monoid(lift, _pairs, some(lambda s: _spread(s, scale, m.op is Op.STD)))
        case Op.MIN:
            return Monoid(plain(value), min, some(lambda s: (s, OK)))
        case Op.MAX:
            return Monoid(plain(value), max, some(lambda s: (s, OK)))
        case Op.FIRST:
            return Monoid(plain(lambda row: (row.position, value(row))), min, some(lambda s: (s[1], OK)))
        case Op.LAST:
            return Monoid(plain(lambda row: (row.position, value(row))), max, some(lambda s: (s[1], OK)))
        case Op.DISTINCT:
            return Monoid(
                plain(lambda row: frozenset((value(row),))), lambda p, q: p | q, lambda s, at: _size(s, m.limit)
            )
    raise AssertionError(f"{m.op} has no reference by values")


def _size(s: State, limit: int) -> Result:
    n = len(s or ())
    return (None, LIMIT) if limit and n > limit else (n, OK) if n else (0, ZERO)


def _pairs(p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x + y for x, y in zip(p, q, strict=True))


def _float(x: Fraction) -> Result:
    try:
        return float(x), OK
    except OverflowError:
        return None, OVERFLOW


def _whole(x: int, decimal: bool) -> Result:
    fits = abs(x) < _DECIMAL if decimal else -_INT64 <= x < _INT64
    return (x, OK) if fits else (None, OVERFLOW)


def _mean(state: tuple[int, Fraction], scale: int) -> Result:
    return _float(state[1] / state[0] / 10**scale)


def _spread(state: tuple[int, Fraction, Fraction], scale: int, root: bool) -> Result:
    n, total, squares = state
    if n < 2:
        return None, UNDEFINED
    variance = (squares - total * total / n) / (n - 1) / 10 ** (2 * scale)
    result, status = _float(variance)
    return (math.sqrt(result), OK) if root and status == OK else (result, status)


def _ratio(layout: Layout, m: Measure) -> Monoid:
    above, below = m.slot, m.slot2
    assert above is not None and below is not None
    shift = Fraction(10) ** (layout.slots[below].scale - layout.slots[above].scale)

    def part(x: Any) -> tuple[int, Fraction]:
        return (0, Fraction(0)) if x is None else (1, Fraction(x))

    def finalize(state: State, at_us: int) -> Result:
        if state is None or not state[0] + state[2]:
            return None, EMPTY
        if not state[0] or not state[2] or not state[3]:
            return None, UNDEFINED
        return _float(state[1] / state[3] * shift)

    return Monoid(lambda row: part(row.values[above]) + part(row.values[below]), _pairs, finalize)


def _decay(layout: Layout, m: Measure) -> Monoid:
    """State: (instant, sum as of it); merging rescales to the later instant."""
    slot, count = m.slot, m.op is Op.DECAYED_COUNT
    scale = 0 if count or slot is None else layout.slots[slot].scale

    def lift(row: Element) -> State:
        if slot is None:
            return row.t, 1.0
        x = row.values[slot]
        return None if x is None else (row.t, 1.0 if count else float(x))

    def at(state: State, instant: int) -> float:
        weighed: float = state[1] * 2.0 ** ((state[0] - instant) / m.half_life_us)
        return weighed

    def merge(p: State, q: State) -> State:
        later = max(p[0], q[0])
        return later, at(p, later) + at(q, later)

    def finalize(state: State, at_us: int) -> Result:
        if state is None:
            return (0.0, ZERO) if count else (None, EMPTY)
        return at(state, at_us) / 10**scale, OK

    return Monoid(lift, merge, finalize)


def _last_n(m: Measure) -> Monoid:
    slots = arguments(m)

    def lift(row: Element) -> State:
        values = tuple(row.values[slot] for slot in slots)
        return None if all(x is None for x in values) else ((row.position, values),)

    def merge(p: State, q: State) -> State:
        return tuple(sorted(p + q, key=lambda item: -item[0])[: m.n])

    def finalize(state: State, at_us: int) -> Result:
        if state is None:
            return None, EMPTY
        return [values[0] if len(slots) == 1 else values for _, values in state], OK

    return Monoid(lift, merge, finalize)


def own_status(value: Any, counted: bool) -> Status:
    """The status of what a user's own aggregate returned; ints must fit 64 bits, floats be finite."""
    if not counted:
        return EMPTY
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return OVERFLOW
    if isinstance(value, float) and not math.isfinite(value):
        return OVERFLOW
    return UNDEFINED if value is None else OK


def _custom(own: Aggregate, slots: tuple[int, ...]) -> Monoid:
    def lift(row: Element) -> State:
        values = [row.values[slot] for slot in slots]
        return None if any(x is None for x in values) else (own.lift(*values),)

    def finalize(state: State, at_us: int) -> Result:
        if state is None:
            return None, EMPTY
        value = own.finalize(state[0])
        status = own_status(value, True)
        return (None if status is OVERFLOW else value), status

    return Monoid(lift, lambda p, q: (own.merge(p[0], q[0]),), finalize)
