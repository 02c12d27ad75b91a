"""Rows as they arrive, the door that decides them, and which of them are known: `time.md`, Versions of a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from penstock.define.stream import Stream, Table

__all__ = [
    "Door",
    "Knowledge",
    "Log",
    "Own",
    "Reached",
    "Row",
    "instant_us",
    "is_known",
    "log_of",
    "plain",
    "visible",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 the oracle names what it uses


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a log. Instants in `values` are int64 microseconds, decimals `decimal.Decimal`, dates `date`.

    Attributes:
        t: event time. k: known time; both microseconds.
        op: insert, upsert or delete; drop where a filter of a derived relation leaves the version out.
        offset: place in its partition, given by the door.
    """

    t: int
    k: int
    values: Mapping[str, Any]
    id: str | None = None
    op: str = "insert"
    ordinal: int = 0
    partition: int = 0
    offset: int = 0

    @property
    def order(self) -> tuple[int, int, int, int, int]:
        """The order of rows: (t, k, source ordinal, origin partition, origin offset)."""
        return (self.t, self.k, self.ordinal, self.partition, self.offset)

    @property
    def place(self) -> tuple[int, int, int]:
        """The order of arrival in a log: (k, partition, offset)."""
        return (self.k, self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class Own:
    """Knowledge at a row's own position, that row included: every row of `log` at or before `place`, others by k."""

    log: str
    place: tuple[int, int, int]


Places = Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Reached:
    """Positions {(stream, partition): offset}, read when everything known at or before `known_us` had been."""

    places: Places
    known_us: int


Knowledge = int | Places | Reached | Own | None
"""`a`: an instant, positions with the instant they reach or without, a row's own position, or None (`as_occurred`)."""


@dataclass(frozen=True)
class Log:
    """The rows of a relation in order of arrival, and the number of the event that each is a version of.

    Attributes:
        origin: of a join, the log whose positions its rows carry.
        feeds: of a join, the logs of all sources that it rests on: its rows are made when these are read far enough.
    """

    name: str
    rows: tuple[Row, ...]
    events: tuple[int, ...]
    origin: str = ""
    feeds: tuple[Log, ...] = ()


def is_known(a: Knowledge, log: Log, row: Row) -> bool:
    """Whether a row of a log is known at `a`; of partitions that positions leave out nothing is."""
    match a:
        case None:
            return True
        case int():
            return row.k <= a
        case Own():
            return row.place <= a.place if log.name == a.log else row.k <= a.place[0]
    places = a.places if isinstance(a, Reached) else a
    if row.offset >= places.get((log.origin or log.name, row.partition), 0):
        return False
    reached = a.known_us if isinstance(a, Reached) else min((_reached(feed, places) for feed in log.feeds), default=0)
    return not log.feeds or row.k <= reached


def _reached(log: Log, places: Places) -> int:
    """The last instant at or before which no row of a source can become known after positions."""
    named = {partition for name, partition in places if name == log.name}
    found = []
    for partition in named | {row.partition for row in log.rows}:
        end = places.get((log.name, partition), 0)
        mine = [row for row in log.rows if row.partition == partition]
        read = max((row.k for row in mine if row.offset < end), default=-(2**62))
        found.append(min([read, *(row.k - 1 for row in mine if row.offset >= end)]))
    return min(found, default=-(2**62))


def log_of(definition: Stream | Table, rows: Iterable[Row]) -> Log:
    """The log of accepted rows: versions are rows with one (partition, id), while corrections are taken.

    A stream without `op` is never corrected: each of its accepted rows is an event. Rows of tables are versions by
    their key and are told apart when read.
    """
    found = tuple(sorted(rows, key=lambda row: row.place))
    if isinstance(definition, Table) or definition.op is None:
        return Log(definition.name, found, tuple(range(len(found))))
    events: list[int] = []
    newest: dict[tuple[int, str], tuple[int, int]] = {}
    for number, row in enumerate(found):
        event = number
        if row.id is not None:
            former = newest.get((row.partition, row.id))
            if former is not None and _within(former[1], row.k, definition.corrected_us):
                event = former[0]
            newest[row.partition, row.id] = (event, row.k)
        events.append(event)
    return Log(definition.name, found, tuple(events))


def _within(former_k: int, k: int, horizon_us: int | None) -> bool:
    return horizon_us is None or former_k >= k - horizon_us


def visible(log: Log, a: Knowledge, deletes: bool = False, by: int | None = None) -> list[Row]:
    """The rows that count at `a`: of each event its greatest known (k, offset) version, unless that is a delete.

    Args:
        deletes: keep deletes too; of a table, where they say from when on a key is gone.
        by: nothing is known after this instant, whatever `a`.
    """
    newest: dict[int, Row] = {}
    for row, event in zip(log.rows, log.events, strict=True):
        if (
            (by is None or row.k <= by)
            and is_known(a, log, row)
            and (event not in newest or newest[event].place < row.place)
        ):
            newest[event] = row
    return [row for row in newest.values() if row.op != "drop" and (deletes or row.op != "delete")]


@dataclass
class Door:
    """The door of one stream: rows in order of arrival; accepted ones get their offsets.

    Attributes:
        accepted: what was appended, retractions of moved events included.
        counts: how many were dead (with the reason), duplicate, or deletes of an unknown id.
    """

    stream: Stream
    accepted: list[Row] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    _inserted: dict[tuple[int, str], int] = field(default_factory=dict)
    _newest: dict[tuple[int, str], Row] = field(default_factory=dict)
    _offsets: dict[int, int] = field(default_factory=dict)

    def take(self, rows: Sequence[Row]) -> Door:
        """Decides each row, in the order given."""
        for row in rows:
            self._decide(row)
        return self

    def _decide(self, row: Row) -> None:
        if self.stream.max_ahead_us is not None and row.t > row.k + self.stream.max_ahead_us:
            return self._count("dead: too far ahead")
        values = {name: plain(value) for name, value in row.values.items()}
        if any(isinstance(value, float) and math.isinf(value) for value in values.values()):
            return self._count("dead: infinity")
        row = replace(row, values=values, op=row.op if self.stream.op is not None else "insert")
        if row.id is None:
            return self._count("unknown delete") if row.op == "delete" else self._append(replace(row, op="insert"))
        return self._decide_id(row, (row.ordinal, row.id))

    def _decide_id(self, row: Row, identity: tuple[int, str]) -> None:
        former = self._newest.get(identity)
        if former is not None and not _within(former.k, row.k, self.stream.corrected_us):
            former = None
        if row.op == "upsert" and former is None:
            row = replace(row, op="insert")
        elif row.op == "insert" and _within(self._inserted.get(identity, -(2**80)), row.k, self.stream.dedup_us):
            return self._count("duplicate")
        elif row.op == "delete" and former is None:
            return self._count("unknown delete")
        if row.op == "insert":
            self._inserted[identity] = row.k
        if row.op == "delete" and former is not None:
            row = replace(row, t=former.t, values=former.values, partition=former.partition)
        stands = self.stream.op is not None and former is not None and former.op != "delete"
        if stands and former is not None and former.partition != row.partition:
            self._append(replace(former, k=row.k, op="delete"))
        self._append(row)
        self._newest[identity] = self.accepted[-1]
        return None

    def _append(self, row: Row) -> None:
        offset = self._offsets.get(row.partition, 0)
        self._offsets[row.partition] = offset + 1
        self.accepted.append(replace(row, offset=offset))

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def plain(value: Any) -> Any:
    """A value as the rules see it: NaN is null, -0.0 is 0.0, instants and durations are microseconds."""
    if isinstance(value, float):
        return None if math.isnan(value) else value + 0.0
    if isinstance(value, datetime):
        return instant_us(value)
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    return value


def instant_us(value: datetime) -> int:
    """The microseconds since the epoch of a zoned instant."""
    return (value - _EPOCH) // timedelta(microseconds=1)
