from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from penstock.clock import ReplayClock
from penstock.errors import PenstockError
from penstock.store.lake import Lake, LakeSink
from penstock.store.lake import sink as sinks
from penstock.store.log import Log, Retention, Topic, TopicConfig

SCHEMA = pa.schema([("n", pa.int32())])


class Crash(Exception):
    """Stands for a kill at one place."""


def fill(topic: Topic, start: int, n: int) -> None:
    for i in range(start, start + n):
        batch = pa.record_batch({"_event_time": [i], "n": pa.array([i], pa.int32())})
        topic.append(batch, partition=i % topic.config.partitions)


def stored(lake: Lake, table: str) -> list[int]:
    return sorted(lake.read(table, ["n"]).read_all()["n"].to_pylist())


def test_the_lake_follows_the_log_at_most_every_half_minute(tmp_path: Path, log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("t", SCHEMA, TopicConfig(partitions=2, retention=Retention(max_bytes=0)))
    sink = LakeSink(log, topic, Lake.open(tmp_path / "lake", clock=clock))
    fill(topic, 0, 5)
    assert sink.step().rows == 5
    fill(topic, 5, 3)
    assert sink.step().version is None
    clock.advance_to(1_000 + sinks.COMMIT_US)
    step = sink.step()
    assert (step.rows, step.position) == (3, topic.end())
    assert stored(sink.lake, sink.table) == list(range(8))
    assert topic.trim() == 8 and topic.start() == topic.end()
    assert sink.step(force=True).version is None


@pytest.mark.parametrize("place", ["append", "confirm", "planned"])
def test_a_crash_at_any_step_neither_loses_nor_doubles(
    tmp_path: Path, log: Log, clock: ReplayClock, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    topic = log.create_topic("t", SCHEMA, TopicConfig(partitions=2))
    lake = Lake.open(tmp_path / "lake", clock=clock)
    fill(topic, 0, 6)
    sink = LakeSink(log, topic, lake)

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        if place == "append":
            patch.setattr(lake, "append", crash)
        elif place == "confirm":
            patch.setattr(topic, "confirm", crash)
        else:
            put = sink._state.put
            patch.setattr(sink._state, "put", lambda key, value: crash() if value is None else put(key, value))
        with pytest.raises(Crash):
            sink.step(force=True)
    fill(topic, 6, 5)
    sink = LakeSink(log, topic, lake)
    sink.drain()
    assert stored(lake, sink.table) == list(range(11))


def test_a_backlog_goes_in_several_commits(
    tmp_path: Path, log: Log, clock: ReplayClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "COMMIT_BYTES", 20_000)
    topic = log.create_topic("t", SCHEMA)
    for i in range(10):
        topic.append(pa.record_batch({"_event_time": [1] * 300, "n": pa.array([i] * 300, pa.int32())}))
    monkeypatch.setattr(sinks, "_READ_ROWS", 300)
    sink = LakeSink(log, topic, Lake.open(tmp_path / "lake", clock=clock))
    assert sink.drain().version == 5
    assert stored(sink.lake, sink.table) == sorted(list(range(10)) * 300)


def test_a_schema_that_grows_grows_in_the_lake(tmp_path: Path, log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("t", SCHEMA)
    lake = Lake.open(tmp_path / "lake", clock=clock)
    fill(topic, 0, 2)
    LakeSink(log, topic, lake).drain()
    topic = log.evolve("t", pa.schema([("n", pa.int64()), ("city", pa.string())]))
    topic.append(pa.record_batch({"_event_time": [1], "n": [2**40], "city": ["Oslo"]}))
    sink = LakeSink(log, topic, lake)
    sink.drain()
    rows = lake.read(sink.table, ["n", "city"]).read_all().to_pylist()
    assert sorted(row["n"] for row in rows) == [0, 1, 2**40]
    assert {row["city"] for row in rows} == {None, "Oslo"}


def test_a_lake_that_cannot_be_written_is_said(tmp_path: Path, clock: ReplayClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PenstockError, match="open a lake"):
        Lake.open(tmp_path / "file" / "lake", clock=clock)
