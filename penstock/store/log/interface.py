"""What a log promises: topics, atomic and idempotent appends, positions, reads, progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NewType, Protocol, runtime_checkable

from penstock.errors import StoreError
from penstock.names import Name

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "Append",
    "AppendResult",
    "Change",
    "Changed",
    "ClockKind",
    "Confirmation",
    "DeadLetter",
    "Erasure",
    "Log",
    "LogBatch",
    "Position",
    "ProducerId",
    "Refused",
    "Retention",
    "Topic",
    "TopicConfig",
    "TopicCounts",
]

ProducerId = NewType("ProducerId", str)
"""Who appends. Its appends are counted by a sequence from 0, so that one sent again is not stored again."""

ClockKind = Literal["live", "source"]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a topic: the next offset to read in each partition, tied to one log and its epoch."""

    log_id: str
    epoch: int
    topic: str
    offsets: tuple[int, ...]

    def to_json(self) -> str:
        """The position as JSON text."""
        return json.dumps([self.log_id, self.epoch, self.topic, list(self.offsets)])

    @classmethod
    def from_json(cls, text: str) -> Position:
        """Reads what `to_json` wrote.

        Raises:
            StoreError: the text is no position.
        """
        try:
            log_id, epoch, topic, offsets = json.loads(text)
            return cls(str(log_id), int(epoch), str(topic), tuple(int(offset) for offset in offsets))
        except (ValueError, TypeError) as error:
            raise StoreError(
                "a position is JSON [log id, epoch, topic, offsets]",
                found=repr(text[:200]),
                remedy="pass what Position.to_json wrote",
            ) from error

    def moved(self, partition: int, offset: int) -> Position:
        """The same position with one partition's offset replaced."""
        offsets = list(self.offsets)
        offsets[partition] = offset
        return Position(self.log_id, self.epoch, self.topic, tuple(offsets))


@dataclass(frozen=True, slots=True)
class Retention:
    """What may be deleted once the lake has confirmed it: rows older than `age_us`, or beyond `max_bytes`."""

    age_us: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """How a topic takes rows; fixed when it is created.

    Attributes:
        partitions: number of partitions, at least 1.
        clock: `live` takes the known time from the log's clock, `source` from the row's `_known_time`.
        ids: rows may carry `_id`, and repeated inserts are dropped.
        dedup_us: D: a repeated insert is dropped if an accepted one of its id is known since `k - D`.
        corrected: rows may carry `_op`: upserts and deletes find the row of their id; needs `ids`.
        corrected_us: an id without an accepted version within this span is unknown to corrections; None for ever.
        max_ahead_us: rows with `t > k + max_ahead_us` are dead letters.
        key: columns whose hash places a row in a partition; none places all rows in partition 0.
        ordinal: the source ordinal that rows carry in the order.
        carried: rows of a derived topic bring `_ordinal`, `_partition`, `_offset` of the row they were made from, and
            may bring `_id` and `_op`; they were decided at their origin, so none is dropped or moved here.
        compression: of stored rows.
        retention: what may be deleted once the lake has it.
    """

    partitions: int = 1
    clock: ClockKind = "live"
    ids: bool = False
    dedup_us: int = 0
    corrected: bool = False
    corrected_us: int | None = None
    max_ahead_us: int = 300_000_000
    key: tuple[str, ...] = ()
    ordinal: int = 0
    carried: bool = False
    compression: Literal["lz4", "zstd"] | None = None
    retention: Retention = Retention()


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that went to dead letters: its index in the appended batch, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of an append.

    Attributes:
        offsets: by partition touched: (first offset, offset after the last) of the rows stored there.
        accepted: rows stored, retractions not counted.
        duplicates: repeated inserts dropped.
        no_ops: deletes of unknown ids.
        dead: rows that went to dead letters; the first 1,000 are listed in `refused`.
        known_time: greatest known time given, UTC microseconds; None where nothing was stored.
        repeated: the append had been made before, and nothing was written now.
    """

    offsets: Mapping[int, tuple[int, int]]
    accepted: int
    duplicates: int = 0
    no_ops: int = 0
    dead: int = 0
    known_time: int | None = None
    refused: tuple[Refused, ...] = ()
    repeated: bool = False

    @property
    def first_offset(self) -> int | None:
        """The first offset in the lowest partition touched, or None where nothing was stored."""
        return self.offsets[min(self.offsets)][0] if self.offsets else None


@dataclass(frozen=True, slots=True)
class Append:
    """One append of several to be committed together.

    Attributes:
        batch: the user's columns and `_event_time`; `_id` where ids are kept, `_op` where rows are corrected;
            `_known_time` where the clock is `source`; `_ordinal`, `_partition`, `_offset` where the topic is carried.
        producer: who appends; None where an append sent again may be stored again.
        sequence: counts the producer's appends to this topic from 0, without gaps.
        epoch: fences: an epoch below the greatest seen of this producer is refused.
        partition: where all rows go; by default they are placed by key.
        frontier_us: a promise: no later row of the topic has a known time at or before it (clock `source`).
        refused: rows that the sender's door turned away, (reason, row as plain data): they become dead letters with
            this append, once, and are counted in its result, but not listed there.
    """

    topic: str
    batch: pa.RecordBatch | pa.Table
    producer: ProducerId | None = None
    sequence: int = 0
    epoch: int = 0
    partition: int | None = None
    frontier_us: int | None = None
    refused: Sequence[tuple[str, Mapping[str, Any]]] = ()


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Rows of one partition in the order of their offsets.

    Attributes:
        rows: system columns, then the user's. `_offset` and `_partition` are those of the first append; where the
            topic is carried they differ from the place in this log.
        partition: where the rows were read.
        from_offset: the offset asked for.
        next_offset: the offset to read next.
        frontier_us: no row at or after `next_offset` was or will be known at or before this instant.
    """

    rows: pa.RecordBatch
    partition: int
    from_offset: int
    next_offset: int
    frontier_us: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row refused at the door: its number in the topic's list, when, by whom, why, and the row as plain data."""

    number: int
    at_us: int
    producer: str
    reason: str
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The lake holds every row below these offsets, by partition: in which table, since which version of it."""

    offsets: tuple[int, ...]
    table: str
    version: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """An entry of the audit: when, by which columns, how many rows and dead letters went, why and by whom."""

    at_us: int
    columns: tuple[str, ...]
    rows: int
    dead_letters: int
    reason: str
    author: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What becomes of rows that are rewritten.

    Attributes:
        keep: which stay. differs: which of them have other values; both `(n_rows,)`.
        values: the user's columns of all of them, as they are to be.
    """

    keep: NDArray[np.bool_]
    differs: NDArray[np.bool_]
    values: pa.RecordBatch


Change = Callable[["pa.RecordBatch"], Changed | None]
"""Decides about rows, system columns included; None leaves all as they are. It may be asked about them again."""


@dataclass(frozen=True, slots=True)
class TopicCounts:
    """What a topic has taken since it was created."""

    accepted: int = 0
    duplicates: int = 0
    no_ops: int = 0
    dead: int = 0
    retractions: int = 0
    erased: int = 0


@runtime_checkable
class Topic(Protocol):
    """A named list of rows in partitions, each in the order of its offsets."""

    name: Name
    config: TopicConfig

    @property
    def schema(self) -> pa.Schema:
        """The user's columns, in their newest version."""
        ...

    def append(
        self,
        batch: pa.RecordBatch | pa.Table,
        *,
        producer: ProducerId | None = None,
        sequence: int = 0,
        epoch: int = 0,
        partition: int | None = None,
        frontier_us: int | None = None,
    ) -> AppendResult:
        """Stores rows: all together, durable when it returns, once per (producer, sequence)."""
        ...

    def read(
        self,
        partition: int,
        from_offset: int,
        *,
        to_offset: int | None = None,
        max_rows: int = 10_000,
        schema_version: int | None = None,
    ) -> LogBatch:
        """Rows from an offset on, before another; none where the partition is read to its end."""
        ...

    def tail(
        self, position: Position | None = None, *, max_rows: int = 10_000, timeout_s: float | None = None
    ) -> Iterator[LogBatch]:
        """Batches from a position on, waiting for new ones; ends when none came for `timeout_s`."""
        ...

    def start(self) -> Position:
        """The oldest position retained."""
        ...

    def end(self) -> Position:
        """The position after the last row."""
        ...

    def frontier(self, position: Position) -> tuple[int, ...]:
        """By partition, the last instant at or before which no row beyond the position is or will be known."""
        ...

    def wait(self, position: Position, timeout_s: float | None = None) -> bool:
        """Waits until there is a row beyond the position; whether there is one."""
        ...

    def last_sequence(self, producer: ProducerId) -> int:
        """The last sequence stored for a producer, -1 for none."""
        ...

    def dead_letters(self, from_number: int = 0, limit: int = 1_000) -> list[DeadLetter]:
        """Rows refused at the door, oldest first."""
        ...

    def confirm(self, position: Position, table: str, version: int) -> None:
        """Notes that a table of the lake, in a version, holds every row below a position."""
        ...

    def trim(self, keep: Retention | None = None) -> int:
        """Deletes confirmed rows that the retention, the topic's by default, no longer keeps; how many records."""
        ...

    def erase(self, key: Mapping[str, Any], *, reason: str, author: str) -> Erasure:
        """Takes every row whose columns equal `key` out of the topic, its id index and its dead letters."""
        ...

    def rewrite(self, change: Change) -> int:
        """Changes rows of a derived topic where they stand, or takes them out; how many."""
        ...

    def lake_table(self) -> str:
        """The table of the lake that the topic's rows go to."""
        ...

    def erasures(self) -> list[Erasure]:
        """Every erasure in the topic, oldest first; the erased keys themselves are not kept."""
        ...

    def counts(self) -> TopicCounts:
        """What the topic has taken since it was created."""
        ...


@runtime_checkable
class Log(Protocol):
    """Topics in one place, with one id and one clock."""

    log_id: str
    epoch: int

    def create_topic(self, name: Name | str, schema: pa.Schema, config: TopicConfig | None = None) -> Topic:
        """A new topic, or the one of that name when schema and configuration are the same."""
        ...

    def topic(self, name: Name | str) -> Topic:
        """The topic of that name."""
        ...

    def topics(self) -> list[str]:
        """The full names of all topics, sorted."""
        ...

    def append_all(self, appends: Sequence[Append]) -> list[AppendResult]:
        """Several appends in one commit: all or none."""
        ...

    def wait(self, positions: Sequence[Position], timeout_s: float | None = None) -> bool:
        """Waits until a topic has a row beyond its position; whether one has."""
        ...

    def close(self) -> None:
        """Lets go of the log; its topics are of no use after that."""
        ...
