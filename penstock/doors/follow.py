"""Keeps a topic up to date with a source that grows: an SQL table, a watched folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from penstock.clock import Clock
from penstock.doors.convert import Converter
from penstock.doors.journal import Entry, Journal
from penstock.doors.replay import producer_of
from penstock.doors.sources import SourcePosition, open_source
from penstock.doors.topics import known_clock, replayed, topic_config
from penstock.errors import DoorError
from penstock.plan.ir import SourcePlan
from penstock.semantics.columns import KNOWN_TIME
from penstock.store.log import AppendResult, Log

__all__ = ["Follower"]

_PROMISE_US: Final = 1_000_000
"""A promise that nothing came is renewed no oftener than this."""


@dataclass
class Follower:
    """Appends what a source has beyond its position, each row exactly once.

    Args:
        source: of kind sql, or files with arrivals="watch".
        journals: the folder in which the last append is remembered.
        clock: the deployment's.
        stopped: set by another thread, ends the following after the append at hand.
    """

    source: SourcePlan
    log: Log
    root: Path
    journals: Path
    clock: Clock
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if replayed(self.source):
            raise DoorError(
                "a source that grows is followed",
                found=f"{self.source.name.name}: files without arrivals",
                remedy='replay it, or say files(..., arrivals="watch")',
            )
        self._plugin, options = open_source(self.source.source, self.root, self.source.schema.arrow)
        self._options = replace(options, clock=self.clock)
        self._converter = Converter(self.source)
        self._topic = self.log.create_topic(self.source.name, self.source.schema.arrow, topic_config(self.source))
        self._producer = producer_of(self.source.name.name)
        self._journal = Journal(self.journals, str(self.source.name), self.log.log_id)
        last = self._topic.last_sequence(self._producer)
        position: SourcePosition | None
        self._sequence, position = self._journal.resume(last)
        self._position = position
        self._promised_us = 0

    def close(self) -> None:
        """Lets another process follow the source."""
        self._journal.close()

    def poll(self) -> Iterator[AppendResult]:
        """Appends what there is now.

        Raises:
            PenstockError: the source or the log refuses; the next poll goes on from the last append.
        """
        looked_us = self.clock.now_us()
        known_from_rows = known_clock(self.source) == "source"
        for batch, position in self._plugin.read(self._options, self._position):
            rows = self._converter.convert(batch)
            if known_from_rows:
                rows = rows.sort_by(KNOWN_TIME)
            yield self._append(rows, position, None)
            if self.stopped.is_set():
                return
        if known_from_rows and self.source.known is None and looked_us - self._promised_us >= _PROMISE_US:
            # What arrives later is known at its arrival, which is not before this look.
            self._promised_us = looked_us
            nothing = pa.RecordBatch.from_pylist([], schema=self.source.schema.arrow)
            self._append(self._converter.convert(nothing), self._position, looked_us - 1)

    def follow(self, every_s: float = 1.0) -> Iterator[AppendResult]:
        """Polls until `stopped` is set."""
        while not self.stopped.is_set():
            yield from self.poll()
            self.stopped.wait(every_s)

    def _append(self, rows: pa.RecordBatch, position: SourcePosition | None, frontier_us: int | None) -> AppendResult:
        self._journal.begin(Entry(self._sequence, self._position, position))
        result = self._topic.append(rows, producer=self._producer, sequence=self._sequence, frontier_us=frontier_us)
        self._sequence += 1
        self._position = position
        return result
