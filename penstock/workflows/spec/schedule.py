"""When runs are made by the clock: zone-aware intervals, and cron by Debian's rules.

Intervals tile the time line: each ends where the next begins, whatever the clocks do. A step below a day ends wherever
the local time of day is a multiple of it (an hour that comes twice gives two intervals, one that is skipped none); a
step of days, weeks (from Monday), months or years ends at local midnights, counted from 1970.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from cronsim import CronSim, CronSimError

from penstock.define.values import duration_us
from penstock.errors import WorkflowError
from penstock.semantics.windows import calendar_start_us
from penstock.workflows.spec.model import Schedule

__all__ = ["check_schedule", "first_instant_us", "interval_at", "next_firing", "skipped_firing"]

_DAY_US: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY: Final = date(1970, 1, 5)
_CALENDAR: Final = re.compile(r"([1-9]\d{0,2})(d|w|mo|y)\Z")
_LAST: Final = 253_370_764_800_000_000  # the year 9999; beyond it there is no calendar


def check_schedule(schedule: Schedule, now_us: int) -> None:
    """Refuses a schedule that cannot be kept.

    Raises:
        WorkflowError: both or neither of `every` and `cron`; an unknown zone; a step that tiles nothing; a cron that
            does not parse, never fires, or fires in an hour that a clock change skips and does not say what then.
    """
    if (schedule.every is None) == (schedule.cron is None):
        found = f"every={schedule.every!r}, cron={schedule.cron!r}"
        raise WorkflowError("a schedule is either `every` or `cron`", found=found, remedy="keep one of the two")
    zone = _zone(schedule.zone)
    first_instant_us(schedule)
    if schedule.every is not None:
        _step(schedule.every)
        return
    if next_firing(schedule, now_us) is None:
        raise WorkflowError(
            "a cron must fire some day",
            found=f"{schedule.cron!r} fires on no day of the next 50 years",
            remedy="check day and month",
        )
    skipped = skipped_firing(schedule, now_us)
    if skipped is not None and schedule.skipped == "refuse":
        raise WorkflowError(
            "a cron that fires in an hour which a clock change skips must say what happens then",
            found=f"{schedule.cron!r} at {skipped.isoformat(sep=' ')}, a time that {zone.key} does not have",
            remedy='choose another time, or skipped="after" to fire right after the change',
        )


def first_instant_us(schedule: Schedule) -> int | None:
    """`start` as an instant; None if not given.

    Raises:
        WorkflowError: it is no ISO 8601 instant with a zone.
    """
    if schedule.start is None:
        return None
    try:
        found = datetime.fromisoformat(schedule.start)
    except ValueError:
        found = None
    if found is None:
        raise WorkflowError(
            "a schedule's start is a date or an instant in ISO 8601",
            found=repr(schedule.start),
            remedy='write it as in "2013-03-01" (midnight in the zone) or "2013-03-01T00:00:00Z"',
        )
    if found.tzinfo is None:
        found = found.replace(tzinfo=_zone(schedule.zone))
    return _instant_us(found)


def interval_at(schedule: Schedule, at_us: int) -> tuple[int, int]:
    """The interval [start, end) of a schedule with `every` that contains an instant; the next one begins at its end."""
    assert schedule.every is not None
    count, unit = _step(schedule.every)
    zone = _zone(schedule.zone)
    if unit == "us":
        return _clock_interval(count, zone, at_us)
    day = _local(at_us, zone).date()
    first, after = _period(day, count, unit), _period(day, count, unit, 1)
    return _midnight_us(first, zone), _midnight_us(after, zone)


def next_firing(schedule: Schedule, after_us: int) -> int | None:
    """The first instant after `after_us` at which a run is made; None if there is none.

    The end of an interval for `every`, the next tick for `cron`: at a clock change Debian's rules hold (a fixed time
    that is skipped fires right after the change, one that comes twice fires the first time; `*` fires by elapsed time).
    """
    if schedule.every is not None:
        return interval_at(schedule, after_us)[1]
    assert schedule.cron is not None
    try:
        for tick in CronSim(schedule.cron, _local(after_us, _zone(schedule.zone))):
            # Within an hour that comes twice the library may step back to the first of them.
            if (instant := _instant_us(tick)) > after_us:
                return instant
    except CronSimError as error:
        raise WorkflowError(
            "a cron is five fields: minute, hour, day, month, weekday",
            found=f"{schedule.cron!r}: {error}",
            remedy='write it as in "30 4 * * MON"',
        ) from error
    return None


def skipped_firing(schedule: Schedule, now_us: int) -> datetime | None:
    """The first local time, in the next two years, at which a cron of fixed times falls into a skipped hour."""
    fields = (schedule.cron or "").split()
    if len(fields) != 5 or fields[0].startswith("*") or fields[1].startswith("*"):
        return None
    zone = _zone(schedule.zone)
    for low, high in _gaps(zone, now_us, now_us + 2 * 366 * _DAY_US):
        tick = next(CronSim(schedule.cron or "", low - timedelta(seconds=1)), None)
        if tick is not None and tick < high:
            return tick
    return None


def _gaps(zone: ZoneInfo, low_us: int, high_us: int) -> list[tuple[datetime, datetime]]:
    """Local times [from, to) that a clock change skips between two instants."""
    found = []
    for at in range(low_us, high_us, _DAY_US):
        before, after = _offset_us(at, zone), _offset_us(at + _DAY_US, zone)
        if after > before:
            change = _change_us(at, at + _DAY_US, zone)
            naive = (_EPOCH + timedelta(microseconds=change)).replace(tzinfo=None)
            found.append((naive + timedelta(microseconds=before), naive + timedelta(microseconds=after)))
    return found


def _clock_interval(length: int, zone: ZoneInfo, at_us: int) -> tuple[int, int]:
    return _boundary_before(length, zone, at_us), _boundary_after(length, zone, at_us)


def _boundary_after(length: int, zone: ZoneInfo, at_us: int) -> int:
    offset = _offset_us(at_us, zone)
    end = at_us + length - (at_us + offset) % length
    if _offset_us(end, zone) == offset:
        return end
    change = _change_us(at_us, end, zone)
    return change + -(change + _offset_us(change, zone)) % length


def _boundary_before(length: int, zone: ZoneInfo, at_us: int) -> int:
    offset = _offset_us(at_us, zone)
    start = at_us - (at_us + offset) % length
    former = _offset_us(start, zone)
    if former == offset:
        return start
    change = _change_us(start, at_us, zone)  # the first instant of the present offset
    if (change + offset) % length == 0:
        return change
    last = change - 1
    return last - (last + former) % length


def _change_us(low: int, high: int, zone: ZoneInfo) -> int:
    """The first instant in (low, high] whose offset differs from that at `low`."""
    offset = _offset_us(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_us(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high


def _step(every: str) -> tuple[int, str]:
    """(n, "us" | "d" | "w" | "mo" | "y")."""
    calendar = _CALENDAR.match(every.strip())
    if calendar:
        return int(calendar[1]), calendar[2]
    length = duration_us(every, "a schedule's step")
    if length < 1_000_000 or length > _DAY_US or _DAY_US % length:
        raise WorkflowError(
            "a step below a day is at least 1 s and divides the day",
            found=repr(every),
            remedy='write it as in "5min", "15min", "1h", "6h"; or "1d", "1w", "1mo"',
        )
    return (1, "d") if length == _DAY_US else (length, "us")


def _period(day: date, count: int, unit: str, ahead: int = 0) -> date:
    """The first day of the period that contains a day, or of one `ahead` of it."""
    match unit:
        case "d":
            return date(1970, 1, 1) + timedelta(days=((day - date(1970, 1, 1)).days // count + ahead) * count)
        case "w":
            return _MONDAY + timedelta(days=((day - _MONDAY).days // (7 * count) + ahead) * 7 * count)
        case "mo":
            months = (((day.year - 1970) * 12 + day.month - 1) // count + ahead) * count
            return date(1970 + months // 12, months % 12 + 1, 1)
    return date(1970 + ((day.year - 1970) // count + ahead) * count, 1, 1)


def _midnight_us(day: date, zone: ZoneInfo) -> int:
    """The first instant of a local day; where a clock change skips midnight, the change."""
    noon = _instant_us(datetime(day.year, day.month, day.day, 12, tzinfo=zone))
    return int(calendar_start_us(np.array([noon], np.int64), "day", zone.key)[0])


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise WorkflowError(
            f"a schedule in zone {name!r}", found=repr(name), remedy="use an IANA name such as Asia/Shanghai"
        ) from error


def _local(us: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(microseconds=min(us, _LAST))).astimezone(zone)


def _offset_us(us: int, zone: ZoneInfo) -> int:
    offset = _local(us, zone).utcoffset()
    assert offset is not None
    return offset // timedelta(microseconds=1)


def _instant_us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
