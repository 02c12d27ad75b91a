"""What an aggregate makes of the rows of a window: `time.md`, Values. Exact arithmetic, then one rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from penstock.define.aggregate import Agg
from penstock.testing.oracle.rows import Row
from penstock.testing.oracle.sql import Functions, evaluate, is_true

__all__ = ["Cell", "fold"]

ANYTHING = math.inf


@dataclass(frozen=True, slots=True)
class Cell:
    """One answer.

    Attributes:
        value: a plain value; of an aggregate with a bucket {bucket: Cell}; of last_n a list, of {argument: value} when
            there are several.
        status: ok, empty, unseen, stale, deleted, overflow or limit.
        scale: an engine's float may be off by 1e-9 x max(|value|, scale); None: it must be equal.
        squared: the bound holds for the square of the value, and the scale is that of the square.
        approximate: an engine's count may be off by the error of its sketch.
    """

    value: Any
    status: str = "ok"
    scale: float | None = None
    squared: bool = False
    approximate: bool = False


EMPTY = Cell(None, "empty")


def fold(agg: Agg, rows: Sequence[Row], reference_us: int, functions: Functions | None = None) -> Cell:
    """An aggregate over rows in order.

    Args:
        reference_us: the window's right edge, from which decay counts.
    """
    if agg.condition is not None:
        rows = [row for row in rows if is_true(agg.condition, row.values, functions)]
    lifted = [(row, tuple(evaluate(arg, row.values, functions) for arg in agg.args)) for row in rows]
    lifted = [(row, values) for row, values in lifted if not values or any(v is not None for v in values)]
    if agg.bucket is None:
        return _fold(agg, lifted, reference_us)
    buckets: dict[Any, list[tuple[Row, tuple[Any, ...]]]] = {}
    for row, values in lifted:
        bucket = evaluate(agg.bucket, row.values, functions)
        if bucket is not None and not (agg.op == "custom" and None in values):
            buckets.setdefault(bucket, []).append((row, values))
    cells = {bucket: _fold(agg, found, reference_us) for bucket, found in buckets.items()}
    if not cells:
        return EMPTY
    worst = next((cell.status for cell in cells.values() if cell.status not in ("ok", "empty")), "ok")
    return Cell(cells, worst)


def _fold(agg: Agg, lifted: list[tuple[Row, tuple[Any, ...]]], reference_us: int) -> Cell:
    match agg.op:
        case "any":
            return Cell(bool(lifted))
        case "count":
            return Cell(len(lifted), "ok" if lifted else "empty")
        case "distinct" | "distinct_approx":
            return _distinct(agg, lifted)
        case "custom":
            return _custom(agg, [values for _, values in lifted if None not in values])
        case "decayed_sum" | "decayed_count":
            return _decayed(agg, lifted, reference_us)
        case "ratio":
            return _ratio(lifted)
    if not lifted:
        return EMPTY
    if agg.op == "last_n":
        newest = [values for _, values in lifted[-agg.n :]][::-1]
        if len(agg.args) == 1:
            return Cell([values[0] for values in newest])
        return Cell([dict(zip(agg.args, values, strict=True)) for values in newest])
    return _one(agg.op, [values[0] for _, values in lifted])


def _one(op: str, values: list[Any]) -> Cell:
    match op:
        case "first":
            return Cell(values[0])
        case "last":
            return Cell(values[-1])
        case "min":
            return Cell(min(values))
        case "max":
            return Cell(max(values))
        case "sum":
            return _sum(values)
    exact = [Fraction(value) for value in values]
    n = len(exact)
    mean = _total(exact) / n
    if op in ("mean", "share"):
        return _float(mean, _total(map(abs, exact)) / n)
    if n < 2:
        return Cell(None)
    variance = _total((x - mean) ** 2 for x in exact) / (n - 1)
    scale = float(_total(x * x for x in exact) / n)
    return Cell(math.sqrt(variance), "ok", scale, squared=True) if op == "std" else Cell(float(variance), "ok", scale)


def _total(values: Iterable[Any]) -> Fraction:
    return sum(map(Fraction, values), Fraction(0))


def _float(exact: Fraction, scale: Fraction) -> Cell:
    try:
        return Cell(float(exact), "ok", float(scale))
    except OverflowError:
        return Cell(None, "overflow")


def _sum(values: list[Any]) -> Cell:
    if any(isinstance(value, float) for value in values):
        return _float(_total(values), _total(map(abs, values)))
    if any(isinstance(value, Decimal) for value in values):
        total = _total(values)
        places = max(-int(value.as_tuple().exponent) for value in map(Decimal, values))
        scaled = total * 10 ** max(0, places)
        if abs(scaled) >= 10**38:
            return Cell(None, "overflow")
        return Cell(Decimal(int(scaled)).scaleb(-max(0, places)))
    exact = sum(map(int, values))
    return Cell(exact) if -(2**63) <= exact < 2**63 else Cell(None, "overflow")


def _ratio(lifted: list[tuple[Row, tuple[Any, ...]]]) -> Cell:
    above = [values[0] for _, values in lifted if values[0] is not None]
    below = [values[1] for _, values in lifted if values[1] is not None]
    if not above or not below:
        return Cell(None, "ok" if lifted else "empty")
    floats = any(isinstance(value, float) for _, values in lifted for value in values)
    numerator, denominator, size = _total(above), _total(below), _total(map(abs, below))
    if floats and abs(denominator) <= size * Fraction(1, 10**9):
        return Cell(None, "ok", ANYTHING)
    if denominator == 0:
        return Cell(None)
    value = numerator / denominator
    return _float(value, _total(map(abs, above)) / abs(denominator) + abs(value) * size / abs(denominator))


def _decayed(agg: Agg, lifted: list[tuple[Row, tuple[Any, ...]]], reference_us: int) -> Cell:
    if not lifted:
        return Cell(0.0, "empty", 0.0) if agg.op == "decayed_count" else EMPTY
    terms = []
    for row, values in lifted:
        weight = Fraction(2.0 ** (-(reference_us - row.t) / agg.half_life_us))
        terms.append(weight * Fraction(values[0]) if values else weight)
    return _float(_total(terms), _total(map(abs, terms)))


def _distinct(agg: Agg, lifted: list[tuple[Row, tuple[Any, ...]]]) -> Cell:
    n = len({values[0] for _, values in lifted})
    if agg.op == "distinct_approx":
        return Cell(n, "ok" if n else "empty", approximate=True)
    return Cell(None, "limit") if n > agg.limit else Cell(n, "ok" if n else "empty")


def _custom(agg: Agg, lifted: list[tuple[Any, ...]]) -> Cell:
    if not lifted:
        return EMPTY
    assert agg.custom is not None
    own = agg.custom()
    merge: Callable[[Any, Any], Any] = own.merge
    state = own.lift(*lifted[0])
    for values in lifted[1:]:
        state = merge(state, own.lift(*values))
    value = own.finalize(state)
    return Cell(value, "ok", 1.0 if isinstance(value, float) else None)
