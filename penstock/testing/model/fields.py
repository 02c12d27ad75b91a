"""Aggregates as monoids: a row lifts to a state, states merge in any order, a state ends in a value. Exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from penstock.define.aggregate import Agg
from penstock.testing.conformance import FoundCell
from penstock.testing.oracle.rows import Row
from penstock.testing.oracle.sql import Functions, evaluate, is_true

__all__ = ["State", "lift", "merge", "value_of"]

State = Any
Order = tuple[int, int, int, int, int]


class Total(NamedTuple):
    """A sum: of ints (0), decimals (1) or floats (2) with so many decimal places."""

    exact: Fraction
    kind: int
    places: int


class Moments(NamedTuple):
    """n, mean and the sum of squared distances from it."""

    n: int
    mean: Fraction
    m2: Fraction


class Decayed(NamedTuple):
    """A weighted sum, with the weights as of an instant."""

    at_us: int
    total: float


def lift(agg: Agg, row: Row, functions: Functions) -> State | None:
    """The state of one row; None where it does not count. With a bucket {bucket: state}."""
    if agg.condition is not None and not is_true(agg.condition, row.values, functions):
        return None
    values = tuple(evaluate(arg, row.values, functions) for arg in agg.args)
    if values and all(value is None for value in values):
        return None
    if agg.op == "custom" and None in values:
        return None
    state = _lift(agg, row, values)
    if agg.bucket is None:
        return state
    bucket = evaluate(agg.bucket, row.values, functions)
    return None if bucket is None else {bucket: state}


def _lift(agg: Agg, row: Row, values: tuple[Any, ...]) -> State:
    match agg.op:
        case "count":
            return 1
        case "distinct" | "distinct_approx":
            return frozenset(values)
        case "sum":
            return _total(values[0])
        case "ratio":
            return tuple(None if value is None else _total(value) for value in values)
        case "mean" | "share" | "variance" | "std":
            return Moments(1, Fraction(values[0]), Fraction(0))
        case "first" | "last" | "last_n":
            return ((row.order, values),)
        case "decayed_sum" | "decayed_count":
            return Decayed(row.t, float(values[0]) if values else 1.0)
        case "custom":
            assert agg.custom is not None
            return agg.custom().lift(*values)
    return values[0]


def _total(value: Any) -> Total:
    if isinstance(value, float):
        return Total(Fraction(value), 2, 0)
    if isinstance(value, Decimal):
        return Total(Fraction(value), 1, max(0, -int(value.as_tuple().exponent)))
    return Total(Fraction(value), 0, 0)


def merge(agg: Agg, p: State | None, q: State | None) -> State | None:
    """The state of two disjoint sets of rows."""
    if p is None or q is None:
        return q if p is None else p
    if agg.bucket is None:
        return _merge(agg, p, q)
    return {**p, **q, **{bucket: _merge(agg, p[bucket], q[bucket]) for bucket in p.keys() & q.keys()}}


def _merge(agg: Agg, p: State, q: State) -> State:
    match agg.op:
        case "count":
            return p + q
        case "distinct" | "distinct_approx":
            return p | q
        case "sum":
            return _plus(p, q)
        case "ratio":
            return tuple(map(_plus, p, q))
        case "mean" | "share" | "variance" | "std":
            n, apart = p.n + q.n, q.mean - p.mean
            return Moments(n, p.mean + apart * q.n / n, p.m2 + q.m2 + apart * apart * p.n * q.n / n)
        case "first" | "last" | "last_n":
            found = sorted(p + q, key=lambda entry: entry[0])
            return tuple(found[: max(1, agg.n)] if agg.op == "first" else found[-max(1, agg.n) :])
        case "decayed_sum" | "decayed_count":
            later = max(p.at_us, q.at_us)
            return Decayed(later, sum(_at(state, later, agg.half_life_us) for state in (p, q)))
        case "custom":
            assert agg.custom is not None
            return agg.custom().merge(p, q)
    return min(p, q) if agg.op == "min" else max(p, q)


def _plus(p: Total | None, q: Total | None) -> Total | None:
    if p is None or q is None:
        return q if p is None else p
    return Total(p.exact + q.exact, max(p.kind, q.kind), max(p.places, q.places))


def _at(state: Decayed, at_us: int, half_life_us: int) -> float:
    return state.total * float(2.0 ** (-(at_us - state.at_us) / half_life_us))


def value_of(agg: Agg, state: State | None, reference_us: int) -> FoundCell:
    """The value of a state and its status.

    Args:
        reference_us: the window's right edge, from which decay counts.
    """
    if agg.bucket is None:
        return _value(agg, state, reference_us)
    if state is None:
        return FoundCell(None, "empty")
    cells = {bucket: _value(agg, inner, reference_us) for bucket, inner in state.items()}
    worst = next((cell.status for cell in cells.values() if cell.status not in ("ok", "empty")), "ok")
    return FoundCell({bucket: cell.value for bucket, cell in cells.items()}, worst)


def _value(agg: Agg, state: State | None, reference_us: int) -> FoundCell:
    if state is None:
        zero = 0.0 if agg.op == "decayed_count" else 0
        nothing = agg.op in ("count", "distinct", "distinct_approx", "decayed_count")
        return FoundCell(zero if nothing else None, "empty")
    if agg.op == "distinct" and len(state) > agg.limit:
        return FoundCell(None, "limit")
    if agg.op == "sum":
        return _sum(state)
    return FoundCell(_ENDS[agg.op](agg, state, reference_us) if agg.op in _ENDS else state)


def _sum(state: Total) -> FoundCell:
    if state.kind == 2:
        return FoundCell(float(state.exact))
    if state.kind == 1:
        scaled = int(state.exact * 10**state.places)
        return (
            FoundCell(None, "overflow") if abs(scaled) >= 10**38 else FoundCell(Decimal(scaled).scaleb(-state.places))
        )
    whole = int(state.exact)
    return FoundCell(whole) if -(2**63) <= whole < 2**63 else FoundCell(None, "overflow")


def _ratio(state: tuple[Total | None, Total | None]) -> float | None:
    above, below = state
    return None if above is None or below is None or below.exact == 0 else float(above.exact / below.exact)


def _spread(agg: Agg, state: Moments) -> float | None:
    if state.n < 2:
        return None
    return math.sqrt(state.m2 / (state.n - 1)) if agg.op == "std" else float(state.m2 / (state.n - 1))


def _newest(agg: Agg, state: tuple[tuple[Order, tuple[Any, ...]], ...]) -> list[Any]:
    return [values[0] if len(agg.args) == 1 else values for _, values in reversed(state)]


def _custom(agg: Agg, state: State) -> Any:
    assert agg.custom is not None
    return agg.custom().finalize(state)


_ENDS: dict[str, Callable[[Agg, State, int], Any]] = {
    "mean": lambda agg, state, at: float(state.mean),
    "share": lambda agg, state, at: float(state.mean),
    "variance": lambda agg, state, at: _spread(agg, state),
    "std": lambda agg, state, at: _spread(agg, state),
    "first": lambda agg, state, at: state[0][1][0],
    "last": lambda agg, state, at: state[0][1][0],
    "last_n": lambda agg, state, at: _newest(agg, state),
    "distinct": lambda agg, state, at: len(state),
    "distinct_approx": lambda agg, state, at: len(state),
    "ratio": lambda agg, state, at: _ratio(state),
    "decayed_sum": lambda agg, state, at: _at(state, at, agg.half_life_us),
    "decayed_count": lambda agg, state, at: _at(state, at, agg.half_life_us),
    "custom": lambda agg, state, at: _custom(agg, state),
}
