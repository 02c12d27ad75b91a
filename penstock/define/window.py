"""Windows over event time. Their exact edges are in `time.md`, A query."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from penstock.define.values import check_name, duration_us, format_duration, here
from penstock.errors import DefinitionError, Location

__all__ = ["Closed", "Window", "lifetime", "rows", "this_month", "this_week", "this_year", "today", "window"]

Closed = Literal["left", "right", "both"]


@dataclass(frozen=True, eq=False)
class Window:
    """A window: of a width, since a calendar boundary, of the newest rows, or of everything.

    Attributes:
        kind: time, calendar, rows or lifetime.
        hop_us: 0 is exact, None the default hop of the width.
    """

    name: str
    kind: str
    width_us: int = 0
    hop_us: int | None = None
    offset_us: int = 0
    closed: Closed = "left"
    unit: str = ""
    zone: str = ""
    n: int = 0
    at: Location | None = field(default=None, repr=False)

    def with_defaults(self, hop: str | None, offset: str | None, closed: Closed | None) -> Window:
        """The same window with what `over(...)` says for all of its windows, where the window itself says nothing."""
        changed = self
        if hop is not None and self.kind == "time" and self.hop_us is None:
            changed = replace(changed, hop_us=_hop_us(hop))
        if offset is not None and not self.offset_us:
            changed = replace(changed, offset_us=_offset_us(offset), name=_named(self.name, offset))
        if closed is not None and self.closed == "left":
            changed = replace(changed, closed=_closed(closed))
        return changed


def window(
    width: str, *, hop: str | None = None, offset: str | None = None, closed: Closed = "left", name: str | None = None
) -> Window:
    """A window of a width, ending at the query's instant less `offset`.

    Args:
        width: "10min", "3h", "7d".
        hop: step of the left edge; "exact" for none; by default the longest usual step of at most width / 24.
        offset: ends the window that long before the query; negative looks ahead, where the future is known.
        closed: "left" counts [left, right); "right" the mirrored (left, right]; "both" adds rows exactly at the right.
        name: suffix of the columns; by default the width, and the offset if there is one.
    """
    width_us = duration_us(width, "a window's width")
    if width_us <= 0:
        raise DefinitionError(
            "a window's width is longer than nothing", found=repr(width), remedy="give a width", where=here()
        )
    return Window(
        name=name or _named(format_duration(width_us) if not isinstance(width, str) else width, offset),
        kind="time",
        width_us=width_us,
        hop_us=None if hop is None else _hop_us(hop),
        offset_us=0 if offset is None else _offset_us(offset),
        closed=_closed(closed),
        at=here(),
    )


def _hop_us(hop: str) -> int:
    hop_us = 0 if hop == "exact" else duration_us(hop, "a hop")
    if hop_us < 0 or (hop_us == 0 and hop != "exact"):
        raise DefinitionError(
            "a hop is longer than nothing", found=repr(hop), remedy='give a hop, or "exact"', where=here()
        )
    return hop_us


def _offset_us(offset: str) -> int:
    return duration_us(offset, "an offset")


def _closed(closed: str) -> Closed:
    match closed:
        case "left" | "right" | "both":
            return closed
    raise DefinitionError(
        "a window is closed left, right or both", found=repr(closed), remedy="choose one", where=here()
    )


def _named(name: str, offset: str | None) -> str:
    if offset is None or _offset_us(offset) == 0:
        return name
    return f"{name}_ago_{offset}" if _offset_us(offset) > 0 else f"{name}_ahead_{offset.lstrip('-')}"


def lifetime(name: str = "lifetime") -> Window:
    """Everything before the query's instant."""
    return Window(check_name(name, "a window"), "lifetime", at=here())


def rows(n: int, name: str | None = None) -> Window:
    """The n greatest rows in order before the query's instant."""
    if n < 1:
        raise DefinitionError("a window of rows has at least one", found=repr(n), remedy="give n >= 1", where=here())
    return Window(name or f"last{n}", "rows", n=n, at=here())


def _calendar(unit: str, zone: str, name: str) -> Window:
    if not zone or not isinstance(zone, str):
        raise DefinitionError(
            "a calendar window needs a zone", found=repr(zone), remedy='write today("Asia/Shanghai")', where=here()
        )
    return Window(name, "calendar", unit=unit, zone=zone, at=here())


def today(zone: str, name: str = "today") -> Window:
    """Since the last local midnight in `zone`, clock changes included."""
    return _calendar("day", zone, name)


def this_week(zone: str, name: str = "this_week") -> Window:
    """Since the last local Monday, 00:00."""
    return _calendar("week", zone, name)


def this_month(zone: str, name: str = "this_month") -> Window:
    """Since the first of the local month, 00:00."""
    return _calendar("month", zone, name)


def this_year(zone: str, name: str = "this_year") -> Window:
    """Since the first of the local year, 00:00."""
    return _calendar("year", zone, name)
