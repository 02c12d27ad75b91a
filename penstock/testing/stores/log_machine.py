"""A log driven at random against its model: appends, repeats, stale producers, reads, promises, erasure, reopening."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.clock import Clock, ReplayClock
from penstock.errors import StoreError
from penstock.store.log import Log, ProducerId, Retention, Topic, TopicConfig
from penstock.testing.stores.log_model import LogModel, ModelRow, Offered

__all__ = ["log_machine"]

_SCHEMA = pa.schema([("user", pa.string())])
_OFFERED = st.builds(
    Offered,
    t=st.none() | st.integers(0, 400),
    id=st.none() | st.sampled_from("abc"),
    op=st.sampled_from([0, 0, 1, 2]),
    user=st.none() | st.sampled_from(["ada", "bob", "cyd"]),
    partition=st.integers(0, 1),
)


class _LogMachine(RuleBasedStateMachine):
    """A log beside its model.

    Attributes:
        open_log: opens the log of a directory; each machine made of this one sets its own.
    """

    open_log: Callable[[Path, Clock], Log]

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="penstock-log-"))
        self.clock = ReplayClock(100)
        self.log: Log | None = None

    @initialize(dedup_us=st.integers(0, 60), corrected_us=st.none() | st.integers(0, 90))
    def start(self, dedup_us: int, corrected_us: int | None) -> None:
        self.model = LogModel(2, dedup_us, corrected_us, max_ahead_us=100)
        self.config = TopicConfig(
            partitions=2,
            ids=True,
            dedup_us=dedup_us,
            corrected=True,
            corrected_us=corrected_us,
            max_ahead_us=100,
        )
        self.last: dict[str, tuple[list[Offered], Any]] = {}
        self.log = self.open_log(self.directory, self.clock)
        self.topic: Topic = self.log.create_topic("t", _SCHEMA, self.config)

    def teardown(self) -> None:
        if self.log is not None:
            self.log.close()
        shutil.rmtree(self.directory)

    @rule(rows=st.lists(_OFFERED, max_size=6), producer=st.sampled_from("pq"), side=st.integers(0, 1))
    def append(self, rows: list[Offered], producer: str, side: int) -> None:
        """A batch goes to one partition; what it corrects may lie in the other."""
        rows = [Offered(row.t, row.id, row.op, row.user, side) for row in rows]
        sequence = self.model.sequences.get(producer, -1) + 1
        epoch = self.model.epochs.get(producer, 0)
        before = (self.model.duplicates, self.model.no_ops, self.model.dead, self._n_stored())
        k = self.model.append(rows, self.clock.now_us())
        self.model.sequences[producer] = sequence
        result = self._append(rows, producer, sequence, epoch)
        assert result.duplicates == self.model.duplicates - before[0]
        assert result.no_ops == self.model.no_ops - before[1]
        assert result.dead == self.model.dead - before[2]
        if result.accepted:
            assert result.known_time == k
        assert self._n_stored() - before[3] >= result.accepted
        self.last[producer] = (rows, result)

    def _append(self, rows: list[Offered], producer: str, sequence: int, epoch: int) -> Any:
        batch = pa.record_batch(
            {
                "_event_time": pa.array([row.t for row in rows], pa.int64()),
                "_id": pa.array([row.id for row in rows], pa.string()),
                "_op": pa.array([row.op for row in rows], pa.int8()),
                "user": pa.array([row.user for row in rows], pa.string()),
            }
        )
        partition = rows[0].partition if rows else 0
        return self.topic.append(
            batch, producer=ProducerId(producer), sequence=sequence, epoch=epoch, partition=partition
        )

    def _n_stored(self) -> int:
        return sum(self.model.next_offsets)

    @precondition(lambda self: self.last)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """The last append of a producer, sent again, is answered as before."""
        producer = data.draw(st.sampled_from(sorted(self.last)))
        rows, former = self.last[producer]
        again = self._append(rows, producer, self.model.sequences[producer], self.model.epochs.get(producer, 0))
        assert again.repeated and again.offsets == former.offsets and again.accepted == former.accepted

    @rule(producer=st.sampled_from("pq"))
    def refuse(self, producer: str) -> None:
        """A gap in the sequence and an older epoch are refused."""
        sequence = self.model.sequences.get(producer, -1)
        with pytest.raises(StoreError):
            self._append([], producer, sequence + 2, 10)
        if self.model.epochs.get(producer, 0):
            with pytest.raises(StoreError):
                self._append([], producer, sequence + 1, self.model.epochs[producer] - 1)

    @rule(producer=st.sampled_from("pq"))
    def take_over(self, producer: str) -> None:
        """A producer comes back with a higher epoch."""
        self.model.epochs[producer] = self.model.epochs.get(producer, 0) + 1
        self.model.sequences[producer] = self.model.sequences.get(producer, -1) + 1
        self._append([], producer, self.model.sequences[producer], self.model.epochs[producer])
        self.last.pop(producer, None)

    @rule(step=st.integers(1, 50))
    def advance(self, step: int) -> None:
        """Time goes on."""
        self.clock.advance_to(self.clock.now_us() + step)

    @rule()
    def promise(self) -> None:
        """Read to the end, the frontier is the clock or the last known time, and binds later appends."""
        frontiers = self.topic.frontier(self.topic.end())
        assert min(frontiers) >= self.clock.now_us()
        self.model.promised_us = max(frontiers)

    @rule(user=st.sampled_from(["ada", "bob"]))
    def erase(self, user: str) -> None:
        """A user is erased."""
        erasure = self.topic.erase({"user": user}, reason="asked", author="@test")
        assert erasure.rows == self.model.erase(user)

    @rule(keep=st.integers(0, 2_000))
    def trim(self, keep: int) -> None:
        """The lake confirms everything, and old rows go."""
        self.topic.confirm(self.topic.end(), "lake", 1)
        self.topic.trim(Retention(max_bytes=keep))
        for partition, start in enumerate(self.topic.start().offsets):
            assert start >= self.model.start_offsets[partition]
            self.model.start_offsets[partition] = start
            rows = self.model.partitions[partition]
            self.model.partitions[partition] = [row for row in rows if row.offset >= start]

    @rule()
    def reopen(self) -> None:
        """The log is closed and opened."""
        assert self.log is not None
        self.log.close()
        self.log = self.open_log(self.directory, self.clock)
        self.topic = self.log.topic("t")

    @rule(partition=st.integers(0, 1), max_rows=st.integers(1, 9), data=st.data())
    def read_a_part(self, partition: int, max_rows: int, data: st.DataObject) -> None:
        """Any range of offsets gives the rows in it, and a frontier that no later row breaks."""
        start, end = self.model.start_offsets[partition], self.model.next_offsets[partition]
        first = data.draw(st.integers(start, end))
        batch = self.topic.read(partition, first, max_rows=max_rows)
        rows = self.model.partitions[partition]
        expected = [row for row in rows if row.offset >= first][:max_rows]
        assert self._rows(batch.rows) == expected
        assert all(not first <= row.offset < batch.next_offset or row in expected for row in rows)
        later = [row.k for row in rows if row.offset >= batch.next_offset]
        assert all(k > batch.frontier_us for k in later)

    @invariant()
    def same_rows(self) -> None:
        """Every partition holds what the model holds."""
        if self.log is None:
            return
        assert list(self.topic.end().offsets) == self.model.next_offsets
        for partition, rows in enumerate(self.model.partitions):
            batch = self.topic.read(partition, self.model.start_offsets[partition], max_rows=100_000)
            assert self._rows(batch.rows) == rows
        counts = self.topic.counts()
        assert (counts.duplicates, counts.no_ops, counts.dead) == (
            self.model.duplicates,
            self.model.no_ops,
            self.model.dead,
        )

    def _rows(self, rows: pa.RecordBatch) -> list[ModelRow]:
        names = ("_offset", "_known_time", "_event_time", "_id", "_op", "user")
        return [ModelRow(*row) for row in zip(*(rows[name].to_pylist() for name in names), strict=True)]


def log_machine(open_log: Callable[[Path, Clock], Log]) -> type[RuleBasedStateMachine]:
    """The state machine for logs that `open_log` opens in a directory; its `TestCase` is the test.

    Args:
        open_log: opens the log of a directory, again and again.
    """

    return type("LogMachine", (_LogMachine,), {"open_log": staticmethod(open_log)})
