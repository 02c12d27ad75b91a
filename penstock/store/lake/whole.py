"""A topic from its first row on: what the log no longer holds is read from the lake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.errors import StoreError
from penstock.names import Name
from penstock.semantics.columns import KNOWN_TIME, OFFSET, PARTITION
from penstock.store.lake.interface import Lake
from penstock.store.lake.shape import cast
from penstock.store.log.interface import LogBatch, Position, Topic, TopicConfig

__all__ = ["WholeTopic"]

_SPAN: int = 1 << 18
"""Offsets read by one scan of the lake."""
_LOOKED: int = 1 << 24
"""Offsets looked for by one scan of that column alone."""


@dataclass(frozen=True, eq=False)
class _Span:
    """Rows of a partition with `first <= offset < stop`, by offset, each once."""

    partition: int
    first: int
    stop: int
    rows: pa.RecordBatch
    offsets: npt.NDArray[np.int64]


class WholeTopic:
    """Reads a topic as if the log had kept everything.

    A row is told by its partition and offset, which the lake keeps, so at the seam each is given exactly once, also
    where the lake holds rows that the log holds too, and while the log is trimmed. It is read from the log if that has
    it.

    Args:
        topic: the topic.
        lake: opened when the log lacks a row.

    Raises:
        StoreError: the topic is derived; its rows carry the offsets of those that they were made from.
    """

    def __init__(self, topic: Topic, lake: Callable[[], Lake]) -> None:
        if topic.config.carried:
            raise StoreError(
                "a topic that can be read on in the lake",
                found=f"the derived topic {topic.name}",
                remedy="make its rows again from their sources",
            )
        self._topic, self._open = topic, lake
        self._checked: dict[int, int] = {}
        self._spans: dict[int, _Span] = {}
        self.lake_rows = 0

    @property
    def name(self) -> Name:
        """The topic's."""
        return self._topic.name

    @property
    def config(self) -> TopicConfig:
        """The topic's."""
        return self._topic.config

    def start(self) -> Position:
        """The position of the first row there ever was."""
        start = self._topic.start()
        return replace(start, offsets=(0,) * len(start.offsets))

    def end(self) -> Position:
        """The position after the last row."""
        return self._topic.end()

    def wait(self, position: Position, timeout_s: float | None = None) -> bool:
        """Waits until there is a row beyond the position; whether there is one."""
        return self._topic.wait(position, timeout_s)

    def read(self, partition: int, from_offset: int, *, max_rows: int = 10_000) -> LogBatch:
        """Rows from an offset on, from the lake where the log no longer has them; none at the end.

        Raises:
            StoreError: rows are neither in the log nor in the lake.
        """
        retained = self._topic.start().offsets[partition]
        while from_offset >= retained:
            try:
                return self._topic.read(partition, from_offset, max_rows=max_rows)
            except StoreError:
                if self._topic.start().offsets[partition] == retained:
                    raise
                retained = self._topic.start().offsets[partition]  # trimmed just now
        pieces, at, n = list[pa.RecordBatch](), from_offset, 0
        while at < retained and n < max_rows:
            span = self._span(partition, at, retained)
            left = int(np.searchsorted(span.offsets, at))
            right = min(len(span.offsets), left + max_rows - n)
            pieces.append(span.rows.slice(left, right - left))
            n += right - left
            at = int(span.offsets[right]) if right < len(span.offsets) else span.stop
        self.lake_rows += n
        rows = pieces[0] if len(pieces) == 1 else _joined(pieces)
        return LogBatch(rows, partition, from_offset, at, self._before(partition, at))

    def frontier(self, position: Position) -> tuple[int, ...]:
        """By partition, the last instant at or before which no row beyond the position is or will be known."""
        retained = self._topic.start().offsets
        inside = tuple(max(pair) for pair in zip(position.offsets, retained, strict=True))
        found = list(self._topic.frontier(replace(position, offsets=inside)))
        for partition, offset in enumerate(position.offsets):
            if offset < retained[partition]:
                found[partition] = self._before(partition, offset)
        return tuple(found)

    def _before(self, partition: int, offset: int) -> int:
        """The last instant at or before which no row from an offset on is known."""
        while offset < (retained := self._topic.start().offsets[partition]):
            span = self._span(partition, offset, retained)
            at = int(np.searchsorted(span.offsets, offset))
            if at < len(span.offsets):
                return int(span.rows.column(KNOWN_TIME)[at].as_py()) - 1
            offset = span.stop
        found = self._topic.read(partition, offset, max_rows=1)
        return int(found.rows.column(KNOWN_TIME)[0].as_py()) - 1 if found.rows.num_rows else found.frontier_us

    def _span(self, partition: int, offset: int, retained: int) -> _Span:
        """The rows of the lake around an offset."""
        span = self._spans.get(partition)
        if span is None or not span.first <= offset < span.stop:
            self._check(partition, offset, retained)
            span = self._spans[partition] = self._scanned(partition, offset, min(offset + _SPAN, retained))
        return span

    def _scanned(self, partition: int, first: int, stop: int) -> _Span:
        last = self._topic.end().offsets[partition]
        schema = self._topic.read(partition, last, max_rows=1).rows.schema
        between = {OFFSET: (first, stop)}
        found = self._open().read(self._table, where={PARTITION: partition}, between=between)
        empty = pa.RecordBatch.from_pylist([], schema=schema)
        rows = _joined([empty, *(cast(batch, schema) for batch in found)])
        offsets, at = np.unique(rows.column(OFFSET).to_numpy(), return_index=True)
        return _Span(partition, first, stop, rows.take(pa.array(at)), offsets.astype(np.int64))

    @property
    def _table(self) -> str:
        return self._topic.lake_table()

    def _check(self, partition: int, first: int, retained: int) -> None:
        """Refuses to go on where rows are gone from both; each offset is looked at once.

        Rows that were erased by key leave gaps that are no loss; the log's audit says whether there were any.
        """
        seen = self._checked.get(partition, first)
        if seen >= retained and partition in self._checked:
            return
        lake = self._open()
        asked = f"rows of {self.name} in partition {partition}, from offset {seen} to {retained}"
        if self._table not in lake.tables():
            raise _lost(asked, f"neither in the log nor a table {self._table} in the lake", lake.url)
        for start in range(seen, retained, _LOOKED):
            missing = self._missing(lake, partition, start, min(start + _LOOKED, retained))
            if len(missing) and not self._topic.erasures():
                found = f"some that are neither in the log nor in the lake, the first at offset {missing[0]}"
                raise _lost(asked, found, f"{lake.url}/{self._table}")
        self._checked[partition] = retained

    def _missing(self, lake: Lake, partition: int, first: int, stop: int) -> npt.NDArray[np.int64]:
        there = np.zeros(stop - first, np.bool_)
        found = lake.read(self._table, [OFFSET], where={PARTITION: partition}, between={OFFSET: (first, stop)})
        for batch in found:
            there[batch.column(0).to_numpy() - first] = True
        return np.flatnonzero(~there) + first


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return whole[0] if whole else batches[0]


def _lost(asked: str, found: str, where: str) -> StoreError:
    return StoreError(
        asked,
        found=found,
        remedy="bring the table back from a backup of the lake; without these rows no answer over them is right",
        where=where,
    )
