"""Whether an engine's answer is the oracle's, with the bounds of `time.md`, Values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from penstock.testing.conformance.cases import Found, FoundCell
from penstock.testing.oracle import Answer, Cell, Row
from penstock.testing.oracle.rows import plain

__all__ = ["FLOAT_BOUND", "SKETCH_BOUND", "differences"]

FLOAT_BOUND = 1e-9
SKETCH_BOUND = 0.05
"""Allowed relative error of an approximate distinct count, and at least one."""


def differences(expected: Answer | Sequence[Row], found: Found) -> list[str]:
    """Each column, or row, that differs, in words; empty when all is equal."""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            return [f"expected columns, found {found!r}"]
        return _columns(expected, found)
    if isinstance(found, Mapping):
        return [f"expected rows, found {found!r}"]
    return _rows(expected, found)


def _columns(expected: Answer, found: Mapping[str, FoundCell]) -> list[str]:
    words = [f"{name}: missing" for name in expected if name not in found]
    for name, cell in expected.items():
        if name in found:
            words += [f"{name}: {text}" for text in _cell(cell, found[name])]
    return words


def _cell(cell: Cell, found: FoundCell) -> list[str]:
    words = []
    if not _equal(cell, found.value):
        words.append(f"expected {_shown(cell)}, found {found.value!r}")
    if found.status is not None and cell.scale != math.inf and not _same_status(cell.status, found.status):
        words.append(f"expected status {cell.status}, found {found.status}")
    return words


def _same_status(expected: str, found: str) -> bool:
    return expected == found or {expected, found} <= {"ok", "empty"}


def _shown(cell: Cell) -> str:
    if isinstance(cell.value, Mapping):
        return "{" + ", ".join(f"{bucket!r}: {_shown(inner)}" for bucket, inner in cell.value.items()) + "}"
    return f"{cell.value!r} ({cell.status}, scale {cell.scale})"


def _equal(cell: Cell, found: Any) -> bool:
    if isinstance(cell.value, Mapping):
        items = dict(found) if isinstance(found, Mapping | list) else None
        if not all(isinstance(inner, Cell) for inner in cell.value.values()):
            return same(cell.value, found)
        return (
            items is not None
            and items.keys() == cell.value.keys()
            and all(_equal(cell.value[key], items[key]) for key in items)
        )
    if cell.scale == math.inf:
        return True
    if cell.value is None or found is None:
        return cell.value is None and found is None
    if cell.approximate:
        return bool(abs(found - cell.value) <= max(1, SKETCH_BOUND * cell.value))
    if cell.scale is not None:
        return _near(float(cell.value), float(found), cell)
    return same(cell.value, found)


def _near(expected: float, found: float, cell: Cell) -> bool:
    assert cell.scale is not None
    if cell.squared:
        expected, found = expected * expected, found * found
    return abs(found - expected) <= FLOAT_BOUND * max(abs(expected), cell.scale)


def same(expected: Any, found: Any) -> bool:
    """Whether two exact values are equal; numbers of one kind by value, a bool never equals a number."""
    if isinstance(found, datetime | timedelta):
        found = plain(found)
    if isinstance(expected, list | tuple):
        values = list(found.values()) if isinstance(found, Mapping) else found
        return isinstance(values, list | tuple) and len(values) == len(expected) and all(map(same, expected, values))
    if isinstance(expected, Mapping):
        if isinstance(found, tuple):  # a struct given by its fields in order
            return len(found) == len(expected) and all(map(same, expected.values(), found))
        items = dict(found) if isinstance(found, Mapping | list) else {}
        return expected.keys() == items.keys() and all(same(expected[key], items[key]) for key in expected)
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, float) and isinstance(found, float):
        return expected == found or abs(expected - found) <= FLOAT_BOUND * abs(expected)
    if isinstance(expected, Decimal) != isinstance(found, Decimal):
        return False
    return type(expected) is type(found) and bool(expected == found)


def _rows(expected: Sequence[Row], found: Sequence[Row]) -> list[str]:
    if len(expected) != len(found):
        return [f"expected {len(expected)} rows, found {len(found)}", f"expected {expected}", f"found {found}"]
    words = []
    for number, (one, two) in enumerate(zip(expected, found, strict=True)):
        if (one.order, one.id) != (two.order, two.id):
            words.append(f"row {number}: expected {one.order} {one.id!r}, found {two.order} {two.id!r}")
        for name, value in one.values.items():
            cell = value if isinstance(value, Cell) else None
            shown = two.values.get(name)
            if not (_equal(cell, shown) if cell is not None else same(value, shown)):
                expected_words = _shown(cell) if cell is not None else repr(value)
                words.append(f"row {number}.{name}: expected {expected_words}, found {shown!r}")
    return words
