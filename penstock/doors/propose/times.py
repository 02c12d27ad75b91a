"""Which column says when it happened, which when it was known, and how far out of order rows come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.define.values import duration_us, format_duration
from penstock.doors.propose.profile import ColumnProfile
from penstock.doors.sources.texts import local_to_utc

__all__ = ["Lateness", "TimeColumn", "event_time", "known_time", "lateness", "time_columns"]

_EPOCHS: Final = (("s", 1_000_000), ("ms", 1_000), ("us", 1))
_FROM_US, _TO_US = 631_152_000_000_000, 4_102_444_800_000_000  # 1990 to 2100
_HAPPENED: Final = {"event", "ts", "timestamp", "time", "happened", "occurred", "at", "date", "datetime", "when", "dt"}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RECEIVED: Final = _words(
    """
    ingest ingested ingestion received loaded arrived arrival processed inserted appended known collected recorded
    landed
    """
)
_BESIDE: Final = _words(
    """
    updated modified created birth expires expiry valid until end label registered signup account
    """
)
_ROUND: Final = ("1s", "5s", "10s", "30s", "1min", "5min", "10min", "30min", "1h", "3h", "6h", "12h", "1d", "3d", "7d")


@dataclass(frozen=True)
class TimeColumn:
    """A column that can be read as a time.

    Attributes:
        expression: SQL that gives the instant, or the date.
        unit: s, ms or us for numbers since the epoch; "" for times.
        local: it needs a zone.
        instants_us: int64 UTC microseconds of the rows; NaT where null.
        score: how much speaks for it as the event time. why: in words.
    """

    column: ColumnProfile
    expression: str
    unit: str
    local: bool
    instants_us: NDArray[np.int64]
    valid: NDArray[np.bool_]
    score: float
    why: str


@dataclass(frozen=True)
class Lateness:
    """Measured out-of-orderness of event times along the order of the rows.

    Attributes:
        most_us: the farthest a row lies behind the greatest before it. behind: share of rows that lie behind.
        ordered: whether the order of the rows says anything about arrival.
    """

    most_us: int
    behind: float
    ordered: bool

    @property
    def proposed(self) -> str | None:
        """The lateness to declare: the measured one, rounded up; None where rows come in order or cannot tell."""
        if not self.most_us or not self.ordered:
            return None
        return next((t for t in _ROUND if duration_us(t) >= self.most_us), None) or format_duration(
            -(-self.most_us // 86_400_000_000) * 86_400_000_000
        )


def quoted(name: str) -> str:
    """A column's name as SQL."""
    return name if name.isidentifier() and name.isascii() else '"' + name.replace('"', '""') + '"'


def time_columns(columns: Sequence[ColumnProfile], zone: str) -> list[TimeColumn]:
    """The columns that can be read as times, the likeliest event time first.

    Args:
        zone: in which local times are read.
    """
    found = [t for c in columns if (t := _time_column(c, zone)) is not None]
    return sorted(found, key=lambda t: -t.score)


def event_time(times: Sequence[TimeColumn]) -> TimeColumn | None:
    """The likeliest event time, if one is likely at all."""
    return times[0] if times and times[0].score > 0 else None


def known_time(times: Sequence[TimeColumn], event: TimeColumn) -> TimeColumn | None:
    """A column whose name says that rows were received then, and whose values do not lie before the event."""
    for other in times:
        if other is event or not _RECEIVED & set(other.column.words) or other.column.is_date:
            continue
        both = other.valid & event.valid
        if both.all() and (other.instants_us >= event.instants_us).mean() >= 0.99:
            return other
    return None


def lateness(event: TimeColumn, known: TimeColumn | None) -> Lateness:
    """Measures along the known time where there is one, else along the order of the rows."""
    instants = event.instants_us[event.valid]
    if known is not None:
        instants = event.instants_us[np.argsort(known.instants_us, kind="stable")]
    if len(instants) < 2:
        return Lateness(0, 0.0, False)
    behind = np.maximum.accumulate(instants) - instants
    span = int(instants.max() - instants.min())
    share = float((behind > 0).mean())
    # In a file in no order at all a typical row lies a good part of the span behind.
    ordered = known is not None or (float(np.median(behind)) <= span * 0.01 and share < 0.9)
    return Lateness(int(behind.max()), share, ordered)


def _time_column(column: ColumnProfile, zone: str) -> TimeColumn | None:
    if not column.rows or column.nulls == column.rows:
        return None
    name, unit = quoted(column.name), ""
    if column.is_time:
        local = column.type.tz is None
        instants = local_to_utc(column.values, zone) if local else column.values.cast(pa.timestamp("us", "UTC"))
        us = instants.cast(pa.int64())
    elif column.is_date:
        local, us = True, local_to_utc(column.values.cast(pa.timestamp("us")), zone).cast(pa.int64())
    elif unit := _epoch_unit(column):
        scale = dict(_EPOCHS)[unit]
        is_float = pa.types.is_floating(column.type)
        us = pc.multiply(column.values, float(scale) if is_float else scale).cast(pa.int64(), safe=False)
        name = _epoch_expression(name, unit, is_float)
        local = False
    else:
        return None
    valid = np.asarray(us.is_valid().to_numpy(), bool)
    score, why = _score(column, unit)
    return TimeColumn(column, name, unit, local, us.fill_null(0).to_numpy(), valid, score, why)


def _epoch_expression(name: str, unit: str, is_float: bool) -> str:
    if unit == "s":
        return f"to_timestamp({name})" if is_float else f"to_timestamp(CAST({name} AS float))"
    whole = f"CAST({name} AS int)" if is_float else name
    return f"instant_{unit}({whole})"


def _epoch_unit(column: ColumnProfile) -> str:
    """The unit in which all values lie between 1990 and 2100, for a column named like a time or far from small."""
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not numeric or column.low is None or "id" in column.words:
        return ""
    for unit, scale in _EPOCHS:
        if column.low * scale >= _FROM_US and column.high * scale <= _TO_US:
            named = _HAPPENED & set(column.words) or _RECEIVED & set(column.words) or _BESIDE & set(column.words)
            return unit if named or unit != "s" else ""
    return ""


def _score(column: ColumnProfile, unit: str) -> tuple[float, str]:
    named = set(column.words)
    score, why = 1.0, []
    if column.is_date:
        score, why = 0.2, ["days only"]
    elif unit:
        why.append(f"{unit} since 1970")
    else:
        why.append("local times" if column.type.tz is None else "instants")
    if named & _HAPPENED:
        score += 1.0
        why.append("named like a time")
    if "event" in named:
        score += 1.0
    if named & _RECEIVED and not named & {"event", "landed", "arrived", "arrival"}:
        score -= 0.8
    if named & _BESIDE:
        score -= 0.9 if not column.is_date else 1.5
        why.append("of something beside the event by its name")
    score -= 2.0 * column.nulls / column.rows
    score += 0.3 * min(column.distinct / column.rows, 1.0)
    return score, ", ".join(why)
