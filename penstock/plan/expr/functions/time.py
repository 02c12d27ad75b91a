"""Parts of dates and instants. A part of an instant is read on the clock of a zone, by default the expression's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr.kernels import Kernel, arrow, numpy_int, rowwise, to_float
from penstock.plan.expr.registry import Family, Site
from penstock.plan.expr.types import DATE, INT, TEXT
from penstock.plan.expr.zones import check_zone, to_local

__all__ = ["DAYS", "MONTHS", "PARTS", "TIME", "instant_sql", "local_sql", "zone_at"]

TIME = Family("time", "Parts of dates and instants")
_add = TIME.add
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_INT, _LOCAL = pa.int64(), pa.timestamp("us")
_to_int = arrow("cast", pc.CastOptions.safe(_INT))


def zone_at(site: Site, at: int) -> str:
    """The zone given as argument `at`, or the expression's; refuses what is no zone."""
    if len(site.constants) <= at:
        return site.zone
    zone = str(site.constants[at])
    wrong = check_zone(zone)
    if wrong:
        raise site.refuse(at, f"{zone!r} is no zone", wrong)
    return zone


def local_sql(inner: Callable[[str], str], at: int = 1) -> Callable[[list[str]], str]:
    """DuckDB text of something of an instant's local time; argument `at` is the zone."""

    def template(texts: list[str]) -> str:
        zone = texts[at] if len(texts) > at else "'UTC'"
        return inner(f"timezone({zone}, {texts[0]})")

    return template


def _field(name: str, options: Any = None) -> Kernel:
    part = arrow(name, options)
    return lambda local: _to_int(part(local))


def _of_minute(unit: int) -> Kernel:
    run = numpy_int(lambda us: us % 60_000_000 // unit)
    return lambda local: run(local.cast(_LOCAL))


_iso = arrow("iso_calendar")
_year_part = arrow("struct_field", pc.StructFieldOptions([0]))
_week_part = arrow("struct_field", pc.StructFieldOptions([1]))
_add_ints, _times = arrow("add"), arrow("multiply")


def _year_week(local: Any) -> Any:
    parts = _iso(local)
    return _add_ints(_times(_year_part(parts), 100), _week_part(parts))


PARTS: dict[str, tuple[Kernel, str, tuple[str, ...]]] = {
    "year": (_field("year"), "Year.", ()),
    "quarter": (_field("quarter"), "Quarter, 1 to 4.", ()),
    "month": (_field("month"), "Month, 1 to 12.", ()),
    "day": (_field("day"), "Day of the month, 1 to 31.", ("dayofmonth",)),
    "dayofweek": (_field("day_of_week", pc.DayOfWeekOptions(count_from_zero=True, week_start=7)),
                  "Day of the week, Sunday 0 to Saturday 6.", ("dow", "weekday")),
    "isodow": (_field("day_of_week", pc.DayOfWeekOptions(count_from_zero=False, week_start=1)),
               "Day of the week, Monday 1 to Sunday 7.", ()),
    "dayofyear": (_field("day_of_year"), "Day of the year, 1 to 366.", ("doy",)),
    "week": (_field("iso_week"), "ISO week, 1 to 53.", ("weekofyear",)),
    "isoyear": (_field("iso_year"), "Year of the ISO week.", ()),
    "yearweek": (_year_week, "ISO year times 100 plus ISO week.", ()),
    "hour": (_field("hour"), "Hour, 0 to 23.", ()),
    "minute": (_field("minute"), "Minute, 0 to 59.", ()),
    "second": (_field("second"), "Second, 0 to 59.", ()),
    "millisecond": (_of_minute(1_000), "Milliseconds within the minute, 0 to 59,999.", ("milliseconds",)),
    "microsecond": (_of_minute(1), "Microseconds within the minute, 0 to 59,999,999.", ("microseconds",)),
}  # fmt: skip
_CLOCK = ("hour", "minute", "second", "millisecond", "microsecond")


def _zoned(kernel: Kernel, zone_index: int = 1) -> Callable[[Site], Kernel]:
    def make(site: Site) -> Kernel:
        local = to_local(zone_at(site, zone_index))
        return lambda values: kernel(local(values))

    return make


def _part_sql(name: str) -> Callable[[str], str]:
    return lambda inside: f"{name}({inside})"


for _name, (_kernel, _doc, _aliases) in PARTS.items():
    _add(
        f"{_name}(instant, text!?) -> int",
        _doc,
        make=_zoned(_kernel),
        duckdb=local_sql(_part_sql(_name)),
        aliases=_aliases,
    )
    if _name not in _CLOCK:
        _add(f"{_name}(date) -> int", kernel=_kernel)

_PART_NAMES = {alias: name for name, (_, _, aliases) in PARTS.items() for alias in (name, *aliases)}


def _date_part(site: Site) -> Kernel:
    name = str(site.constants[0]).lower()
    date = site.types[1] == DATE
    part = _PART_NAMES.get(name)
    if part is None or (date and part in _CLOCK):
        known = ", ".join(p for p in PARTS if not (date and p in _CLOCK))
        raise site.refuse(0, f"{name!r} is no part of {'a date' if date else 'an instant'}", f"parts are {known}")
    if date:
        return PARTS[part][0]
    return _zoned(PARTS[part][0], 2)(site)


def _date_part_sql(texts: list[str]) -> str:
    zone = texts[2] if len(texts) > 2 else "'UTC'"
    return f"date_part({texts[0]}, timezone({zone}, {texts[1]}))"


_add(
    "date_part(text!, instant, text!?) -> int",
    "The part of that name; EXTRACT(part FROM x) too.",
    make=_date_part,
    duckdb=_date_part_sql,
    aliases=("datepart",),
)
_add("date_part(text!, date) -> int", make=_date_part)


def _named(names: tuple[str, ...], field: Kernel, first: int) -> Kernel:
    name = rowwise(lambda n: names[n - first], (INT,), TEXT)
    return lambda local: name(field(local))


_day_name = _named(DAYS, PARTS["isodow"][0], 1)
_month_name = _named(MONTHS, PARTS["month"][0], 1)
_add(
    "dayname(instant, text!?) -> text",
    "Name of the day, in English.",
    make=_zoned(_day_name),
    duckdb=local_sql(_part_sql("dayname")),
)
_add("dayname(date) -> text", kernel=_day_name)
_add(
    "monthname(instant, text!?) -> text",
    "Name of the month, in English.",
    make=_zoned(_month_name),
    duckdb=local_sql(_part_sql("monthname")),
)
_add("monthname(date) -> text", kernel=_month_name)
_leap = arrow("is_leap_year")
_add(
    "is_leap_year(instant, text!?) -> bool",
    "True in a leap year.",
    make=_zoned(_leap),
    duckdb=local_sql(lambda t: f"(day(last_day(make_date(year({t}), 2, 1))) = 29)"),
)
_add("is_leap_year(date) -> bool", kernel=_leap, duckdb="(day(last_day(make_date(year({0}), 2, 1))) = 29)")

# since the epoch

_divide = arrow("divide")


def _microseconds(values: Any) -> Any:
    return values.cast(_INT)


def _seconds(values: Any) -> Any:
    return _divide(to_float(values.cast(_INT)), 1e6)


_milliseconds = numpy_int(lambda us: us // 1000)
_add("epoch(instant) -> float", "Seconds since 1970; of a duration, its seconds.", kernel=_seconds)
_add("epoch(duration) -> float", kernel=_seconds)
_add("epoch_us(instant) -> int", "Microseconds since 1970; of a duration, its microseconds.", kernel=_microseconds)
_add("epoch_us(duration) -> int", kernel=_microseconds)
_add(
    "epoch_ms(instant) -> int",
    "Milliseconds since 1970, rounded down.",
    kernel=lambda values: _milliseconds(values.cast(_INT)),
    duckdb="CAST(floor(epoch_us({0})::DECIMAL(20,0) / 1000) AS BIGINT)",
)
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999  # of the years 1 and 9999
_YEARS = "null outside the years 1 to 9999"


def _within(us: int) -> int | None:
    return us if FIRST_US <= us <= LAST_US else None


def _microsecond(seconds: float) -> int | None:
    us = seconds * 1e6
    return _within(round(us)) if abs(us) < 2.0**63 else None


def instant_sql(text: str) -> str:
    """DuckDB text of an instant, null outside the years 1 to 9999."""
    ends = "TIMESTAMPTZ '0001-01-01 00:00:00Z' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999Z'"
    return f"list_filter([{text}], lambda v: v BETWEEN {ends})[1]"


_add(
    "instant_us(int) -> instant",
    "The instant so many microseconds after 1970.",
    row=_within,
    nulls="maybe",
    rule=_YEARS,
    duckdb=instant_sql("TRY(make_timestamptz({0}))"),
)
_add(
    "instant_ms(int) -> instant",
    "The instant so many milliseconds after 1970.",
    row=lambda ms: _within(ms * 1000),
    nulls="maybe",
    rule=_YEARS,
    duckdb=instant_sql("TRY(make_timestamptz({0} * 1000))"),
)
_add(
    "to_timestamp(float) -> instant",
    "The instant so many seconds after 1970, to the nearest microsecond.",
    row=_microsecond,
    nulls="maybe",
    rule=_YEARS,
    duckdb=instant_sql("TRY(to_timestamp({0}))"),
)


def _times_unit(size: int) -> Callable[[int], int]:
    return lambda n: n * size


for _unit, _size in (
    ("days", 86_400_000_000), ("hours", 3_600_000_000), ("minutes", 60_000_000), ("seconds", 1_000_000),
    ("milliseconds", 1_000), ("microseconds", 1),
):  # fmt: skip
    _add(
        f"to_{_unit}(int) -> duration",
        f"The duration of so many {_unit}.",
        nulls="maybe",
        row=_times_unit(_size),
        duckdb=f"TRY(to_microseconds({{0}} * {_size}))",
        rule="a day is 24 hours" if _unit == "days" else "",
    )
