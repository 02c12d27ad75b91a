"""Reading the topics of a job up to one frontier: which rows the next interval holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.errors import EngineError
from penstock.semantics.columns import KNOWN_TIME, OFFSET, PARTITION
from penstock.store.lake.whole import WholeTopic
from penstock.store.log.interface import Position, Topic

__all__ = ["Cut", "InputTopic", "Inputs"]

InputTopic = Topic | WholeTopic

_NEVER_US = -(2**62)  # room below it for windows


@dataclass(frozen=True, eq=False)
class Cut:
    """The rows of one interval.

    Attributes:
        frontier_us: every row known at or before it is in this interval or was in one before.
        to: by topic, the offset after the last row taken, for each partition.
        rows: by topic, by (k, partition, offset).
    """

    frontier_us: int
    to: dict[str, list[int]]
    rows: dict[str, pa.RecordBatch]

    @property
    def n_rows(self) -> int:
        """Rows of all topics."""
        return sum(batch.num_rows for batch in self.rows.values())


@dataclass
class _Lane:
    """One partition: what was read of it and not yet taken."""

    topic: InputTopic
    partition: int
    taken: int
    read_to: int
    frontier_us: int = _NEVER_US
    pieces: list[tuple[pa.RecordBatch, npt.NDArray[np.int64]]] = field(default_factory=list)

    def buffered(self) -> int:
        return sum(len(offsets) for _, offsets in self.pieces)

    def fill(self, max_rows: int) -> None:
        """Reads on while little is buffered; learns how far the partition is known."""
        room = max_rows - self.buffered()
        if room <= 0:
            return
        found = self.topic.read(self.partition, self.read_to, max_rows=room)
        if found.rows.num_rows:
            self.pieces.append((found.rows, _places(self.topic, found.rows, found.from_offset)))
        self.read_to = found.next_offset
        self.frontier_us = max(self.frontier_us, found.frontier_us)

    def known(self, frontier_us: int) -> npt.NDArray[np.int64]:
        """Known times of what is buffered, up to the frontier."""
        found = [rows.column(KNOWN_TIME).to_numpy() for rows, _ in self.pieces]
        joined = np.concatenate(found) if found else np.zeros(0, np.int64)
        return joined[: int(np.searchsorted(joined, frontier_us, side="right"))]

    def take(self, frontier_us: int) -> list[pa.RecordBatch]:
        """Takes the rows known at or before the frontier."""
        taken: list[pa.RecordBatch] = []
        rest: list[tuple[pa.RecordBatch, npt.NDArray[np.int64]]] = []
        for rows, places in self.pieces:
            stop = int(np.searchsorted(rows.column(KNOWN_TIME).to_numpy(), frontier_us, side="right"))
            if stop:
                taken.append(rows.slice(0, stop))
                self.taken = int(places[stop - 1]) + 1
            if stop < rows.num_rows:
                rest.append((rows.slice(stop), places[stop:]))
        self.pieces = rest
        return taken

    def take_to(self, offset: int) -> list[pa.RecordBatch]:
        """Takes the rows before an offset, reading what is missing."""
        while self.read_to < offset:
            before = self.read_to
            self.fill(self.buffered() + max(offset - before, 1))
            if self.read_to == before:
                raise EngineError(
                    f"read {self.topic.name} again to offset {offset} of partition {self.partition}",
                    found=f"its end at {before}",
                    remedy="the log lost rows that were read: restore it, or start with an empty state directory",
                )
        taken, rest = [], []
        for rows, places in self.pieces:
            stop = int(np.searchsorted(places, offset))
            if stop:
                taken.append(rows.slice(0, stop))
            if stop < rows.num_rows:
                rest.append((rows.slice(stop), places[stop:]))
        self.pieces, self.taken = rest, offset
        return taken


class Inputs:
    """The topics of a job.

    Args:
        topics: by name of the source.
        start: by name, the offset to go on from in each partition; the oldest there is where it is missing.
        max_rows: of an interval, if the rows of one commit are not more.
    """

    def __init__(self, topics: Mapping[str, InputTopic], start: Mapping[str, Sequence[int]], max_rows: int) -> None:
        self.topics, self.max_rows = dict(topics), max_rows
        self._lanes: dict[str, list[_Lane]] = {}
        for name, topic in self.topics.items():
            offsets = start.get(name) or topic.start().offsets
            self._lanes[name] = [_Lane(topic, p, offset, offset) for p, offset in enumerate(offsets)]
        self.frontier_us = _NEVER_US

    def positions(self) -> dict[str, list[int]]:
        """By topic, the next offset to take in each partition."""
        return {name: [lane.taken for lane in lanes] for name, lanes in self._lanes.items()}

    def read_positions(self) -> list[Position]:
        """How far each topic was read, for waiting."""
        return [
            Position(topic.start().log_id, topic.start().epoch, str(topic.name), tuple(lane.read_to for lane in lanes))
            for (_, topic), lanes in zip(self.topics.items(), self._lanes.values(), strict=True)
        ]

    def lag_rows(self) -> int:
        """Rows that lie in the topics and were not taken."""
        return sum(
            end - lane.taken
            for name, lanes in self._lanes.items()
            for lane, end in zip(lanes, self.topics[name].end().offsets, strict=True)
        )

    def lake_rows(self) -> int:
        """Rows that the log no longer had and the lake gave."""
        return sum(topic.lake_rows for topic in self.topics.values() if isinstance(topic, WholeTopic))

    def next(self, due_us: int | None) -> Cut | None:
        """The rows of the next interval; None where there is nothing to do yet.

        Args:
            due_us: an interval that reaches this instant has work even without rows.
        """
        lanes = [lane for lanes in self._lanes.values() for lane in lanes]
        want = self.max_rows
        while True:
            for lane in lanes:
                lane.fill(want)
            frontier_us = min(lane.frontier_us for lane in lanes)
            if len(lanes) > 1 or due_us is not None:
                frontier_us = self._promised(lanes, frontier_us)
            known = np.concatenate([lane.known(frontier_us) for lane in lanes])
            if len(known) or not any(lane.buffered() >= want for lane in lanes):
                break
            want *= 2  # one commit fills all that was read
        frontier_us = max(frontier_us, self.frontier_us)
        if len(known) > self.max_rows:
            frontier_us = _before(known, self.max_rows)
        if not len(known) and (due_us is None or due_us > frontier_us):
            return None
        self.frontier_us = frontier_us
        rows = {name: _merged(topic, [lane.take(frontier_us) for lane in self._lanes[name]])
                for name, topic in self.topics.items()}  # fmt: skip
        return Cut(frontier_us, self.positions(), rows)

    def again(self, frontier_us: int, to: Mapping[str, Sequence[int]]) -> Cut:
        """The rows of an interval that ran before: those before the offsets `to`.

        Raises:
            EngineError: the log no longer has them.
        """
        rows = {
            name: _merged(self.topics[name], [lane.take_to(o) for lane, o in zip(lanes, to[name], strict=True)])
            for name, lanes in self._lanes.items()
        }
        self.frontier_us = frontier_us
        return Cut(frontier_us, self.positions(), rows)

    def _promised(self, lanes: Sequence[_Lane], frontier_us: int) -> int:
        """The least frontier, topics that were read to their end being asked for their promise."""
        for name, topic in self.topics.items():
            mine = self._lanes[name]
            if any(lane.pieces for lane in mine) and all(lane.frontier_us > frontier_us for lane in mine):
                continue
            position = topic.start()
            position = Position(position.log_id, position.epoch, position.topic, tuple(lane.read_to for lane in mine))
            for lane, promised_us in zip(mine, topic.frontier(position), strict=True):
                lane.frontier_us = max(lane.frontier_us, promised_us)
        return min(lane.frontier_us for lane in lanes)


def _places(topic: InputTopic, rows: pa.RecordBatch, from_offset: int) -> npt.NDArray[np.int64]:
    """Offsets in this log; rows of a carried topic bring those of the row they were made from."""
    if topic.config.carried:
        return np.arange(from_offset, from_offset + rows.num_rows, dtype=np.int64)
    found: npt.NDArray[np.int64] = rows.column(OFFSET).to_numpy()
    return found


def _merged(topic: InputTopic, lanes: Sequence[Sequence[pa.RecordBatch]]) -> pa.RecordBatch:
    """Rows of all partitions by (k, partition, offset)."""
    batches = [batch for lane in lanes for batch in lane]
    if not batches:
        return topic.read(0, topic.end().offsets[0], max_rows=1).rows
    if len(batches) == 1:
        return batches[0]
    batch = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    if sum(1 for lane in lanes if lane) < 2 and not topic.config.carried:
        return batch
    columns = [batch.column(name).to_numpy() for name in (OFFSET, PARTITION, KNOWN_TIME)]
    return batch.take(pa.array(np.lexsort(columns)))


def _before(known: npt.NDArray[np.int64], max_rows: int) -> int:
    """The greatest known time that takes at most `max_rows` rows, but at least one known time."""
    ordered = np.sort(known)
    last = int(ordered[max_rows])
    below = ordered[: int(np.searchsorted(ordered, last))]
    return int(below[-1]) if len(below) else last
