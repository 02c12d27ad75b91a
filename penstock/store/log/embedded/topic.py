"""A topic of the embedded log: appends, reads, progress, dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import lmdb
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.errors import PenstockError, StoreError
from penstock.names import Name
from penstock.semantics.columns import KNOWN_TIME, NEVER_US
from penstock.store.log.embedded import erase as erasure
from penstock.store.log.embedded import retention
from penstock.store.log.embedded.commit import dead_key, load_counts
from penstock.store.log.embedded.producers import Producer
from penstock.store.log.embedded.record import (
    HAS_KNOWN,
    Head,
    Header,
    decode,
    log_offsets,
    partition_key,
    seek,
    stored_schema,
    with_system_columns,
)
from penstock.store.log.embedded.rewrite import rewrite
from penstock.store.log.embedded.spec import Spec
from penstock.store.log.interface import (
    Append,
    AppendResult,
    Change,
    Confirmation,
    DeadLetter,
    Erasure,
    LogBatch,
    Position,
    ProducerId,
    Retention,
    TopicCounts,
)

if TYPE_CHECKING:
    from penstock.store.log.embedded.log import EmbeddedLog

__all__ = ["EmbeddedTopic"]

_READ_BYTES = 64 << 20


class EmbeddedTopic:
    """A named list of rows in partitions, each in the order of its offsets."""

    def __init__(self, log: EmbeddedLog, spec: Spec) -> None:
        self.log, self.spec = log, spec
        self.name = Name.parse(spec.name)
        self.config = spec.topic_config()

    @property
    def schema(self) -> pa.Schema:
        """The user's columns, in their newest version known here."""
        return self.spec.schema()

    @property
    def schema_version(self) -> int:
        """The newest version of the schema known here, counted from 1."""
        return len(self.spec.schemas)

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
        """Stores rows: all together, durable when it returns, once per (producer, sequence).

        A row that does not fit goes to dead letters and is named in the result.

        Raises:
            DataError: the batch as a whole does not fit, or known times go back.
            StoreError: a stale producer, a gap in its sequence, or the disk refuses.
        """
        append = Append(self.spec.name, batch, producer, sequence, epoch, partition, frontier_us)
        return self.log.append_all([append])[0]

    def read(
        self,
        partition: int,
        from_offset: int,
        *,
        to_offset: int | None = None,
        max_rows: int = 10_000,
        schema_version: int | None = None,
    ) -> LogBatch:
        """Rows from an offset on; none at the end.

        Args:
            partition: which.
            from_offset: of the first row.
            to_offset: rows from this offset on are left out; the end by default.
            max_rows: at most so many.
            schema_version: of the rows as returned; the newest by default.

        Raises:
            StoreError: the offset lies before what is retained or after the end, or there is no such partition.
        """
        bounds = (from_offset, NEVER_US if to_offset is None else max(to_offset, from_offset))
        head, found, next_known_us = self.log.env.view(lambda txn: self._collect(txn, partition, bounds, max_rows))
        version = max([self.schema_version, *(header.schema_version for header, _ in found)])
        if version > self.schema_version:
            self.spec = self.log.spec(self.spec.name)
        schema = self.spec.schema(schema_version)
        records = []
        next_offset = from_offset
        for header, data in found:
            rows = decode(header, data, self.spec.schema(header.schema_version))
            offsets = log_offsets(header, rows)
            start, end = offsets.searchsorted(bounds).tolist()
            stop = min(end, start + max_rows)
            next_offset = min(header.next_offset, bounds[1])
            if stop < len(offsets):
                next_offset, next_known_us = min(int(offsets[stop]), bounds[1]), _known_us(header, rows, stop)
            max_rows -= stop - start
            records.append((header, rows.slice(start, stop - start), offsets[start:stop]))
        if not records:
            records = [_nothing(schema)]
        return LogBatch(
            rows=with_system_columns(records, schema, partition, self.config.ordinal),
            partition=partition,
            from_offset=from_offset,
            next_offset=next_offset,
            frontier_us=self._frontier_at(head, next_known_us),
        )

    def _collect(
        self, txn: lmdb.Transaction, partition: int, bounds: tuple[int, int], max_rows: int
    ) -> tuple[Head, list[tuple[Header, bytes]], int | None]:
        """Records that hold the rows asked for, copied out, and the known time of the row after them, if any."""
        db, number = self.log.env.db, self.spec.number
        from_offset, to_offset = bounds
        self._check_read(partition, max_rows)
        head = Head.unpack(txn.get(partition_key(number, partition), db=db["heads"]))
        if not head.start_offset <= from_offset <= head.next_offset:
            raise self._outside(partition, from_offset, head)
        found: list[tuple[Header, bytes]] = []
        cursor = txn.cursor(db=db["batches"])
        n_rows = n_bytes = 0
        more = seek(cursor, number, partition, from_offset)
        prefix = partition_key(number, partition)
        while more and bytes(cursor.key()[:8]) == prefix:
            header = Header.unpack(cursor.value())
            if n_rows >= max_rows or n_bytes >= _READ_BYTES or header.first_offset >= to_offset:
                return head, found, header.known_first_us
            data = bytes(cursor.value())
            found.append((header, data))
            n_rows += header.n_rows - (from_offset - header.first_offset if len(found) == 1 else 0)
            n_bytes += len(data)
            more = cursor.next()
        return head, found, None

    def _frontier_at(self, head: Head, next_known_us: int | None) -> int:
        if next_known_us is not None:
            return next_known_us - 1
        if self.config.clock == "live":
            return head.known_us
        return max(head.frontier_us, head.known_us - 1) if head.next_offset else head.frontier_us

    def tail(
        self, position: Position | None = None, *, max_rows: int = 10_000, timeout_s: float | None = None
    ) -> Iterator[LogBatch]:
        """Batches from a position on, the oldest by default, waiting for new ones; ends when none came in time.

        Args:
            position: where to start.
            max_rows: in one batch.
            timeout_s: how long to wait for a row; None waits for ever, 0 ends at the end.
        """
        position = position or self.start()
        while True:
            idle = True
            for partition in range(self.config.partitions):
                batch = self.read(partition, position.offsets[partition], max_rows=max_rows)
                if batch.next_offset > batch.from_offset:
                    idle = False
                    position = position.moved(partition, batch.next_offset)
                    if len(batch.rows):
                        yield batch
            if idle and not self.wait(position, timeout_s):
                return

    def start(self) -> Position:
        """The oldest position retained."""
        return self._position([head.start_offset for head in self.heads()])

    def end(self) -> Position:
        """The position after the last row; of all partitions at one moment."""
        return self._position([head.next_offset for head in self.heads()])

    def position(self, offsets: tuple[int, ...] | list[int]) -> Position:
        """The position with these offsets.

        Raises:
            StoreError: not one offset for each partition.
        """
        position = self._position(offsets)
        self.check_own(position)
        return position

    def _position(self, offsets: tuple[int, ...] | list[int]) -> Position:
        return Position(self.log.log_id, self.log.epoch, self.spec.name, tuple(offsets))

    def heads(self) -> list[Head]:
        """The state of every partition at one moment."""
        return self.log.env.view(self.heads_in)

    def heads_in(self, txn: lmdb.Transaction) -> list[Head]:
        """The state of every partition within a transaction."""
        heads = self.log.env.db["heads"]
        return [
            Head.unpack(txn.get(partition_key(self.spec.number, partition), db=heads))
            for partition in range(self.config.partitions)
        ]

    def frontier(self, position: Position) -> tuple[int, ...]:
        """By partition, the last instant at or before which no row beyond the position is or will be known.

        Where rows lie beyond the position, it is just before the first of them. Read to its end, a live topic gives
        the clock, and keeps the promise: later rows are known after it, whichever process appends them. A topic
        whose clock is `source` gives what its producer promised, else just before the last known time.

        Raises:
            StoreError: the position is of another log or topic.
        """
        self.check_own(position)
        at_end = self.log.env.view(lambda txn: self._frontiers(txn, position, promise=False))
        if all(us is not None for us in at_end):
            return tuple(us for us in at_end if us is not None)
        # A writer takes its known time under the write lock, so while we hold it none is on its way.
        promised = self.log.env.exclusive(lambda txn: self._frontiers(txn, position, promise=True))
        return tuple(us for us in promised if us is not None)

    def _frontiers(self, txn: lmdb.Transaction, position: Position, *, promise: bool) -> list[int | None]:
        frontiers: list[int | None] = []
        for partition, head in enumerate(self.heads_in(txn)):
            offset = position.offsets[partition]
            if offset < head.next_offset:
                frontiers.append(self._frontier_at(head, self._known_at(txn, partition, offset)))
            elif self.config.clock == "source":
                frontiers.append(self._frontier_at(head, None))
            elif promise:
                frontier_us = max(head.known_us, self.log.clock.now_us())
                self.log.floors.raise_to(self.spec, partition, frontier_us)
                frontiers.append(frontier_us)
            else:
                frontiers.append(None)
        return frontiers

    def _known_at(self, txn: lmdb.Transaction, partition: int, offset: int) -> int | None:
        """The known time of the first row at or after an offset; None where all such rows were erased."""
        cursor = txn.cursor(db=self.log.env.db["batches"])
        more = seek(cursor, self.spec.number, partition, offset)
        prefix = partition_key(self.spec.number, partition)
        while more and bytes(cursor.key()[:8]) == prefix:
            header = Header.unpack(cursor.value())
            if header.known_first_us == header.known_last_us or offset <= header.first_offset:
                return header.known_first_us
            rows = decode(header, bytes(cursor.value()), self.log.spec_in(txn, self.spec.name, header.schema_version))
            at = int(log_offsets(header, rows).searchsorted(offset))
            if at < len(rows):
                return _known_us(header, rows, at)
            more = cursor.next()
        return None

    def wait(self, position: Position, timeout_s: float | None = None) -> bool:
        """Waits until there is a row beyond the position; whether there is one.

        Raises:
            StoreError: the position is of another log or topic.
        """
        return self.log.wait([position], timeout_s)

    def is_beyond(self, position: Position) -> bool:
        """Whether there is a row beyond the position."""
        self.check_own(position)
        return any(head.next_offset > offset for head, offset in zip(self.heads(), position.offsets, strict=True))

    def last_sequence(self, producer: ProducerId) -> int:
        """The last sequence stored for a producer, -1 for none."""
        db = self.log.env.db["producers"]
        return self.log.env.view(lambda txn: Producer.load(txn, db, self.spec.number, producer).sequence)

    def dead_letters(self, from_number: int = 0, limit: int = 1_000) -> list[DeadLetter]:
        """Rows refused at the door, oldest first."""
        db, topic = self.log.env.db["dead"], self.spec.number

        def work(txn: lmdb.Transaction) -> list[DeadLetter]:
            letters: list[DeadLetter] = []
            cursor = txn.cursor(db=db)
            more = cursor.set_range(dead_key(topic, from_number))
            while more and len(letters) < limit and bytes(cursor.key()[:4]) == dead_key(topic, 0)[:4]:
                number = int.from_bytes(bytes(cursor.key()[4:]), "big")
                letters.append(DeadLetter(number=number, **msgspec.json.decode(cursor.value())))
                more = cursor.next()
            return letters

        return self.log.env.view(work)

    def confirm(self, position: Position, table: str, version: int) -> None:
        """Notes that a table of the lake, in a version, holds every row below a position.

        Raises:
            StoreError: the position is of another topic, or lies beyond the end.
        """
        retention.confirm(self, position, table, version)

    def confirmation(self) -> Confirmation | None:
        """What the lake has confirmed last."""
        return retention.confirmation(self)

    def trim(self, keep: Retention | None = None) -> int:
        """Deletes confirmed rows that the retention, the topic's by default, no longer keeps; how many records."""
        return retention.trim(self, keep)

    def erase(self, key: Mapping[str, Any], *, reason: str, author: str) -> Erasure:
        """Takes every row whose columns equal `key` out of the topic, its id index and its dead letters.

        Raises:
            DataError: no such column, or the value is not of its type.
        """
        return erasure.erase(self, key, reason=reason, author=author)

    def rewrite(self, change: Change) -> int:
        """Changes rows of a derived topic where they stand, or takes them out; how many.

        Raises:
            StoreError: the topic is no derived one.
        """
        return rewrite(self, change)

    def erasures(self) -> list[Erasure]:
        """Every erasure in the topic, oldest first; the erased keys themselves are not kept."""
        return erasure.audit(self)

    def counts(self) -> TopicCounts:
        """What the topic has taken since it was created."""
        return self.log.env.view(lambda txn: load_counts(txn, self.log.env.db, self.spec.number))

    def lake_table(self) -> str:
        """The table of the lake that the topic's rows go to: environment, project, fork, name and version in one."""
        return str(self.name).replace("/", "__").replace("@", "__v")

    def check_own(self, position: Position) -> None:
        """Refuses a position of another log, epoch or topic.

        Raises:
            StoreError: it is.
        """
        ours = self._position(position.offsets)
        if position != ours or len(position.offsets) != self.config.partitions:
            raise StoreError(
                f"use a position in {self.spec.name} of log {self.log.log_id}, epoch {self.log.epoch}",
                found=position.to_json(),
                remedy="take a position from this topic, by start, end or position",
                where=str(self.log.path),
            )

    def _check_read(self, partition: int, max_rows: int) -> None:
        if not 0 <= partition < self.config.partitions or max_rows < 1:
            raise StoreError(
                f"read partition {partition} of {self.spec.name}, at least one row",
                found=f"{self.config.partitions} partitions, max_rows={max_rows}",
                remedy="partitions count from 0",
                where=str(self.log.path),
            )

    def _outside(self, partition: int, offset: int, head: Head) -> PenstockError:
        below = offset < head.start_offset
        return StoreError(
            f"read {self.spec.name}, partition {partition}, from offset {offset}",
            found=f"offsets {head.start_offset} to {head.next_offset} retained",
            remedy=f"older rows are in the lake: read {self.lake_table()} there" if below else "read from the end",
            where=str(self.log.path),
        )


def _known_us(header: Header, rows: pa.RecordBatch, at: int) -> int:
    return int(rows[KNOWN_TIME][at].as_py()) if header.flags & HAS_KNOWN else header.known_last_us


def _nothing(schema: pa.Schema) -> tuple[Header, pa.RecordBatch, NDArray[np.int64]]:
    header = Header(0, 0, 0, 0, 0, 0, 0, 0)
    stored = stored_schema(schema, 0)
    empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in stored], schema=stored)
    return header, empty, np.empty(0, np.int64)
