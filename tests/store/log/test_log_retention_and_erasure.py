from __future__ import annotations

import pyarrow as pa
import pytest

from penstock.clock import ReplayClock
from penstock.errors import DataError, StoreError
from penstock.store.log import Log, Retention, Topic, TopicConfig

SCHEMA = pa.schema([("user", pa.string()), ("n", pa.int32())])


def rows(*users: str, start: int = 0) -> pa.RecordBatch:
    n = list(range(start, start + len(users)))
    columns = {"_event_time": n, "_id": [f"{u}{i}" for u, i in zip(users, n, strict=True)], "user": list(users)}
    return pa.record_batch({**columns, "n": pa.array(n, pa.int32())})


def fill(topic: Topic, clock: ReplayClock, commits: int) -> None:
    for i in range(commits):
        clock.advance_to(10_000 * (i + 1))
        topic.append(rows("ada", "bob", start=2 * i))


def test_only_what_the_lake_has_is_deleted(log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("t", SCHEMA, TopicConfig(ids=True, retention=Retention(age_us=20_000)))
    fill(topic, clock, 6)
    assert topic.trim() == 0
    topic.confirm(topic.position([3]), "lake/t", 7)
    assert topic.trim() == 1
    topic.confirm(topic.end(), "lake/t", 8)
    assert topic.trim() == 2
    assert topic.start().offsets == (6,)
    assert topic.read(0, 6).rows["n"].to_pylist() == [6, 7, 8, 9, 10, 11]
    with pytest.raises(StoreError, match="older rows are in the lake: read dev__default__main__t__v1"):
        topic.read(0, 5)
    with pytest.raises(StoreError, match="the log ends at"):
        topic.confirm(topic.position([99]), "lake/t", 9)
    confirmation = topic.confirmation()
    assert confirmation is not None and confirmation.version == 8


def test_retention_by_size_keeps_the_newest(log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("t", SCHEMA, TopicConfig(ids=True))
    fill(topic, clock, 600)
    topic.confirm(topic.end(), "lake/t", 1)
    head = topic.heads()[0]
    topic.trim(Retention(max_bytes=head.n_bytes // 3))
    after = topic.heads()[0]
    assert after.n_bytes <= head.n_bytes // 3 < after.n_bytes * 1.1
    assert 190 < after.n_records < 200 and topic.read(0, after.start_offset, max_rows=2_000).next_offset == 1_200


def test_trimmed_space_is_used_again(log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("t", SCHEMA)
    batch = rows(*["ada"] * 2_000).drop_columns(["_id"])
    sizes = []
    for _ in range(12):
        for _ in range(20):
            topic.append(batch)
        topic.confirm(topic.end(), "lake/t", 1)
        topic.trim(Retention(max_bytes=100_000))
        sizes.append(log.env.used_bytes())
    assert sizes[-1] < 2 * sizes[2], "twelve rounds of as many rows, each trimmed"


def test_an_erased_key_is_gone_and_offsets_stay(log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("t", SCHEMA, TopicConfig(ids=True, dedup_us=10**12))
    fill(topic, clock, 4)
    topic.append(pa.record_batch({"_event_time": pa.array([None], pa.int64()), "user": ["ada"]}))
    erasure = topic.erase({"user": "ada"}, reason="asked by mail", author="@dpo")
    assert (erasure.rows, erasure.dead_letters) == (4, 1)
    assert topic.erasures() == [erasure] and topic.counts().erased == 4
    batch = topic.read(0, 0)
    assert batch.rows["_offset"].to_pylist() == [1, 3, 5, 7] and batch.next_offset == 8
    assert set(batch.rows["user"].to_pylist()) == {"bob"}
    assert topic.read(0, 2, max_rows=1).rows["_offset"].to_pylist() == [3]
    assert topic.dead_letters()[0].row == {}
    clock.advance_to(50_000)
    again = topic.append(rows("ada", "bob"))
    assert (again.accepted, again.duplicates) == (1, 1), "the id index forgot ada's ids only"
    with pytest.raises(DataError, match="did you mean user"):
        topic.erase({"usr": "ada"}, reason="", author="")


def test_a_commit_erased_whole_is_skipped(log: Log, clock: ReplayClock) -> None:
    topic = log.create_topic("t", SCHEMA, TopicConfig(ids=True))
    for user in ("ada", "bob", "ada", "ada"):
        topic.append(rows(user))
    topic.erase({"user": "ada"}, reason="", author="")
    assert [batch.rows["_offset"].to_pylist() for batch in topic.tail(timeout_s=0, max_rows=1)] == [[1]]
    assert topic.read(0, 2).next_offset == 4
    assert topic.append(rows("cyd")).first_offset == 4
