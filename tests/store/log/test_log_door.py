"""The log's door accepts the rows that time.md's door accepts, in the same places."""

from __future__ import annotations

import tempfile
from itertools import groupby
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock.define as ps
from penstock.clock import ReplayClock
from penstock.define.stream import Stream
from penstock.names import Name
from penstock.semantics.columns import OP_NAMES
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import TopicConfig
from penstock.testing.oracle import Door, Row

SECOND = 1_000_000


@st.composite
def offered(draw: st.DrawFn) -> tuple[Stream, list[Row]]:
    corrected = draw(st.booleans())
    stream = ps.stream(
        "s", time="t", id="id", op="op" if corrected else None, dedup=draw(st.sampled_from(("0s", "2s", "1d"))),
        corrected=draw(st.sampled_from((None, "3s"))) if corrected else None,
    )  # fmt: skip
    rows, k = [], 0
    for n in range(draw(st.integers(0, 25))):
        k += draw(st.sampled_from((0, 1, 1, 2, 4))) * SECOND
        op = draw(st.sampled_from(("insert", "insert", "upsert", "delete"))) if corrected else "insert"
        ahead = draw(st.sampled_from((0, 0, -5, 300, 301))) * SECOND
        id = draw(st.sampled_from(("a", "b", "c") if op == "delete" else ("a", "b", "c", None)))
        rows.append(Row(k + ahead, k, {"n": n}, id, op, 0, draw(st.integers(0, 1))))
    return stream, rows


@given(offered())
@settings(deadline=None)
def test_the_log_takes_what_the_rules_take(case: tuple[Stream, list[Row]]) -> None:
    stream, rows = case
    # what comes under one known time is one commit per partition, the lower first
    rows = sorted(rows, key=lambda row: (row.k, row.partition))
    door = Door(stream).take(rows)
    config = TopicConfig(
        partitions=2, clock="source", ids=True, dedup_us=stream.dedup_us, corrected=stream.op is not None,
        corrected_us=stream.corrected_us,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, EmbeddedLog.open(Path(folder), clock=ReplayClock(1)) as log:
        topic = log.create_topic(Name.parse("s"), pa.schema([pa.field("n", pa.int64())]), config)
        for (_, partition), commit in groupby(rows, key=lambda row: (row.k, row.partition)):
            topic.append(_batch(list(commit)), partition=partition)
        found = [row for partition in (0, 1) for row in topic.read(partition, 0).rows.to_pylist()]
    stands = sorted(door.accepted, key=lambda row: (row.partition, row.offset))
    assert [(r["_partition"], r["_offset"], r["_known_time"], r["_id"], r["_op"] == 2) for r in found] == [
        (row.partition, row.offset, row.k, row.id, row.op == "delete") for row in stands
    ]
    assert [(r["_event_time"], r["n"]) for r in found if r["_op"] != 2] == [
        (row.t, row.values["n"]) for row in stands if row.op != "delete"
    ]


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = {
        "_event_time": pa.array([row.t for row in rows], pa.int64()),
        "_known_time": pa.array([row.k for row in rows], pa.int64()),
        "_id": pa.array([row.id for row in rows], pa.string()),
        "n": pa.array([row.values["n"] for row in rows], pa.int64()),
    }
    if any(row.op != "insert" for row in rows):
        columns["_op"] = pa.array([OP_NAMES.index(row.op) for row in rows], pa.int8())
    return pa.RecordBatch.from_pydict(columns)
