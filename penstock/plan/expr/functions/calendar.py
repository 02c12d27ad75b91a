"""Arithmetic on the calendar: truncation, differences, months, formats. Zones as in `time`."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr.casts import EPOCH
from penstock.plan.expr.formats import check_format, format_local, parse_local
from penstock.plan.expr.functions.time import instant_sql, local_sql, zone_at
from penstock.plan.expr.kernels import INT_MIN, Kernel, arrow, numpy_int, rowwise
from penstock.plan.expr.registry import Family, Site
from penstock.plan.expr.types import DATE, DURATION, INSTANT, INT, TEXT
from penstock.plan.expr.zones import UTC, from_local, to_local

__all__ = ["CALENDAR"]

CALENDAR = Family("calendar", "Calendar")
_add = CALENDAR.add
_INT, _LOCAL = pa.int64(), pa.timestamp("us")
_subtract = arrow("subtract")
_CLOCK_UNITS = {"second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000}
_DATE_UNITS = ("day", "week", "month", "quarter", "year")
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_US = timedelta(microseconds=1)


def _unit(site: Site, clock: bool) -> str:
    unit = str(site.constants[0]).lower()
    known = (*_CLOCK_UNITS, *_DATE_UNITS) if clock else _DATE_UNITS
    if unit not in known:
        raise site.refuse(0, f"{unit!r} is no unit here", f"units are {', '.join(known)}")
    return unit


def _floor(unit: str) -> Kernel:
    return arrow("floor_temporal", pc.RoundTemporalOptions(1, unit, week_starts_monday=True))


def _trunc_instant(site: Site) -> Kernel:
    unit, zone = _unit(site, True), zone_at(site, 2)
    local, floor, back = to_local(zone), _floor(unit), from_local(zone)
    if unit in _DATE_UNITS:
        return lambda values: back(floor(local(values)))

    def run(values: Any) -> Any:
        # the time since the local hour began is taken off the instant, so a repeated hour stays itself
        here = local(values)
        return _subtract(values, _subtract(here, floor(here)))

    return run


def _trunc_date(site: Site) -> Kernel:
    floor = _floor(_unit(site, False))
    return lambda values: floor(values.cast(_LOCAL)).cast(pa.date32())


def _trunc_sql(texts: list[str]) -> str:
    zone = texts[2] if len(texts) > 2 else "'UTC'"
    return f"timezone({zone}, date_trunc({texts[0]}, timezone({zone}, {texts[1]})))"


_add(
    "date_trunc(text!, instant, text!?) -> instant",
    "The beginning of the unit (second to year, weeks from Monday).",
    make=_trunc_instant,
    duckdb=_trunc_sql,
    aliases=("datetrunc",),
    rule="never after the instant; of a repeated local time the first (DuckDB: the second)",
)
_add("date_trunc(text!, date) -> date", make=_trunc_date, duckdb="CAST(date_trunc({0}, {1}) AS DATE)")


def _bucket(site: Site) -> Kernel:
    width = site.constants[0] // _US
    if width < 1:
        raise site.refuse(0, "a bucket has a positive width", "write time_bucket(15min, x)")
    floor, exact = numpy_int(lambda us: us - us % width), rowwise(lambda us: us - us % width, (INSTANT,), INSTANT)
    instant, least = INSTANT.arrow, arrow("min")

    def run(values: Any) -> Any:
        first = least(values.cast(_INT)).as_py()
        if first is not None and first < INT_MIN + width:
            return exact(values)  # a bucket may begin before the first instant there is
        return floor(values).cast(instant)

    return run


_add(
    "time_bucket(duration!, instant) -> instant",
    "The beginning of the bucket of that width, counted from 1970 in UTC.",
    make=_bucket,
    rule="aligned like the hops of windows (DuckDB: from Monday 2000-01-03)",
    duckdb="make_timestamptz(epoch_us({1}) - (epoch_us({1}) % epoch_us({0}) + epoch_us({0})) % epoch_us({0}))",
)


def _months(days: Any) -> Any:
    """Months since January of the year 0 of days since 1970; by the civil calendar of 400-year cycles."""
    # years begin in March, so that a leap day ends one (Howard Hinnant, chrono-compatible low-level date algorithms)
    shifted = days + 719_468
    cycle = shifted // 146_097
    of_cycle = shifted - cycle * 146_097
    year = (of_cycle - of_cycle // 1460 + of_cycle // 36_524 - of_cycle // 146_096) // 365
    of_year = of_cycle - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return (year + cycle * 400) * 12 + month + 2


_COUNTS: dict[str, Callable[[Any], Any]] = {
    "day": lambda day: day,
    "week": lambda day: (day + 3) // 7,
    "month": _months,
    "quarter": lambda day: _months(day) // 3,
    "year": lambda day: _months(day) // 12,
}


def _diff_dates(unit: str) -> Kernel:
    count = _COUNTS[unit]
    run = numpy_int(lambda a, b: count(b) - count(a))
    days = pa.int32()
    return lambda a, b: run(a.cast(days), b.cast(days))


def _diff_instants(site: Site) -> Kernel:
    unit = _unit(site, True)
    if unit in _CLOCK_UNITS:
        size = _CLOCK_UNITS[unit]
        return numpy_int(lambda a, b: b // size - a // size)
    local, count = to_local(zone_at(site, 3)), _diff_dates(unit)
    day = pa.date32()
    return lambda a, b: count(local(a).cast(day, safe=False), local(b).cast(day, safe=False))


def _diff_sql(texts: list[str]) -> str:
    zone = texts[3] if len(texts) > 3 and texts[0].strip("'").lower() in _DATE_UNITS else "'UTC'"
    return _count_sql([texts[0], f"timezone({zone}, {texts[1]})", f"timezone({zone}, {texts[2]})"])


def _count_sql(texts: list[str]) -> str:
    unit, begin, end = texts
    if unit.lower() == "'week'":  # DuckDB counts weeks wrongly before 1970
        return f"date_diff('day', date_trunc('week', {begin}), date_trunc('week', {end})) // 7"
    return f"date_diff({unit}, {begin}, {end})"


_add(
    "date_diff(text!, instant, instant, text!?) -> int",
    "How many beginnings of the unit lie between, from the first on.",
    make=_diff_instants,
    duckdb=_diff_sql,
    aliases=("datediff",),
    rule="days and longer by the local calendar, hours and shorter in UTC",
)
_add("date_diff(text!, date, date) -> int", make=lambda site: _diff_dates(_unit(site, False)), duckdb=_count_sql)


def _plus_months(at: date, months: int) -> date | None:
    month = at.year * 12 + at.month - 1 + months
    year, number = month // 12, month % 12 + 1
    if not 1 <= year <= 9999:
        return None
    return at.replace(year=year, month=number, day=min(at.day, calendar.monthrange(year, number)[1]))


def _date(day: int) -> date | None:
    number = day + _EPOCH_DAY
    return date.fromordinal(number) if 1 <= number <= date.max.toordinal() else None


def _months_of_date(day: int, months: int) -> int | None:
    at = _date(day)
    found = at and _plus_months(at, months)
    return found.toordinal() - _EPOCH_DAY if found else None


def _months_of_local(us: int, months: int) -> int | None:
    try:
        at = EPOCH + us * _US
    except OverflowError:
        return None
    found = _plus_months(at, months)
    return (found - EPOCH) // _US if isinstance(found, datetime) else None


def _local_step(step: Callable[[int, int], int | None]) -> Callable[[Site], Kernel]:
    def make(site: Site) -> Kernel:
        zone = zone_at(site, 2)
        local, back = to_local(zone), from_local(zone)
        move = rowwise(step, (DURATION, INT), DURATION)
        plain = DURATION.arrow

        def run(values: Any, n: Any) -> Any:
            return back(move(local(values).cast(_INT).cast(plain), n).cast(_INT).cast(_LOCAL))

        return run

    return make


def _step_sql(unit: str) -> Callable[[list[str]], str]:
    def template(texts: list[str]) -> str:
        zone = texts[2] if len(texts) > 2 else "'UTC'"
        moved = f"TRY(timezone({zone}, timezone({zone}, {texts[0]}) + to_{unit}(CAST({texts[1]} AS INTEGER))))"
        return instant_sql(moved)

    return template


def _date_sql(text: str) -> str:
    return f"list_filter([{text}], lambda v: v BETWEEN DATE '0001-01-01' AND DATE '9999-12-31')[1]"


_MONTH_RULE = "the last day of a shorter month; the local time stays; null outside the years 1 to 9999"
_add(
    "add_months(instant, int, text!?) -> instant",
    "So many months later on the local calendar.",
    nulls="maybe",
    make=_local_step(_months_of_local),
    duckdb=_step_sql("months"),
    rule=_MONTH_RULE,
)
_add(
    "add_months(date, int) -> date",
    row=_months_of_date,
    nulls="maybe",
    duckdb=_date_sql("TRY(CAST({0} + to_months(CAST({1} AS INTEGER)) AS DATE))"),
)
_add(
    "add_days(instant, int, text!?) -> instant",
    "So many days later on the local calendar, at the same local time.",
    make=_local_step(lambda us, n: us + n * 86_400_000_000),
    duckdb=_step_sql("days"),
    nulls="maybe",
    rule="x + 24h is exactly 24 hours later instead",
)


def _last_day(day: int) -> int | None:
    at = _date(day)
    return None if at is None else day + calendar.monthrange(at.year, at.month)[1] - at.day


_add("last_day(date) -> date", "The last day of the month.", row=_last_day)


def _local_date(site: Site) -> Kernel:
    local, day = to_local(zone_at(site, 1)), pa.date32()
    return lambda values: local(values).cast(day, safe=False)


_add(
    "date(instant, text!?) -> date",
    "The local date.",
    make=_local_date,
    duckdb=local_sql(lambda t: f"CAST({t} AS DATE)"),
)
_add("date(date) -> date", kernel=lambda values: values, duckdb="{0}")


def _midnight(site: Site) -> Kernel:
    back = from_local(zone_at(site, 1))
    return lambda values: back(values.cast(_LOCAL))


_add(
    "midnight(date, text!?) -> instant",
    "The instant at which the date begins in the zone.",
    make=_midnight,
    duckdb=None,
)


def _offset(site: Site) -> Kernel:
    local = to_local(zone_at(site, 1))
    return lambda values: _subtract(local(values), values.cast(_LOCAL))


_add(
    "utc_offset(instant, text!) -> duration",
    "How far the zone's clock is ahead of UTC.",
    make=_offset,
    duckdb=lambda t: f"to_microseconds(epoch_us(timezone('UTC', timezone({t[1]}, {t[0]}))) - epoch_us({t[0]}))",
)


def _make_date(year: int, month: int, day: int) -> int | None:
    try:
        return date(year, month, day).toordinal() - _EPOCH_DAY
    except (ValueError, OverflowError):
        return None


_add(
    "make_date(int, int, int) -> date",
    "The date of a year, month and day.",
    row=_make_date,
    nulls="maybe",
    duckdb=_date_sql("TRY(make_date({0}, {1}, {2}))"),
    rule="null for what is no date, and outside the years 1 to 9999",
)


def _make_local(  # noqa: PLR0917 the parts of a time
    year: int, month: int, day: int, hour: int, minute: int, second: float
) -> int | None:
    us = round(second * 1e6) if 0 <= second < 60 else -1
    try:
        at = datetime(year, month, day, hour, minute)
    except (ValueError, OverflowError):
        return None
    return (at - EPOCH) // _US + us if 0 <= us < 60_000_000 else None


def _make_instant(site: Site) -> Kernel:
    local = rowwise(_make_local, (INT,) * 5 + site.types[5:6], DURATION)
    back = from_local(zone_at(site, 6))
    return lambda *args: back(local(*args).cast(_INT).cast(_LOCAL))


def _make_sql(texts: list[str]) -> str:
    zone = texts[6] if len(texts) > 6 else "'UTC'"
    return instant_sql(f"TRY(timezone({zone}, make_timestamp({', '.join(texts[:6])})))")


_add(
    "make_timestamptz(int, int, int, int, int, float, text!?) -> instant",
    nulls="maybe",
    make=_make_instant,
    duckdb=_make_sql,
    doc="The instant of a local year, month, day, hour, minute and second.",
    rule="null for what is no local time",
    aliases=("make_instant",),
)


def _format(site: Site) -> str:
    text = str(site.constants[1])
    wrong = check_format(text)
    if wrong:
        raise site.refuse(1, wrong, "directives are %Y %y %m %d %j %H %I %p %M %S %f %g %a %A %b %B %z %%")
    return text


def _strftime_instant(site: Site) -> Kernel:
    pattern, zone = _format(site), zone_at(site, 2)
    local = to_local(zone)
    write = rowwise(lambda us, offset: format_local(us, offset, pattern), (DURATION, DURATION), TEXT)

    def run(values: Any) -> Any:
        here = local(values)
        return write(here.cast(_INT).cast(DURATION.arrow), _subtract(here, values.cast(_LOCAL)))

    return run


def _strftime_date(site: Site) -> Kernel:
    pattern = _format(site)
    return rowwise(lambda day: format_local(day * 86_400_000_000, 0, pattern), (DATE,), TEXT)


_add(
    "strftime(instant, text!, text!?) -> text",
    "Written by a format, on the zone's clock; names in English.",
    make=_strftime_instant,
    nulls="maybe",
    rule="null outside the years 1 to 9999",
    duckdb=lambda t: (
        None if "%z" in t[1] else f"strftime(timezone({t[2] if len(t) > 2 else repr(UTC)}, {t[0]}), {t[1]})"
    ),
)
_add("strftime(date, text!) -> text", make=_strftime_date, nulls="maybe")


def _strptime(site: Site) -> Kernel:
    pattern = _format(site)
    back = from_local(zone_at(site, 2))
    zoned = "%z" in pattern.replace("%%", "")
    read = rowwise(lambda text: parse_local(text, pattern), (TEXT,), DURATION)

    def run(values: Any) -> Any:
        local = read(values).cast(_INT)
        return local.cast(INSTANT.arrow) if zoned else back(local.cast(_LOCAL))

    return run


_add(
    "strptime(text, text!, text!?) -> instant",
    "Read by a format, as a local time of the zone unless the format has %z.",
    make=_strptime,
    nulls="maybe",
    rule="null where the text does not fit",
    aliases=("try_strptime",),
    duckdb=lambda t: (
        None if "%z" in t[1] else f"timezone({t[2] if len(t) > 2 else repr(UTC)}, try_strptime({t[0]}, {t[1]}))"
    ),
)
