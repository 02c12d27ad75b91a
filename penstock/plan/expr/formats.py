"""Times written and read by strftime formats, with English names whatever the locale."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from penstock.plan.expr.casts import EPOCH

__all__ = ["check_format", "format_local", "parse_local"]

_US = timedelta(microseconds=1)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)


def _offset_text(us: int) -> str:
    minutes = abs(us) // 60_000_000
    return f"{'-' if us < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}"


_WRITERS: dict[str, Callable[[datetime, int], str]] = {
    "Y": lambda at, _: f"{at.year:04d}",
    "y": lambda at, _: f"{at.year % 100:02d}",
    "m": lambda at, _: f"{at.month:02d}",
    "d": lambda at, _: f"{at.day:02d}",
    "j": lambda at, _: f"{at.timetuple().tm_yday:03d}",
    "H": lambda at, _: f"{at.hour:02d}",
    "I": lambda at, _: f"{(at.hour + 11) % 12 + 1:02d}",
    "p": lambda at, _: "AM" if at.hour < 12 else "PM",
    "M": lambda at, _: f"{at.minute:02d}",
    "S": lambda at, _: f"{at.second:02d}",
    "f": lambda at, _: f"{at.microsecond:06d}",
    "g": lambda at, _: f"{at.microsecond // 1000:03d}",
    "a": lambda at, _: _DAYS[at.weekday()][:3],
    "A": lambda at, _: _DAYS[at.weekday()],
    "b": lambda at, _: _MONTHS[at.month - 1][:3],
    "B": lambda at, _: _MONTHS[at.month - 1],
    "z": lambda at, offset: _offset_text(offset),
    "%": lambda at, _: "%",
}
_READERS = {
    "Y": r"(?P<Y>\d{4})", "y": r"(?P<y>\d{2})", "m": r"(?P<m>\d{1,2})", "d": r"(?P<d>\d{1,2})", "j": r"(?P<j>\d{1,3})",
    "H": r"(?P<H>\d{1,2})", "I": r"(?P<I>\d{1,2})", "p": r"(?P<p>[AaPp][Mm])", "M": r"(?P<M>\d{1,2})",
    "S": r"(?P<S>\d{1,2})",
    "f": r"(?P<f>\d{1,6})", "g": r"(?P<g>\d{1,3})", "a": "(?i:" + "|".join(d[:3] for d in _DAYS) + ")",
    "A": "(?i:" + "|".join(_DAYS) + ")", "b": "(?P<b>(?i:" + "|".join(m[:3] for m in _MONTHS) + "))",
    "B": "(?P<B>(?i:" + "|".join(_MONTHS) + "))", "z": r"(?P<z>Z|[+-]\d{2}(?::?\d{2})?)", "%": "%",
}  # fmt: skip


def check_format(pattern: str) -> str:
    """Why a format is none, in words; empty when it is one."""
    for found in _DIRECTIVE.finditer(pattern):
        if found[1] not in _WRITERS:
            return f"{found[0]!r} is no directive"
    return ""


@lru_cache(maxsize=512)
def _pieces(pattern: str) -> tuple[tuple[str, Callable[[datetime, int], str] | None], ...]:
    pieces: list[tuple[str, Callable[[datetime, int], str] | None]] = []
    at = 0
    for found in _DIRECTIVE.finditer(pattern):
        pieces += [(pattern[at : found.start()], None), ("", _WRITERS[found[1]])]
        at = found.end()
    return (*pieces, (pattern[at:], None))


def format_local(us: int, offset: int, pattern: str) -> str | None:
    """A local time, in microseconds, written by a format; `offset` is its zone's. None outside the years 1 to 9999."""
    try:
        at = EPOCH + us * _US
    except OverflowError:
        return None
    return "".join(writer(at, offset) if writer else text for text, writer in _pieces(pattern))


@lru_cache(maxsize=512)
def _reader(pattern: str) -> re.Pattern[str]:
    parts, at, seen = [], 0, set[str]()
    for found in _DIRECTIVE.finditer(pattern):
        parts.append(re.escape(pattern[at : found.start()]))
        text = _READERS[found[1]]
        # a directive that repeats is read once
        parts.append(re.sub(r"\?P<\w>", "?:", text) if found[1] in seen else text)
        seen.add(found[1])
        at = found.end()
    return re.compile("".join([*parts, re.escape(pattern[at:])]), re.ASCII)


def parse_local(text: str, pattern: str) -> int | None:
    """Microseconds of the local time (with %z, the instant) that a text gives by a format; None if it does not fit."""
    found = _reader(pattern).fullmatch(text.strip())
    if not found:
        return None
    held = found.groupdict()
    try:
        day = _read_date(held)
        at = datetime(day.year, day.month, day.day, _read_hour(held), int(held.get("M") or 0), int(held.get("S") or 0))
    except ValueError:
        return None
    fraction = (held.get("f") or "").ljust(6, "0") if held.get("f") else (held.get("g") or "0").ljust(3, "0") + "000"
    return (at - EPOCH) // _US + int(fraction) - _read_offset(held.get("z"))


def _read_date(held: dict[str, Any]) -> date:
    if held.get("Y"):
        year = int(held["Y"])
    elif held.get("y"):
        short = int(held["y"])
        year = short + (2000 if short < 69 else 1900)
    else:
        year = 1900
    if held.get("j"):
        day = date(year, 1, 1) + timedelta(days=int(held["j"]) - 1)
        if day.year != year:
            raise ValueError(held["j"])
        return day
    month = int(held.get("m") or 1)
    for key, length in (("b", 3), ("B", None)):
        if held.get(key):
            month = [name[:length].lower() for name in _MONTHS].index(held[key].lower()) + 1
    return date(year, month, int(held.get("d") or 1))


def _read_hour(held: dict[str, Any]) -> int:
    if held.get("H") is not None:
        return int(held["H"])
    if held.get("I") is None:
        return 0
    hour = int(held["I"])
    if not 1 <= hour <= 12:
        raise ValueError(held["I"])
    return hour % 12 + (12 if (held.get("p") or "am").lower() == "pm" else 0)


def _read_offset(text: str | None) -> int:
    if not text or text == "Z":
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return (-minutes if text[0] == "-" else minutes) * 60_000_000
