"""The naive oracle of the algebra's tests: rows picked one by one, aggregated by the reference monoids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.algebra.layout import Layout, Measure, Op, SlotKind, Window, WindowKind
from penstock.algebra.measures import decimal_ints, decimal_pairs
from penstock.algebra.monoids import Element, Status, aggregate, monoid_of
from penstock.algebra.table import Column, Queries, Rows
from penstock.define import Aggregate
from penstock.semantics.windows import edges_us

NEVER = 2**63 - 1


@dataclass(frozen=True)
class Row:
    key: int
    t: int
    kf: int
    kt: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Query:
    key: int
    q: int
    a: int
    self_row: int = -1


def table_of(layout: Layout, rows: Sequence[Row]) -> Rows:
    """Rows, sorted by (key, t, kf), as the kernel takes them."""
    values: list[Any] = []
    valid: list[Any] = []
    for i, slot in enumerate(layout.slots):
        column = [row.values[i] for row in rows]
        flags = np.array([x is not None for x in column], np.bool_)
        plain = [0 if x is None else x for x in column]
        if slot.kind is SlotKind.DECIMAL:
            values.append(decimal_pairs(plain))
        else:
            kind = {SlotKind.FLOAT: np.float64, SlotKind.BOOL: np.uint8}.get(slot.kind, np.int64)
            values.append(np.array(plain, kind))
        valid.append(None if flags.all() else flags)
    kt = np.array([row.kt for row in rows], np.int64)
    return Rows(
        key=np.array([row.key for row in rows], np.int64),
        t=np.array([row.t for row in rows], np.int64),
        known_from=np.array([row.kf for row in rows], np.int64),
        known_until=None if (kt == NEVER).all() else kt,
        values=values,
        valid=valid,
    )


def queries_of(queries: Sequence[Query]) -> Queries:
    def column(name: str) -> Any:
        return np.array([getattr(query, name) for query in queries], np.int64)

    return Queries(column("key"), column("q"), column("a"), column("self_row"))


def covered(rows: Sequence[Row], query: Query, window: Window) -> list[int]:
    """Indices of the rows of a query's key that count in a window, in order."""
    left, right = (int(edge[0]) for edge in edges_us(
        np.array([query.q]), kind=window.kind, width_us=window.width_us, hop_us=window.hop_us,
        offset_us=window.offset_us, closed=window.closed, unit=window.unit, zone=window.zone,
    ))  # fmt: skip
    found = []
    for i, row in enumerate(rows):
        inside = left <= row.t < right and row.kf <= query.a < row.kt
        if row.key == query.key and (inside or (i == query.self_row and window.offset_us == 0)):
            found.append(i)
    return found[-window.n :] if window.kind is WindowKind.ROWS else found


def expected(
    layout: Layout, rows: Sequence[Row], query: Query, output: int, custom: Mapping[str, type[Aggregate]] | None = None
) -> tuple[Any, Status, float]:
    """(value, status, scale of the error bound) of one output of one query."""
    out = layout.outputs[output]
    measure, window = layout.measures[out.measure], layout.windows[out.window]
    indices = covered(rows, query, window)
    elements = [Element(i, rows[i].t, rows[i].values) for i in indices]
    at = query.q - window.offset_us
    value, status = aggregate(monoid_of(layout, measure, out.type, custom), elements, at)
    return value, status, scale_of(layout, measure, elements, at)


def scale_of(layout: Layout, measure: Measure, elements: Sequence[Element], at: int) -> float:
    """What 1e-9 is relative to, beside the value: see docs/design/kernel.md."""
    if measure.slot is None:
        return 0.0
    unit = 10 ** layout.slots[measure.slot].scale
    x = [abs(Fraction(e.values[measure.slot])) / unit for e in elements if e.values[measure.slot] is not None]
    if not x or layout.slots[measure.slot].kind is SlotKind.CODE:
        return 0.0
    match measure.op:
        case Op.SUM | Op.DECAYED_SUM:
            return float(sum(x))
        case Op.MEAN:
            return float(sum(x) / len(x))
        case Op.VARIANCE:
            return float(sum(v * v for v in x) / len(x))
        case Op.STD:
            return math.sqrt(sum(v * v for v in x) / len(x))
        case Op.RATIO:
            assert measure.slot2 is not None
            y = [e.values[measure.slot2] for e in elements if e.values[measure.slot2] is not None]
            below = abs(sum(map(Fraction, y))) / 10 ** layout.slots[measure.slot2].scale
            return float(sum(x) / below) if below else 0.0
    return 0.0


def plain(layout: Layout, output: int, column: Column, i: int) -> Any:
    """A value of a column as the reference has it: decimals scaled ints, null None."""
    if isinstance(column.values, pa.Array):
        return unwrapped(column.values[i].as_py())
    if not column.valid[i]:
        return None
    return decimal_ints(column.values[i : i + 1])[0] if column.values.ndim == 2 else column.values[i].item()


def unwrapped(value: Any) -> Any:
    """Decimals as scaled ints (of scale 2), maps as dicts, structs as tuples."""
    if isinstance(value, dict):
        return tuple(unwrapped(x) for x in value.values())
    if isinstance(value, list):
        if value and isinstance(value[0], tuple) and len(value[0]) == 2 and not isinstance(value[0], dict):
            return {unwrapped(key): unwrapped(x) for key, x in value}
        return [unwrapped(x) for x in value]
    return value


def close(found: Any, wanted: Any, scale: float) -> bool:
    """Equal, or floats within the bound."""
    if isinstance(wanted, dict):
        same = isinstance(found, dict) and found.keys() == wanted.keys()
        return same and all(close(found[key], wanted[key], scale) for key in wanted)
    if isinstance(wanted, float) and isinstance(found, float):
        return abs(found - wanted) <= 1e-9 * max(abs(wanted), scale) + 1e-300
    return bool(found == wanted)
