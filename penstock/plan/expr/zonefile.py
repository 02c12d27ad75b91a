"""The offsets of a zone from UTC, over all time, from the IANA data of the `tzdata` package.

The package is read, not the machine's own files, so that a row has the same local time on every machine; and its rule
for the future is followed to the year 9999, where Arrow stops at the last change a file lists (2037).
Format: RFC 8536 (TZif), its footer by POSIX TZ.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

__all__ = ["FAR_YEAR", "NEAR_YEAR", "Offsets", "offsets_of", "zone_names"]

_EPOCH = date(1970, 1, 1).toordinal()
NEAR_YEAR, FAR_YEAR = 2100, 9999
_SECOND = 1_000_000
_NAME = re.compile(r"[A-Za-z][\w+-]*(?:/[\w+-]+)*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Offsets:
    """Where a zone's offset changes, in microseconds.

    Attributes:
        instants: of the changes, UTC, ascending.
        locals: of the changes on the zone's clock: a local time before it is read with the offset before the change.
        offsets: one more than changes; `offsets[i]` holds before change i, in microseconds ahead of UTC.
    """

    instants: np.ndarray[Any, np.dtype[np.int64]]
    locals: np.ndarray[Any, np.dtype[np.int64]]
    offsets: np.ndarray[Any, np.dtype[np.int64]]


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The names of all zones."""
    lines = resources.files("tzdata").joinpath("zones").read_text("ascii").splitlines()
    return frozenset(line.strip() for line in lines if line.strip())


@lru_cache(maxsize=256)
def offsets_of(zone: str, last_year: int = NEAR_YEAR) -> Offsets:
    """The offsets of a zone to the end of a year.

    Raises:
        KeyError: there is no such zone.
    """
    if not _NAME.match(zone) or zone not in zone_names():
        raise KeyError(zone)
    data = resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()
    changes, first = _listed(data)
    footer = data.rstrip(b"\n").rsplit(b"\n", 1)[-1].decode()
    changes += _by_rule(footer, changes[-1][0] if changes else -(2**62), last_year)
    instants = np.array([at * _SECOND for at, _ in changes], np.int64)
    offsets = np.array([first, *(offset for _, offset in changes)], np.int64) * _SECOND
    # a skipped local time belongs to the offset before the gap, a repeated one to the first: both last until the later
    # of the two clock readings of the change
    return Offsets(instants, instants + np.maximum(offsets[:-1], offsets[1:]), offsets)


def _listed(data: bytes) -> tuple[list[tuple[int, int]], int]:
    """The changes a file lists (seconds, offset from then on), and the offset before the first."""
    at = 0
    for width in (4, 8):
        isutc, isstd, leap, times, types, chars = struct.unpack(">6I", data[at + 20 : at + 44])
        at += 44
        if width == 8:
            break
        at += times * 5 + types * 6 + chars + leap * 8 + isstd + isutc
    instants = struct.unpack(f">{times}q", data[at : at + 8 * times])
    kinds = data[at + 8 * times : at + 9 * times]
    at += 9 * times
    offsets = [struct.unpack(">i", data[at + 6 * i : at + 6 * i + 4])[0] for i in range(types)]
    changes = [(instant, offsets[kind]) for instant, kind in zip(instants, kinds, strict=True)]
    return changes, offsets[0]


_RULE = re.compile(
    r"(?:<[^>]+>|[A-Za-z]+)(?P<std>[+-]?[\d:]+)"
    r"(?:(?:<[^>]+>|[A-Za-z]+)(?P<dst>[+-]?[\d:]+)?,M(?P<start>[\d.]+)(?:/(?P<start_at>[+-]?[\d:]+))?"
    r",M(?P<end>[\d.]+)(?:/(?P<end_at>[+-]?[\d:]+))?)?\Z"
)


def _seconds(text: str | None, default: int) -> int:
    if text is None:
        return default
    sign = -1 if text.startswith("-") else 1
    parts = [int(part) for part in text.lstrip("+-").split(":")] + [0, 0]
    return sign * (parts[0] * 3600 + parts[1] * 60 + parts[2])


def _day(year: int, rule: str) -> int:
    """Days since 1970 of a month.week.weekday rule; week 5 is the last."""
    month, week, weekday = map(int, rule.split("."))
    first = date(year, month, 1)
    day = first + timedelta((weekday - first.isoweekday()) % 7 + 7 * (week - 1))
    while day.month != month:
        day -= timedelta(7)
    return day.toordinal() - _EPOCH


def _by_rule(footer: str, after: int, last_year: int) -> list[tuple[int, int]]:
    """The changes after an instant by the rule of a footer, to a year; none for a zone without summer time."""
    found = _RULE.match(footer)
    if not found or not found["start"]:
        return []
    standard = -_seconds(found["std"], 0)
    summer = -_seconds(found["dst"], -standard - 3600)
    changes = []
    begin = max(1970, (date(1970, 1, 1) + timedelta(days=max(0, after // 86_400))).year)
    for year in range(begin, last_year + 1):
        start = _day(year, found["start"]) * 86_400 + _seconds(found["start_at"], 7200) - standard
        end = _day(year, found["end"]) * 86_400 + _seconds(found["end_at"], 7200) - summer
        changes += [(start, summer), (end, standard)]
    return [change for change in sorted(changes) if change[0] > after]
