"""Instants in zones: local times, and local times made instants across clock changes.

A local time that occurs twice is the first of the two; one that is skipped is read with the offset before the gap
(02:30 becomes 03:30), the rule of Python's `fold=0`, java.time and ICU. Outside the years 1 to 9999 there is no local
time: null.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from penstock.errors import nearest
from penstock.plan.expr.kernels import Kernel, arrow, ints
from penstock.plan.expr.zonefile import FAR_YEAR, NEAR_YEAR, offsets_of, zone_names

__all__ = ["LOCAL", "UTC", "check_zone", "from_local", "to_local"]

UTC = "UTC"
LOCAL = pa.timestamp("us")  # a local time: microseconds since 1970-01-01 00:00 on the zone's clock
_INT, _INSTANT = pa.int64(), pa.timestamp("us", tz="UTC")
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # of the years 1 and 9999
_NEAR = 4_102_358_400_000_000  # 2099-12-31, before the last change of the near tables
_if_else, _is_valid = arrow("if_else"), arrow("is_valid")
_NULL = pa.nulls(1, _INT)[0]


@lru_cache(maxsize=1024)
def check_zone(zone: str) -> str:
    """Why `zone` is no zone, in words; empty when it is one."""
    return "" if zone == UTC or zone in zone_names() else nearest(zone, zone_names())


@lru_cache(maxsize=256)
def to_local(zone: str) -> Kernel:
    """The kernel from instants to local times in the zone."""
    return _mover(zone, to_zone=True)


@lru_cache(maxsize=256)
def from_local(zone: str) -> Kernel:
    """The kernel from local times in the zone to instants."""
    return _mover(zone, to_zone=False)


_Table: TypeAlias = "tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]"


def _table(zone: str, year: int, to_zone: bool) -> _Table:
    """The times at which what is added changes, and what is added."""
    table = offsets_of(zone, year)
    return (table.instants, table.offsets) if to_zone else (table.locals, -table.offsets)


def _mover(zone: str, to_zone: bool) -> Kernel:
    edges, offsets = _table(zone, NEAR_YEAR, to_zone)
    fixed, target = len(edges) == 0 and not offsets[0], LOCAL if to_zone else _INSTANT

    def run(values: Any) -> Any:
        if isinstance(values, pa.Scalar):
            return run(pa.repeat(values, 1))[0]
        whole = values.cast(_INT)
        held = whole.fill_null(0) if whole.null_count else whole
        flat = held.to_numpy()
        outside = len(flat) > 0 and (flat.min() < _FIRST or flat.max() > _LAST)
        if fixed and not outside:
            return whole.cast(target)
        near = not len(flat) or flat.max() < _NEAR
        known, ahead = (edges, offsets) if near else _table(zone, FAR_YEAR, to_zone)
        moved = ints(flat + ahead[known.searchsorted(flat, "right")])
        if outside:
            whole = _inside(whole)
        if whole.null_count:
            moved = _if_else(_is_valid(whole), moved, _NULL)
        return moved.cast(target)

    return run


_greater_equal, _less_equal, _and = arrow("greater_equal"), arrow("less_equal"), arrow("and")
_FIRST_SCALAR, _LAST_SCALAR = ints(np.array([_FIRST]))[0], ints(np.array([_LAST]))[0]


def _inside(values: Any) -> Any:
    within = _and(_greater_equal(values, _FIRST_SCALAR), _less_equal(values, _LAST_SCALAR))
    return _if_else(within, values, _NULL)
