from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from penstock.algebra.keys import key_hash, shard_of
from penstock.clock import ReplayClock
from penstock.errors import DataError, StoreError
from penstock.semantics.columns import OP_DELETE, OP_INSERT, OP_UPSERT
from penstock.store.log import Append, Log, Position, ProducerId, TopicConfig

CLICKS = pa.schema([("user", pa.int64()), ("amount", pa.float64())])
P = ProducerId("p")


def clicks(*rows: tuple[Any, ...], **system: list[Any]) -> pa.RecordBatch:
    """Rows of (event time, user, amount); further system columns by name."""
    columns: dict[str, Any] = {
        "_event_time": pa.array([row[0] for row in rows], pa.int64()),
        "user": pa.array([row[1] for row in rows], pa.int64()),
        "amount": pa.array([row[2] for row in rows], pa.float64()),
    }
    types = {"id": pa.string(), "op": pa.int8(), "ordinal": pa.int32(), "partition": pa.int32()}
    for name, values in system.items():
        columns["_" + name] = pa.array(values, types.get(name, pa.int64()))
    return pa.record_batch(columns)


def test_rows_come_back_with_their_system_columns(log: Log) -> None:
    topic = log.create_topic("clicks", CLICKS)
    result = topic.append(clicks((5, 1, 0.5), (7, 2, None)), producer=P)
    assert (result.first_offset, result.accepted, result.known_time) == (0, 2, 1_000)
    assert topic.read(0, 1).rows.to_pylist() == [
        {
            "_event_time": 7,
            "_known_time": 1_000,
            "_appended_at": 1_000,
            "_ordinal": 0,
            "_partition": 0,
            "_offset": 1,
            "_id": None,
            "_op": 0,
            "user": 2,
            "amount": None,
        }
    ]


def test_an_append_sent_again_is_answered_as_before_and_not_stored(log: Log) -> None:
    topic = log.create_topic("clicks", CLICKS)
    first = topic.append(clicks((5, 1, 0.5)), producer=P, sequence=0)
    topic.append(clicks((6, 1, 0.5)), producer=P, sequence=1)
    again = topic.append(clicks((5, 1, 0.5)), producer=P, sequence=0)
    assert again.repeated and again.offsets == first.offsets
    assert topic.read(0, 0).next_offset == 2
    assert topic.last_sequence(P) == 1


def test_a_gap_and_a_stale_epoch_are_refused(log: Log) -> None:
    topic = log.create_topic("clicks", CLICKS)
    topic.append(clicks((5, 1, 0.5)), producer=P, sequence=0, epoch=3)
    with pytest.raises(StoreError, match="the last one stored is 0"):
        topic.append(clicks((5, 1, 0.5)), producer=P, sequence=2, epoch=3)
    with pytest.raises(StoreError, match="took over"):
        topic.append(clicks((5, 1, 0.5)), producer=P, sequence=1, epoch=2)
    assert topic.append(clicks((5, 1, 0.5)), producer=P, sequence=0, epoch=4).repeated
    assert topic.append(clicks((5, 1, 0.5)), producer=P, sequence=1, epoch=4).first_offset == 1


def test_known_time_rises_from_commit_to_commit_though_the_clock_stands(log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("clicks", CLICKS)
    known = [topic.append(clicks((5, 1, 0.5))).known_time for _ in range(3)]
    clock.advance_to(5_000)
    known.append(topic.append(clicks((5, 1, 0.5))).known_time)
    assert known == [1_000, 1_001, 1_002, 5_000]


def test_a_source_clock_takes_known_times_and_refuses_one_that_goes_back(log: Log) -> None:
    topic = log.create_topic("clicks", CLICKS, TopicConfig(clock="source"))
    topic.append(clicks((5, 1, 0.5), (6, 1, 0.5), known_time=[10, 12]))
    topic.append(clicks((5, 1, 0.5), known_time=[12]))
    with pytest.raises(DataError, match="do not go back"):
        topic.append(clicks((5, 1, 0.5), known_time=[11]))
    with pytest.raises(DataError, match="do not go back"):
        topic.append(clicks((5, 1, 0.5), (5, 1, 0.5), known_time=[14, 13]))
    assert topic.read(0, 0).rows["_known_time"].to_pylist() == [10, 12, 12]


def test_repeated_inserts_are_dropped_within_the_span_only(log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("clicks", CLICKS, TopicConfig(ids=True, dedup_us=100))
    batch = clicks((5, 1, 0.5), (6, 2, 0.5), (7, 3, 0.5), id=["a", "a", None])
    assert topic.append(batch).duplicates == 1
    clock.advance_to(1_100)
    assert topic.append(batch).duplicates == 2
    clock.advance_to(1_101)
    assert topic.append(batch).duplicates == 1
    assert topic.counts().duplicates == 4


def test_corrections_find_their_row(log: Log) -> None:
    topic = log.create_topic("clicks", CLICKS, TopicConfig(ids=True, corrected=True, partitions=2))
    ops = [OP_UPSERT, OP_DELETE, OP_INSERT]
    result = topic.append(clicks((5, 1, 0.5), (6, 2, 0.5), (7, 3, 0.5), id=["a", "b", "c"], op=ops))
    assert (result.accepted, result.no_ops) == (2, 1)
    assert topic.read(0, 0).rows["_op"].to_pylist() == [OP_INSERT, OP_INSERT]
    topic.append(clicks((5, None, None), id=["c"], op=[OP_DELETE]), partition=1)
    assert topic.read(0, 2).rows.select(["_id", "_op"]).to_pylist() == [{"_id": "c", "_op": OP_DELETE}]


def test_a_correction_that_moves_leaves_a_retraction_under_the_same_known_time(log: Log) -> None:
    topic = log.create_topic("clicks", CLICKS, TopicConfig(ids=True, corrected=True, partitions=2))
    topic.append(clicks((5, 1, 0.5), id=["a"]), partition=0)
    moved = topic.append(clicks((6, 2, 0.5), id=["a"], op=[OP_UPSERT]), partition=1)
    assert moved.offsets == {1: (0, 1)}
    old, new = topic.read(0, 1).rows.to_pylist(), topic.read(1, 0).rows.to_pylist()
    assert [(row["_id"], row["_op"], row["user"]) for row in old] == [("a", OP_DELETE, None)]
    assert [(row["_id"], row["_op"], row["user"]) for row in new] == [("a", OP_UPSERT, 2)]
    assert old[0]["_known_time"] == new[0]["_known_time"] == moved.known_time
    assert topic.counts().retractions == 1


def test_rows_that_do_not_fit_go_to_dead_letters_with_the_reason(log: Log) -> None:
    schema = pa.schema([pa.field("user", pa.int32(), nullable=False), ("amount", pa.float64())])
    topic = log.create_topic("clicks", schema, TopicConfig(max_ahead_us=10))
    batch = pa.record_batch(
        {
            "_event_time": pa.array([1, None, 1_011, 1_010, 1, 1], pa.int64()),
            "user": pa.array(["1", "2", "3", "4", "many", None]),
            "amount": [math.inf, 1.0, 1.0, 1.0, 1.0, 1.0],
        }
    )
    result = topic.append(batch)
    assert (result.accepted, result.dead) == (1, 5)
    reasons = {refused.row: refused.reason for refused in result.refused}
    assert reasons[0] == "amount is infinite"
    assert reasons[1] == "_event_time is null"
    assert "ahead" in reasons[2]
    assert reasons[4].startswith("user does not fit int32")
    assert reasons[5] == "user is null but declared not null"
    letters = topic.dead_letters()
    assert [letter.number for letter in letters] == list(range(5))
    assert letters[3].row["user"] == "many"


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (pa.record_batch({"user": [1]}), "_event_time"),
        (pa.record_batch({"_event_time": [1], "usr": [1]}), "did you mean user"),
        (pa.record_batch({"_event_time": [1], "_id": ["a"]}), "carry no _id"),
        (pa.record_batch({"_event_time": [1], "_secret": [1]}), "carry no _secret"),
    ],
)
def test_a_batch_with_other_columns_is_refused_whole(log: Log, batch: pa.RecordBatch, words: str) -> None:
    topic = log.create_topic("clicks", CLICKS)
    with pytest.raises(DataError, match=words):
        topic.append(batch)
    assert topic.end().offsets == (0,)


def test_several_appends_are_stored_all_or_none(log: Log) -> None:
    log.create_topic("a", CLICKS)
    log.create_topic("b", CLICKS)
    names = log.topics()
    good = [Append(name, clicks((5, 1, 0.5)), P, 0) for name in names]
    log.append_all(good)
    with pytest.raises(StoreError, match="the last one stored is 0"):
        log.append_all([Append(names[0], clicks((6, 1, 0.5)), P, 1), Append(names[1], clicks((6, 1, 0.5)), P, 5)])
    assert [log.topic(name).end().offsets for name in names] == [(1,), (1,)]
    one_by_one = log.append_each([Append(names[0], clicks((6, 1, 0.5)), P, 1), Append(names[1], clicks(), P, 5)])
    assert isinstance(one_by_one[1], StoreError)
    assert [log.topic(name).end().offsets for name in names] == [(2,), (1,)]


def test_reading_in_pieces_gives_the_same_rows(log: Log) -> None:
    topic = log.create_topic("clicks", CLICKS, TopicConfig(clock="source"))
    for start in range(0, 60, 6):
        rows = [(i, i, 1.0) for i in range(start, start + 6)]
        topic.append(clicks(*rows, known_time=[i // 2 for i in range(start, start + 6)]))
    whole = topic.read(0, 0, max_rows=100).rows
    for size in (1, 4, 7):
        offset, pieces = 0, []
        while offset < 60:
            batch = topic.read(0, offset, max_rows=size)
            left = whole["_known_time"].to_pylist()[batch.next_offset :]
            assert batch.frontier_us == (left[0] - 1 if left else 28)
            pieces.append(batch.rows)
            offset = batch.next_offset
        assert pa.Table.from_batches(pieces) == pa.Table.from_batches([whole])


def test_a_schema_widens_and_older_rows_have_nulls(log: Log) -> None:
    schema = pa.schema([pa.field("user", pa.int32(), nullable=False)])
    topic = log.create_topic("clicks", schema)
    topic.append(pa.record_batch({"_event_time": [1], "user": [1]}))
    wider = pa.schema([("city", pa.string()), pa.field("user", pa.int64(), nullable=False)])
    topic = log.evolve("clicks", wider)
    topic.append(pa.record_batch({"_event_time": [1], "user": [2**40], "city": ["Oslo"]}))
    assert topic.read(0, 0).rows.select(["city", "user"]).to_pylist() == [
        {"city": None, "user": 1},
        {"city": "Oslo", "user": 2**40},
    ]
    assert topic.read(0, 0, max_rows=1, schema_version=1).rows.schema.names[-1] == "user"
    for bad in (
        pa.schema([("city", pa.string())]),
        pa.schema([("city", pa.string()), ("user", pa.int32())]),
        wider.append(pa.field("zip", pa.int8(), nullable=False)),
    ):
        with pytest.raises(DataError):
            log.evolve("clicks", bad)


def test_a_derived_topic_carries_the_place_of_its_origin(log: Log) -> None:
    topic = log.create_topic("derived", CLICKS, TopicConfig(clock="source", carried=True))
    batch = clicks((5, 1, 0.5), known_time=[9], ordinal=[2], partition=[3], offset=[44], id=["a"])
    topic.append(batch, producer=P, frontier_us=20)
    row = topic.read(0, 0).rows.to_pylist()[0]
    assert (row["_ordinal"], row["_partition"], row["_offset"], row["_id"]) == (2, 3, 44, "a")
    assert topic.frontier(topic.end()) == (20,)
    with pytest.raises(DataError, match="do not go back"):
        topic.append(batch, producer=P, sequence=1)


def test_the_frontier_is_the_clock_at_the_end_and_holds_for_later_rows(log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("clicks", CLICKS, TopicConfig(partitions=2))
    topic.append(clicks((5, 1, 0.5)))
    assert topic.frontier(topic.start()) == (999, 1_000)
    clock.advance_to(4_000)
    assert topic.frontier(topic.end()) == (4_000, 4_000)
    assert topic.append(clicks((5, 1, 0.5))).known_time == 4_001


def test_a_position_of_another_log_or_topic_is_refused(log: Log) -> None:
    topic, other = log.create_topic("a", CLICKS), log.create_topic("b", CLICKS)
    position = Position.from_json(topic.end().to_json())
    assert not topic.wait(position, 0)
    for stranger in (
        other.end(),
        Position("x", 0, str(topic.name), (0,)),
        Position(log.log_id, 1, str(topic.name), (0,)),
    ):
        with pytest.raises(StoreError, match="use a position"):
            topic.frontier(stranger)


def test_tail_gives_every_row_once_and_ends_when_none_comes(log: Log) -> None:
    topic = log.create_topic("clicks", CLICKS, TopicConfig(partitions=2))
    for i in range(5):
        topic.append(clicks((i, i, 1.0), (i, i, 1.0)), partition=i % 2)
    seen = [(b.partition, o) for b in topic.tail(max_rows=3, timeout_s=0) for o in b.rows["_offset"].to_pylist()]
    assert sorted(seen) == [(0, i) for i in range(6)] + [(1, i) for i in range(4)]


def test_reading_beyond_the_end_or_another_partition_is_refused(log: Log) -> None:
    topic = log.create_topic("clicks", CLICKS)
    with pytest.raises(StoreError, match="offsets 0 to 0"):
        topic.read(0, 1)
    with pytest.raises(StoreError, match="partition 1"):
        topic.read(1, 0)


def test_a_topic_is_created_once(log: Log) -> None:
    first = log.create_topic("clicks", CLICKS)
    assert log.create_topic("clicks", CLICKS).name == first.name
    with pytest.raises(StoreError, match="create topic"):
        log.create_topic("clicks", CLICKS, TopicConfig(ids=True))
    with pytest.raises(StoreError, match="did you mean"):
        log.topic("click")
    with pytest.raises(DataError, match="int, text, bool or date"):
        log.create_topic("other", CLICKS, TopicConfig(key=("amount",)))


def test_keys_place_rows_by_their_shard_and_a_moved_row_leaves_its_old_place(log: Log) -> None:
    config = TopicConfig(ids=True, corrected=True, partitions=4, key=("user",))
    topic = log.create_topic("clicks", CLICKS, config)
    users = list(range(200))
    topic.append(clicks(*[(1, user, 1.0) for user in users], (1, None, 1.0), id=[f"i{u}" for u in [*users, "x"]]))
    held = [set(topic.read(p, 0).rows["user"].to_pylist()) for p in range(4)]
    assert None in held[0] and set().union(*held) == {*users, None}
    for partition, found in enumerate(held):
        assert 30 < len(found) < 75
        hashes = [key_hash([user]) for user in found if user is not None]
        assert {shard_of(h) * 4 // 1024 for h in hashes} == {partition}
    old, new = min(held[1]), min(held[2])
    moved = topic.append(clicks((1, new, 2.0), id=[f"i{old}"], op=[OP_UPSERT]))
    assert list(moved.offsets) == [2]
    assert topic.read(1, len(held[1])).rows.select(["_id", "_op"]).to_pylist() == [{"_id": f"i{old}", "_op": OP_DELETE}]


def test_rows_of_a_derived_topic_are_not_decided_again(log: Log) -> None:
    topic = log.create_topic("derived", CLICKS, TopicConfig(clock="source", carried=True, ids=True))
    rows = [(5, 1, 0.5)] * 4
    place = {"known_time": [9] * 4, "ordinal": [0] * 4, "partition": [0] * 4, "offset": [3, 3, 4, 4]}
    ops = [OP_DELETE, OP_UPSERT, OP_INSERT, OP_INSERT]
    assert topic.append(clicks(*rows, **place, id=["a", "b", "c", "c"], op=ops)).accepted == 4
    assert topic.read(0, 0).rows["_op"].to_pylist() == ops


def test_a_partition_that_lags_still_finds_its_duplicates(log: Log) -> None:
    """Known times rise within a partition; ids are forgotten by the slowest."""
    config = TopicConfig(clock="source", ids=True, dedup_us=10, partitions=2)
    topic = log.create_topic("clicks", CLICKS, config)
    topic.append(clicks((5, 1, 0.5), id=["a"], known_time=[100]), partition=1)
    for k in range(1_000, 1_040):
        topic.append(clicks((5, 1, 0.5), id=[f"x{k}"], known_time=[k]), partition=0)
    assert topic.append(clicks((5, 1, 0.5), id=["a"], known_time=[105]), partition=1).duplicates == 1
