"""Carries a topic into a table of the lake: each row once, at most one commit per half a minute or 64 MB."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import msgspec
import pyarrow as pa

from penstock.semantics.columns import system_schema
from penstock.store.lake.delta import DeltaLake
from penstock.store.log import Log, Position, Topic

__all__ = ["LakeSink", "SinkStep"]

COMMIT_US: Final = 30_000_000
COMMIT_BYTES: Final = 64 << 20
_READ_ROWS: Final = 50_000


class _Planned(msgspec.Struct, frozen=True):
    """A commit about to be made: it covers the rows from one position to the other."""

    start: tuple[int, ...]
    stop: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SinkStep:
    """What a step did: rows written, the table's version, and where it stands."""

    rows: int
    version: int | None
    position: Position


class LakeSink:
    """Copies one topic to one table.

    The bounds of a commit are noted in the log before it is made, so after a crash the same rows are committed again
    under the same application version, and the lake skips what it has. The position is confirmed to the log only
    after that; then the log may delete the rows.
    """

    def __init__(self, log: Log, topic: Topic, lake: DeltaLake, table: str | None = None) -> None:
        self.log, self.topic, self.lake = log, topic, lake
        self.table = table or topic.lake_table()
        self._state = log.state(f"lake/{self.table}")
        self._app_id = f"penstock/{log.log_id}/{log.epoch}/{topic.name}"
        self._last_us = -COMMIT_US
        if self.table not in lake.tables():
            lake.create_table(self.table, self._schema())

    def _schema(self) -> pa.Schema:
        return pa.schema([*system_schema(), *self.topic.schema])

    def position(self) -> Position:
        """The position up to which the lake has the topic."""
        confirmed = self.topic.confirmation()
        return self.topic.start() if confirmed is None else self.topic.position(confirmed.offsets)

    def step(self, *, force: bool = False) -> SinkStep:
        """Makes one commit if it is due: half a minute after the last, or 64 MB waiting, or when forced."""
        position = self.position()
        planned = self._planned()
        if planned is not None and planned.stop == position.offsets:
            self._state.put("planned", None)  # it was confirmed just before a crash
            planned = None
        if planned is None:
            now_us = self.log.clock.now_us()
            if not force and now_us - self._last_us < COMMIT_US and self._waiting_bytes(position) < COMMIT_BYTES:
                return SinkStep(0, None, position)
        batches, stop = self._collect(position, planned)
        if stop == position.offsets:
            return SinkStep(0, None, position)
        if planned is None:
            self._state.put("planned", msgspec.json.encode(_Planned(position.offsets, stop)))
        self.lake.evolve(self.table, self._schema())
        rows = pa.Table.from_batches(batches, schema=batches[0].schema) if batches else self._schema().empty_table()
        # The sum of the offsets grows with every commit, so it counts them.
        commit = self.lake.append(
            self.table, rows, app_id=self._app_id, version=sum(stop), details={"penstock_position": str(list(stop))}
        )
        position = self.topic.position(stop)
        self.topic.confirm(position, f"{self.lake.url}/{self.table}", commit.version)
        self._state.put("planned", None)
        self._last_us = self.log.clock.now_us()
        return SinkStep(rows.num_rows, commit.version, position)

    def drain(self) -> SinkStep:
        """Commits until the lake has all rows stored so far."""
        end = self.topic.end().offsets
        step = self.step(force=True)
        while any(ours < theirs for ours, theirs in zip(step.position.offsets, end, strict=True)):
            step = self.step(force=True)
        return step

    def run(self, stop: threading.Event, poll_s: float = 1.0) -> None:
        """Steps until told to stop, trimming the log after each commit."""
        while not stop.wait(poll_s):
            if self.step().version is not None:
                self.topic.trim()

    def _planned(self) -> _Planned | None:
        stored = self._state.get("planned")
        return None if stored is None else msgspec.json.decode(stored, type=_Planned)

    def _waiting_bytes(self, position: Position) -> int:
        """Bytes beyond the position, taking rows of a partition as equally large."""
        waiting = 0
        for head, offset in zip(self.topic.heads(), position.offsets, strict=True):
            rows = head.next_offset - head.start_offset
            waiting += head.n_bytes * (head.next_offset - offset) // rows if rows else 0
        return waiting

    def _collect(self, position: Position, planned: _Planned | None) -> tuple[list[pa.RecordBatch], tuple[int, ...]]:
        """Rows from a position on, at most 64 MB or up to the planned stop, partition after partition."""
        batches: list[pa.RecordBatch] = []
        stop = list(position.offsets)
        n_bytes = 0
        for partition, end in enumerate(planned.stop if planned else self.topic.end().offsets):
            while stop[partition] < end and (planned or n_bytes < COMMIT_BYTES):
                batch = self.topic.read(partition, stop[partition], to_offset=end, max_rows=_READ_ROWS)
                batches.append(batch.rows)
                n_bytes += batch.rows.nbytes
                stop[partition] = batch.next_offset
        return [batch for batch in batches if len(batch)], tuple(stop)
