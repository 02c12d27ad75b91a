"""Where windows begin and end: `time.md`, A query. Instants are int64 microseconds UTC; everything is vectorised.

A window's rows have left <= t < right. Edges are exact integers; an edge beyond int64 is held at its end.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from penstock.errors import PlanError

__all__ = ["UNITS", "Instants", "calendar_start_us", "default_hop_us", "edges_us", "floor_us"]

Instants = npt.NDArray[np.int64]

_SECOND: Final = 1_000_000
_HOPS: Final = tuple(s * _SECOND for s in (86_400, 21_600, 3_600, 900, 300, 60, 10, 1))
UNITS: Final = ("day", "week", "month", "year")
MIN_US: Final = -(2**63)
MAX_US: Final = 2**63 - 1


def floor_us(x: Instants, hop_us: int) -> Instants:
    """The last multiple of `hop_us` at or before each instant, aligned to the epoch; `x` itself when it is 0.

    >>> floor_us(np.array([-1, 0, 7]), 5).tolist()
    [-5, 0, 5]
    """
    return x if hop_us == 0 else (x - np.mod(x, hop_us)).astype(np.int64)


def default_hop_us(width_us: int) -> int:
    """The longest of 1 s, 10 s, 1 min, 5 min, 15 min, 1 h, 6 h, 1 d that is at most width / 24; 0 (exact) under 24 s.

    >>> default_hop_us(3_600 * 1_000_000) // 1_000_000
    60
    """
    return next((hop for hop in _HOPS if hop * 24 <= width_us), 0)


def edges_us(
    q: Instants,
    *,
    kind: str,
    width_us: int = 0,
    hop_us: int = 0,
    offset_us: int = 0,
    closed: str = "left",
    unit: str = "",
    zone: str = "",
) -> tuple[Instants, Instants]:
    """Left and right edges of a window at each `q`: rows with left <= t < right count.

    Args:
        kind: time, lifetime, calendar or rows (the last has no left edge in time).
        closed: "left"; "right" is the left-closed rule applied to t - 1 us; "both" adds the rows at exactly q - offset.
    """
    end = _shift(q, -offset_us)
    match kind:
        case "time":
            left = floor_us(_shift(end, -width_us), hop_us)
        case "calendar":
            left = calendar_start_us(end, unit, zone)
        case _:
            left = np.full(q.shape, MIN_US, np.int64)
    if closed == "right" and kind in ("time", "calendar"):
        left = _shift(left, 1)
    return left, end if closed == "left" else _shift(end, 1)


def _shift(x: Instants, by: int) -> Instants:
    """x + by, held at the ends of int64."""
    if by >= 0:
        return np.minimum(x, MAX_US - by) + np.int64(by)
    return np.maximum(x, MIN_US - by) + np.int64(by)


def calendar_start_us(x: Instants, unit: str, zone: str) -> Instants:
    """The last local boundary (day, week from Monday, month, year) at or before each instant.

    A day begins at its first local midnight; where a clock change skips midnight, at the change.

    Raises:
        PlanError: the unit or the zone is unknown.
    """
    if unit not in UNITS:
        raise PlanError(
            f"a calendar window of unit {unit!r}", found=repr(unit), remedy=f"use one of {', '.join(UNITS)}"
        )
    if x.size == 0:
        return x.astype(np.int64)
    starts = _boundaries(int(x.min()), int(x.max()), unit, _zone(zone))
    return starts[np.searchsorted(starts, x, side="right") - 1]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise PlanError(
            f"a calendar window in zone {name!r}", found=repr(name), remedy="use an IANA name such as Asia/Shanghai"
        ) from error


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = date(1, 1, 3)
_LAST_DAY = date(9999, 12, 29)


def _boundaries(low_us: int, high_us: int, unit: str, zone: ZoneInfo) -> Instants:
    """All boundaries from the last at or before `low_us` to the first after `high_us`, rising."""
    day = _period(_local_day(low_us, zone), unit)
    last = _local_day(high_us, zone)
    starts = [_midnight_us(day, zone)]
    while starts[0] > low_us and day > _FIRST_DAY:  # midnight comes twice where a clock change repeats it
        day = _period(day - timedelta(days=1), unit)
        starts.insert(0, _midnight_us(day, zone))
    day = _next(day, unit)
    while len(starts) == 1 or day <= last:
        start = _midnight_us(day, zone)
        if start > starts[-1]:
            starts.append(start)
        if day > last:
            break
        day = _next(day, unit)
    return np.array(starts, np.int64)


def _local_day(x: int, zone: ZoneInfo) -> date:
    days = min(max(x // (86_400 * _SECOND), -719_000), 2_932_000)
    inside = days * 86_400 * _SECOND + x % (86_400 * _SECOND)
    local = (_EPOCH + timedelta(microseconds=inside)).astimezone(zone).date()
    return min(max(local, _FIRST_DAY), _LAST_DAY)


def _period(day: date, unit: str) -> date:
    match unit:
        case "week":
            return max(day - timedelta(days=day.weekday()), _FIRST_DAY)
        case "month":
            return max(day.replace(day=1), _FIRST_DAY)
        case "year":
            return max(day.replace(month=1, day=1), _FIRST_DAY)
    return day


def _next(day: date, unit: str) -> date:
    match unit:
        case "week":
            return day + timedelta(days=7)
        case "month":
            return date(day.year + day.month // 12, day.month % 12 + 1, 1)
        case "year":
            return date(day.year + 1, 1, 1)
    return day + timedelta(days=1)


def _midnight_us(day: date, zone: ZoneInfo) -> int:
    """The first instant whose local day is `day`."""
    naive = datetime(day.year, day.month, day.day, tzinfo=zone)
    first = _instant_us(naive)
    skipped = _instant_us(naive.replace(fold=1))
    if skipped >= first:
        return first
    return first - _gap_before(first, day, zone)


def _gap_before(first: int, day: date, zone: ZoneInfo) -> int:
    """How far `first` lies after the clock change that skips the midnight of `day`: by bisection to the microsecond."""
    low, high = first - 86_400 * _SECOND, first
    while high - low > 1:
        middle = (low + high) // 2
        if _local_day(middle, zone) < day:
            low = middle
        else:
            high = middle
    return first - high


def _instant_us(x: datetime) -> int:
    return (x - _EPOCH) // timedelta(microseconds=1)
