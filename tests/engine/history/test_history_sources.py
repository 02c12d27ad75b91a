"""One answer whatever the rows come from: tables, files, a log, a lake; and to a lake, once."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock import define as ps
from penstock.clock import ReplayClock
from penstock.define.project import Definitions
from penstock.engine.history import BatchRows, History, LakeRows, LogRows
from penstock.errors import DataError, EngineError
from penstock.plan.ir import Plan
from penstock.plan.planner import plan
from penstock.store.lake import Lake
from penstock.store.log import Log, TopicConfig

SCHEMA = {"id": "text", "op": "text", "at": "instant", "user": "int?", "x": "int?"}
USER = pa.schema([("id", pa.string()), ("op", pa.string()), ("at", pa.timestamp("us", "UTC")), ("user", pa.int64()),
                  ("x", pa.int64())])  # fmt: skip


def made_plan() -> Plan:
    stream = ps.stream("events", time="at", id="id", op="op", schema=SCHEMA)
    group = stream.by("user").over(ps.window("1s", hop="exact")).features("g", n=ps.count(), s=ps.sum("x"))
    return plan(Definitions.of(group))


def append(log: Log, clock: ReplayClock, *rows: tuple[str, str, int, int, int]) -> None:
    """Rows (id, op, t, user, x), each known when the log's clock says so."""
    topic = log.create_topic(
        "events", USER, TopicConfig(partitions=2, ids=True, corrected=True, dedup_us=10**9, key=("user",))
    )
    for name, op, t, user, x in rows:
        clock.advance_to(max(clock.now_us(), t))
        values = {"id": [name], "op": [op], "at": pa.array([t], USER.field("at").type), "user": [user], "x": [x]}
        batch = pa.table(values, schema=USER)
        code = pa.array([("insert", "upsert", "delete").index(op)], pa.int8())
        batch = batch.append_column("_event_time", pa.array([t]))
        batch = batch.append_column("_id", pa.array([name])).append_column("_op", code)
        topic.append(batch)


ROWS = (
    ("a", "insert", 2_000, 1, 5),
    ("b", "insert", 3_000, 1, 7),
    ("b", "insert", 3_500, 1, 70),
    ("c", "insert", 4_000, 2, 1),
    ("a", "upsert", 5_000, 1, 50),
    ("b", "upsert", 6_000, 2, 9),
    ("c", "delete", 7_000, 2, 1),
)


def test_a_log_answers_at_positions_as_it_did_then(log: Log, clock: ReplayClock) -> None:
    """What a reader knew at each length of the log is what history says with that position."""
    made, seen = made_plan(), []
    for row in ROWS:
        append(log, clock, row)
        topic = log.topic("events")
        history = History(made, {"events": LogRows(topic)})
        asked = pa.table({"user": [1, 2], "q": [100_000, 100_000]})
        seen.append((topic.end(), history.group("g", asked).table().to_pylist()))
    assert [(r["n_1s"], r["s_1s"]) for r in seen[-1][1]] == [(1, 50), (1, 9)]
    whole = History(made, {"events": LogRows(log.topic("events"))})
    asked = pa.table({"user": [1, 2] * len(seen), "q": [100_000] * 2 * len(seen)})
    again = whole.group("g", asked, a=[[position] for position, _ in seen for _ in range(2)]).table().to_pylist()
    assert again == [row for _, rows in seen for row in rows]


def test_a_vector_per_query_is_needed(log: Log, clock: ReplayClock) -> None:
    append(log, clock, *ROWS)
    history = History(made_plan(), {"events": LogRows(log.topic("events"))})
    with pytest.raises(DataError, match="one position vector per query"):
        history.group("g", pa.table({"user": [1, 2], "q": [1, 1]}), a=[{("events", 0): 3}]).table()


def test_a_lake_holds_the_same_rows_and_takes_answers_once(log: Log, clock: ReplayClock, tmp_path: Path) -> None:
    append(log, clock, *ROWS)
    rows = LogRows(log.topic("events"))
    table = pa.Table.from_batches(list(rows.batches(list(SCHEMA))))
    lake = Lake.open(tmp_path / "lake", clock=clock)
    lake.create_table("events", table.schema)
    lake.append("events", table)
    asked = pa.table({"user": [1, 2, 3], "q": [8_000] * 3})
    expected = History(made_plan(), {"events": rows}).group("g", asked)
    found = History(made_plan(), {"events": LakeRows(lake, "events")}, memory_bytes=1 << 30).group("g", asked)
    assert found.table(statuses=True).equals(expected.table(statuses=True))
    assert not found.write_lake(lake, "features", app_id="run", version=1).repeated
    assert found.write_lake(lake, "features", app_id="run", version=1).repeated
    assert lake.read("features").read_all().num_rows == 3


def test_rows_of_a_raw_lake_table_are_known_when_they_were_committed(clock: ReplayClock, tmp_path: Path) -> None:
    items = ps.table("items", key="item", schema={"item": "int", "price": "int?"})
    made = plan(Definitions.of(ps.view("v", ps.inputs(item="int"), items["price"])))
    lake = Lake.open(tmp_path / "lake", clock=clock)
    lake.create_table("items", pa.schema([("item", pa.int64()), ("price", pa.int64())]))
    for at, given in ((10_000, [1, 2]), (20_000, [3, None])):
        clock.advance_to(at)
        lake.append("items", pa.table({"item": [1, 2], "price": pa.array(given, pa.int64())}))
    clock.advance_to(30_000)
    lake.compact("items")
    clock.advance_to(40_000)
    lake.merge("items", pa.table({"item": [3], "price": [7]}), ["item"])
    instants = [9_000, 10_001, 20_000, 20_001, 35_000, 40_001]
    asked = pa.table({"item": [i for _ in instants for i in (1, 2, 3)], "q": [q for q in instants for _ in range(3)]})

    def prices() -> list[list[int | None]]:
        found = History(made, {"items": LakeRows(lake, "items")}).view("v", asked).table()["price"].to_pylist()
        return [found[i : i + 3] for i in range(0, len(found), 3)]

    none = [None, None, None]
    truth = [none, [1, 2, None], [1, 2, None], [3, None, None], [3, None, None], [3, None, 7]]
    assert prices() == truth
    lake.vacuum("items", 0)  # of the first two versions only the compacted file is left: late, but never early
    late = prices()
    assert late[:4] == [none] * 4 and late[5][2] == 7


def test_rows_of_unknown_number_are_counted_before_they_are_trusted_to_fit(tmp_path: Path) -> None:
    n = 20_000
    at = pa.array(range(n), pa.int64()).cast(pa.timestamp("us", "UTC"))
    columns = {
        "id": [f"e{i}" for i in range(n)],
        "op": ["insert"] * n,
        "user": [i % 50 for i in range(n)],
        "x": [1] * n,
    }
    table = pa.table({**columns, "at": at})
    rows = BatchRows(lambda _: table.to_batches(max_chunksize=1_000), identity="events")
    history = History(made_plan(), {"events": rows}, memory_bytes=1 << 20)
    asked = pa.table({"user": list(range(50)), "q": [n] * 50})
    assert history.group("g", asked).table()["n_1s"].to_pylist() == [n // 50] * 50
    assert history.all_keys("g", n).table().num_rows == 50


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    made = made_plan()
    asked = pa.table({"user": [1], "q": [1]})
    with pytest.raises(EngineError, match="needs its rows"):
        History(made, {"event": pa.table({})}).group("g", asked).table()
    with pytest.raises(EngineError, match="no group has this name"):
        History(made, {}).group("h", asked)
    with pytest.raises(DataError, match="key columns user"):
        History(made, {}).group("g", pa.table({"usr": [1], "q": [1]}))
    with pytest.raises(DataError, match="the column at"):
        History(made, {}).group("g", asked, q="at")
    with pytest.raises(DataError, match="every query has an instant"):
        rows = pa.table({name: pa.array([], USER.field(name).type) for name in SCHEMA})
        History(made, {"events": rows}).group("g", pa.table({"user": [1], "q": pa.array([None], pa.int64())})).table()
    broken = tmp_path / "events.parquet"
    pq.write_table(pa.table({"id": ["a"]}), broken)
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(DataError, match=r"events\.parquet|Parquet"):
        History(made, {"events": broken}).group("g", asked).table()
