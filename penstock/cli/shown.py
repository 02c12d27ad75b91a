"""Values of workflows for a reader: instants, lengths, states."""

from __future__ import annotations

from typing import Any

__all__ = ["instant", "length", "value"]

_INSTANTS = frozenset({"watermark", "frontier"})


def instant(us: int | None) -> str:
    """An instant, or nothing."""
    from penstock.doors.shown import instant_text  # light commands pay for nothing

    return (instant_text(us) or "") if us is not None else ""


def length(us: float | None) -> str:
    """A length of time with two figures or so."""
    if us is None:
        return ""
    for size, unit in ((86_400e6, "d"), (3_600e6, "h"), (60e6, "min"), (1e6, "s"), (1e3, "ms")):
        if abs(us) >= size:
            return f"{us / size:.1f} {unit}"
    return f"{us:.0f} us"


def value(kind: str, found: Any) -> str:
    """The value of a fact of a kind."""
    if found is None:
        return "unknown"
    if kind in _INSTANTS and isinstance(found, int):
        return instant(found)
    if kind == "lag" and isinstance(found, int | float):
        return f"{found:,}"
    return f"{found:,}" if isinstance(found, int) and not isinstance(found, bool) else str(found)
