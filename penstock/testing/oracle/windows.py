"""Which rows a window covers: `time.md`, A query."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from penstock.define.window import Window
from penstock.testing.oracle.rows import Row, instant_us

__all__ = ["LIFETIME", "calendar_start", "covered", "hop_us", "left_edge", "names"]

LIFETIME = Window("", "lifetime")
_USUAL_HOPS_S = (86_400, 21_600, 3_600, 900, 300, 60, 10, 1)


def hop_us(window: Window) -> int:
    """The step of the left edge; 0 is exact. By default the longest usual step of at most a 24th of the width."""
    if window.hop_us is not None:
        return window.hop_us
    for seconds in _USUAL_HOPS_S:
        if seconds * 1_000_000 * 24 <= window.width_us:
            return seconds * 1_000_000
    return 0


def left_edge(window: Window, q: int) -> int | None:
    """The first instant of a window in time; None if it has none."""
    right = q - window.offset_us
    match window.kind:
        case "time":
            hop = hop_us(window)
            left = right - window.width_us
            return left - left % hop if hop else left
        case "calendar":
            return calendar_start(right, window.unit, window.zone)
    return None


def calendar_start(x: int, unit: str, zone: str) -> int:
    """The instant at which the local day, week, month or year of `x` began: its first 00:00 on the local clock."""
    local = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=x)  # noqa: UP017
    day = local.astimezone(ZoneInfo(zone)).date()
    match unit:
        case "week":
            day -= timedelta(days=day.weekday())
        case "month":
            day = date(day.year, day.month, 1)
        case "year":
            day = date(day.year, 1, 1)
    return min(x, instant_us(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))))


def covered(
    window: Window, q: int, rows: list[Row], self_row: Row | None = None, same: Callable[[Row], bool] | None = None
) -> list[Row]:
    """The rows that count in a window at `q`, in order.

    Args:
        rows: those of the key that are known.
        self_row: counts in a window without offset wherever it lies, once.
        same: whether a row is a version of the self row.
    """
    right = q - window.offset_us
    left = left_edge(window, q)
    found = []
    for row in rows:
        t = row.t - 1 if window.closed == "right" else row.t
        if (left is None or left <= t) and (t < right or (window.closed == "both" and t == right)):
            found.append(row)
    if self_row is not None and window.offset_us == 0 and not any(map(same or self_row.__eq__, found)):
        found.append(self_row)
    found.sort(key=lambda row: row.order)
    return found[-window.n :] if window.kind == "rows" else found


def names(aggregate: str, window: Window) -> str:
    """The column of an aggregate over a window: `{aggregate}_{window}`; the bare name over LIFETIME by default."""
    return f"{aggregate}_{window.name}" if window.name else aggregate
