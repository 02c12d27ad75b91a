"""Brings what sources hold into their topics, in the order of known time, each row exactly once."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.clock import ReplayClock
from penstock.doors.convert import Converter
from penstock.doors.journal import Entry, Journal
from penstock.doors.sort import sort_by_known_time
from penstock.doors.sources import open_source
from penstock.doors.topics import replayed, topic_config
from penstock.errors import DataError, DoorError
from penstock.plan.ir import SourcePlan
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME
from penstock.store.log import Append, AppendResult, Log, ProducerId, Topic

__all__ = ["Replay", "Step", "producer_of"]

_STEP_ROWS: Final = 8_192
_UNKNOWN_US: Final = -(2**62)


def producer_of(name: str) -> ProducerId:
    """The producer under which a source's rows are appended."""
    return ProducerId(f"load:{name}")


@dataclass(frozen=True)
class Step:
    """One commit of a replay.

    Attributes:
        known_us: every row known at or before it is in the log now.
        results: by name of the stream; streams that gave nothing included.
    """

    known_us: int
    results: dict[str, AppendResult]

    @property
    def rows(self) -> int:
        """Rows taken from the sources."""
        return sum(r.accepted + r.duplicates + r.no_ops + r.dead for r in self.results.values())


@dataclass
class Replay:
    """Streams from files, appended together in the order of their known times.

    All topics advance as one: after each step each of them promises that no earlier row comes, so that joins close,
    and the clock of the replay stands at the last known time. Broken off at any point it goes on where it was.

    Args:
        sources: streams and tables whose rows are replayed.
        log: where their topics are; topics that are missing are made.
        root: of the project.
        journals: the folder in which the last append of each is remembered.
        clock: moved along; None leaves the deployment's clock alone.
        step_rows: about so many rows of all streams go into one commit.
        speed: known time passes so many times as fast as the wall's; None: as fast as it goes.
    """

    sources: Sequence[SourcePlan]
    log: Log
    root: Path
    journals: Path
    clock: ReplayClock | None = None
    step_rows: int = _STEP_ROWS
    speed: float | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    def steps(self) -> Iterator[Step]:
        """Commits step by step until the sources are read out, or `stopped` is set.

        Raises:
            DoorError: a source is not replayed from files.
            DataError: a file is damaged or was changed; a row is known before rows that are in the log.
        """
        lanes: list[_Lane] = []
        try:
            for source in self.sources:
                lanes.append(_Lane(source, self.log, self.root, self.journals))
            yield from self._steps(lanes)
        finally:
            for lane in lanes:
                lane.close()

    def _steps(self, lanes: list[_Lane]) -> Iterator[Step]:
        start_us: int | None = None
        start_s = time.monotonic()
        while not self.stopped.is_set():
            live = [lane for lane in lanes if lane.fill(max(1, self.step_rows // len(lanes)))]
            if not live:
                return
            horizon_us = min(lane.horizon_us(max(1, self.step_rows // len(lanes))) for lane in live)
            if self.speed is not None:
                start_us = horizon_us if start_us is None else start_us
                ahead_s = (horizon_us - start_us) / 1e6 / self.speed - (time.monotonic() - start_s)
                if ahead_s > 0 and self.stopped.wait(ahead_s):
                    return
            if self.clock is not None:
                self.clock.advance_to(max(horizon_us, self.clock.now_us()))
            taken = [(lane, lane.take(horizon_us)) for lane in lanes]
            for lane, rows in taken:
                lane.journal.begin(lane.entry(rows))
            results = self.log.append_all([lane.append(rows, horizon_us) for lane, rows in taken])
            yield Step(horizon_us, {lane.name: r for (lane, _), r in zip(taken, results, strict=True)})


class _Lane:
    """One stream of a replay: its sorted rows, and where it stands."""

    def __init__(self, source: SourcePlan, log: Log, root: Path, journals: Path) -> None:
        if not replayed(source):
            raise DoorError(
                "streams from files are replayed",
                found=f"{source.name.name} of kind {source.source.kind!r}",
                remedy="follow it instead, or send its events by HTTP",
            )
        self.name, self.topic_name = source.name.name, str(source.name)
        self.topic: Topic = log.create_topic(source.name, source.schema.arrow, topic_config(source))
        self.journal = Journal(journals, self.topic_name, log.log_id)
        self.sequence, position = self.journal.resume(self.topic.last_sequence(producer_of(self.name)))
        position = position or {"base": None, "rows": 0, "of": None}
        self._base, self._rows, self._of = position["base"], position["rows"], position["of"]
        self._ended: Any = None
        self._source, self._root = source, root
        self._held: list[pa.RecordBatch] = []
        self._sorted = self._open()

    def _open(self) -> Generator[pa.RecordBatch, None, None]:
        """The sorted rows from where the lane stands."""
        plugin, options = open_source(self._source.source, self._root, self._source.schema.arrow)
        converter = Converter(self._source)

        def converted() -> Iterator[pa.RecordBatch]:
            self._ended = self._base
            for batch, position in plugin.read(options, self._base):
                self._ended = position
                yield _with_known(converter.convert(batch))

        rows = sort_by_known_time(converted())
        first = next(rows, None)
        digest = hashlib.blake2b(json.dumps(self._ended, sort_keys=True).encode(), digest_size=8).hexdigest()
        if self._rows and self._of != digest:
            raise DataError(
                f"the files of {self.name} stay as they are until they are loaded",
                found=f"others than when the load was broken off after {self._rows:,} rows",
                remedy="take the new files away until the load has ended",
            )
        self._of = digest
        skip = self._rows
        while first is not None:
            if first.num_rows > skip:
                yield first.slice(skip)
                skip = 0
            else:
                skip -= first.num_rows
            first = next(rows, None)

    def close(self) -> None:
        """Lets go of the files and of the journal."""
        self._sorted.close()
        self.journal.close()

    def fill(self, n_rows: int) -> bool:
        """Holds at least so many rows, if there are; whether there are any."""
        while sum(b.num_rows for b in self._held) < n_rows:
            batch = next(self._sorted, None)
            if batch is None:
                break
            self._held.append(batch)
        return bool(self._held)

    def horizon_us(self, n_rows: int) -> int:
        """The known time of the n-th row held, or of the last."""
        for batch in self._held:
            if n_rows <= batch.num_rows:
                return int(batch.column(KNOWN_TIME)[n_rows - 1].as_py())
            n_rows -= batch.num_rows
        return int(self._held[-1].column(KNOWN_TIME)[-1].as_py())

    def take(self, horizon_us: int) -> pa.Table | None:
        """All rows known at or before the horizon."""
        taken = []
        while self.fill(1):
            batch = self._held[0]
            n = int(np.searchsorted(batch.column(KNOWN_TIME).to_numpy(), horizon_us, "right"))
            if n:
                taken.append(batch.slice(0, n))
            if n < batch.num_rows:
                self._held[0] = batch.slice(n)
                break
            self._held.pop(0)
        return pa.Table.from_batches(taken) if taken else None

    def entry(self, rows: pa.Table | None) -> Entry:
        """What the journal is told of the append of these rows."""
        before = {"base": self._base, "rows": self._rows, "of": self._of}
        self._rows += 0 if rows is None else rows.num_rows
        if not self.fill(1):  # all of these files are in: the next load starts behind them
            self._base, self._rows, self._of = self._ended, 0, None
        after = {"base": self._base, "rows": self._rows, "of": self._of}
        return Entry(self.sequence, before, after)

    def append(self, rows: pa.Table | None, horizon_us: int) -> Append:
        """The append of these rows, with the promise that nothing earlier comes."""
        if rows is None:
            empty = Converter(self._source)
            rows = pa.Table.from_batches([_with_known(empty.convert(_no_rows(self._source)))])
        self.sequence += 1
        return Append(self.topic_name, rows, producer_of(self.name), self.sequence - 1, frontier_us=horizon_us)


def _no_rows(source: SourcePlan) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=source.schema.arrow)


def _with_known(rows: pa.RecordBatch) -> pa.RecordBatch:
    """A row without a known time loses its event time too and comes first: the log refuses it."""
    known = rows.column(KNOWN_TIME)
    if not known.null_count:
        return rows
    event = pc.if_else(known.is_valid(), rows.column(EVENT_TIME), pa.scalar(None, pa.int64()))
    rows = rows.set_column(rows.schema.get_field_index(EVENT_TIME), EVENT_TIME, event)
    return rows.set_column(rows.schema.get_field_index(KNOWN_TIME), KNOWN_TIME, known.fill_null(_UNKNOWN_US))
