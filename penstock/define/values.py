"""Small values that definitions are made of: durations, names, places."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from penstock.errors import DefinitionError, Location

__all__ = ["UNITS_US", "check_name", "duration_us", "format_duration", "here"]

UNITS_US: Final = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_DURATION = re.compile(r"(-?)(\d+)(us|ms|s|min|h|d|w)\Z")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_HERE = str(Path(__file__).parent)


def here() -> Location:
    """The line outside this package on which a definition is being written."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return Location(frame.f_code.co_filename, frame.f_lineno)


def duration_us(text: str | int, what: str = "a duration") -> int:
    """A duration in microseconds from text such as "90s", "10min", "3h", "7d" (24 h), "1w"; a number passes through.

    Raises:
        DefinitionError: the text is no duration.

    >>> duration_us("10min")
    600000000
    """
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise _bad_duration(text, what)
    if isinstance(text, int):
        return text
    match = _DURATION.match(text.strip())
    if match is None:
        raise _bad_duration(text, what)
    sign, number, unit = match.groups()
    return (-1 if sign else 1) * int(number) * UNITS_US[unit]


def _bad_duration(found: object, what: str) -> DefinitionError:
    return DefinitionError(
        f"{what} is a whole number and a unit ({', '.join(UNITS_US)})",
        found=repr(found),
        remedy='write it as in "90s", "10min", "3h", "7d"',
        where=here(),
    )


def format_duration(us: int) -> str:
    """The shortest text of a duration; `duration_us` reads it back.

    >>> format_duration(5_400_000_000)
    '90min'
    """
    for unit in ("w", "d", "h", "min", "s", "ms"):
        if us and us % UNITS_US[unit] == 0:
            return f"{us // UNITS_US[unit]}{unit}"
    return f"{us}us"


def check_name(name: object, what: str, where: Location | None = None) -> str:
    """`name`, when it is legal: lower-case letters, digits and _, not starting with a digit.

    Raises:
        DefinitionError: it is not.
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise DefinitionError(
            f"the name of {what} is lower-case letters, digits and _, not starting with a digit, at most 63",
            found=repr(name),
            remedy="rename it",
            where=where or here(),
        )
    return name
