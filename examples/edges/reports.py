"""What the batch nodes do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import penstock as ps


def day(context: Any) -> dict[str, Any]:
    """Features of every origin at the end of the day, by the history engine, from the same log."""
    end = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=context.interval_end_us)
    found = ps.open(context.project).features("by_origin", at=end.isoformat()).arrow().to_pydict()
    context.fact("rows", sum(found["n_1d"]))
    return {"day": end.isoformat(), "departures": dict(zip(found["origin"], found["n_1d"], strict=True))}


def summary(day: dict[str, Any]) -> str:
    """A line for the board."""
    return f"{day['day']}: {sum(day['departures'].values())} departures"
