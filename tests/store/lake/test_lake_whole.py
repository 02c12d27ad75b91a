from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.clock import ReplayClock
from penstock.errors import StoreError
from penstock.semantics.columns import KNOWN_TIME
from penstock.store.lake import Lake, LakeSink
from penstock.store.lake import whole as whole_module
from penstock.store.lake.whole import WholeTopic
from penstock.store.log import Log, Retention, Topic, TopicConfig
from penstock.store.log.embedded.log import EmbeddedLog

SCHEMA = pa.schema([("n", pa.int32()), ("who", pa.string())])


def fill(topic: Topic, first: int, n: int, partition: int) -> None:
    numbers = pa.array(range(first, first + n), pa.int32())
    rows = {"_event_time": pa.array([0] * n), "n": numbers, "who": numbers.cast(pa.string())}
    topic.append(pa.record_batch(rows), partition=partition)


def read_all(topic: WholeTopic, partition: int, max_rows: int) -> list[int]:
    """All rows, each read's frontier checked against what is read after it."""
    found: list[int] = []
    at = frontier_us = 0
    while True:
        batch = topic.read(partition, at, max_rows=max_rows)
        known = batch.rows.column(KNOWN_TIME).to_pylist()
        assert len(known) <= max_rows
        assert all(k > frontier_us for k in known)
        offsets = tuple(at if p == partition else 0 for p in range(topic.config.partitions))
        assert topic.frontier(topic.start().__class__(*_place(topic), offsets))[partition] >= frontier_us
        found += batch.rows.column("n").to_pylist()
        if batch.next_offset == at:
            return found
        at, frontier_us = batch.next_offset, batch.frontier_us


def _place(topic: WholeTopic) -> tuple[str, int, str]:
    start = topic.start()
    return start.log_id, start.epoch, start.topic


@given(
    st.lists(st.one_of(st.tuples(st.integers(1, 9), st.integers(0, 1)), st.sampled_from(["sink", "trim", "compact"]))),
    st.integers(1, 7),
    st.sampled_from([3, 1 << 18]),
)
@settings(max_examples=15, deadline=None)
def test_every_row_is_read_once_wherever_it_lies(steps: list[tuple[int, int] | str], max_rows: int, span: int) -> None:
    expected: list[list[int]] = [[], []]
    clock = ReplayClock(1_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        EmbeddedLog.open(Path(folder, "log"), clock=clock, durability="process") as log,
    ):
        patch.setattr(whole_module, "_SPAN", span)
        lake = Lake.open(Path(folder, "lake"), clock=clock)
        topic = log.create_topic("t", SCHEMA, TopicConfig(partitions=2))
        sink, whole = LakeSink(log, topic, lake), WholeTopic(topic, lambda: lake)
        n = 0
        for step in steps:
            clock.advance_to(clock.now_us() + 10)
            if step == "sink":
                sink.drain()
            elif step == "trim":
                topic.trim(Retention(max_bytes=60))
            elif step == "compact":
                lake.compact(sink.table)
            elif isinstance(step, tuple):
                fill(topic, n, step[0], step[1])
                expected[step[1]] += range(n, n + step[0])
                n += step[0]
        for partition in range(2):
            assert read_all(whole, partition, max_rows) == expected[partition]


def kept_in_the_lake(log: Log, lake: Lake, n: int = 30) -> Topic:
    topic = log.create_topic("t", SCHEMA)
    for first in range(0, n, 10):
        fill(topic, first, 10, 0)
        LakeSink(log, topic, lake).drain()
    topic.trim(Retention(max_bytes=0))
    assert topic.start().offsets == (n,)
    return topic


def test_rows_that_are_nowhere_are_told(tmp_path: Path, log: Log, clock: ReplayClock) -> None:
    lake = Lake.open(tmp_path / "lake", clock=clock)
    topic = kept_in_the_lake(log, lake)
    assert read_all(WholeTopic(topic, lambda: lake), 0, 7) == list(range(30))
    with pytest.raises(StoreError, match="neither in the log nor a table"):
        WholeTopic(topic, lambda: Lake.open(tmp_path / "empty", clock=clock)).read(0, 0)
    lake.erase(topic.lake_table(), {"n": 12}, reason="lost by accident")
    with pytest.raises(StoreError, match="the first at offset 12"):
        WholeTopic(topic, lambda: lake).read(0, 0)


def test_erased_rows_are_no_loss(tmp_path: Path, log: Log, clock: ReplayClock) -> None:
    lake = Lake.open(tmp_path / "lake", clock=clock)
    topic = kept_in_the_lake(log, lake)
    topic.erase({"n": 12}, reason="asked to", author="a")
    lake.erase(topic.lake_table(), {"n": 12}, reason="asked to")
    assert read_all(WholeTopic(topic, lambda: lake), 0, 7) == [n for n in range(30) if n != 12]


def test_a_derived_topic_is_refused(log: Log) -> None:
    topic = log.create_topic("t", SCHEMA, TopicConfig(clock="source", carried=True))
    with pytest.raises(StoreError, match="derived"):
        WholeTopic(topic, lambda: pytest.fail("not opened"))
