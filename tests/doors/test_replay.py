from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.clock import ReplayClock
from penstock.doors.deployment import Deployment
from penstock.doors.sort import sort_by_known_time
from penstock.errors import DataError, DoorError, StoreError

S = 1_000_000

DEFINITIONS = """
import penstock as ps
types = {"n": "int", "t": "instant", "k": "instant?"}
a = ps.stream("a", ps.files("a.parquet"), time="t", known="k", id="n", schema=types)
b = ps.stream("b", ps.files("b.csv"), time="t", zone="America/New_York", schema={"t": "instant", "v": "float?"})
"""


def project(folder: Path, n: int = 5_000) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "definitions.py").write_text(DEFINITIONS)
    rng = np.random.default_rng(7)
    times = rng.integers(1_700_000_000, 1_700_100_000, n) * S
    instants = pa.timestamp("us", "UTC")
    late = rng.integers(0, 600, n) * S
    table = pa.table({"n": range(n), "t": pa.array(times, instants), "k": pa.array(times + late, instants)})
    pq.write_table(table, folder / "a.parquet", row_group_size=512)
    lines = ["t,v", *(f"2023-11-15 {i // 60:02d}:{i % 60:02d}:00,{i / 4}" for i in range(1_000))]
    (folder / "b.csv").write_text("\n".join(lines) + "\n")
    return folder


def rows_of(deployment: Deployment, name: str) -> pa.Table:
    topic = deployment.topic(name)
    batches, at = [], 0
    while (found := topic.read(0, at)).rows.num_rows:
        batches.append(found.rows)
        at = found.next_offset
    return pa.Table.from_batches(batches)


def test_streams_are_replayed_together_in_the_order_of_known_time(tmp_path: Path) -> None:
    clock = ReplayClock()
    with Deployment(project(tmp_path), clock) as d:
        steps = list(d.replay(["a", "b"], clock=clock, step_rows=700).steps())
        assert sum(s.rows for s in steps) == 6_000 and len(steps) > 5
        a, b = rows_of(d, "a"), rows_of(d, "b")
        for rows in (a, b):
            known = rows["_known_time"].to_numpy()
            assert (known[1:] >= known[:-1]).all()
        assert sorted(a["n"].to_pylist()) == list(range(5_000))
        assert b["_known_time"].equals(b["_event_time"])
        # 00:00 in New York on that day is 05:00 UTC.
        assert b["t"][0].as_py().isoformat() == "2023-11-15T05:00:00+00:00"
        assert clock.now_us() == steps[-1].known_us == max(a["_known_time"].to_pylist() + b["_known_time"].to_pylist())
        assert d.topic("b").frontier(d.topic("b").end()) == (steps[-1].known_us,)


def test_a_replay_taken_up_again_doubles_nothing(tmp_path: Path) -> None:
    for broken_at in range(4):
        with Deployment(project(tmp_path)) as d:
            for i, _ in enumerate(d.replay(["a", "b"], step_rows=900).steps()):
                if i == broken_at:
                    break
    with Deployment(tmp_path) as d:
        list(d.replay(["b", "a"], step_rows=500).steps())
        assert sorted(rows_of(d, "a")["n"].to_pylist()) == list(range(5_000))
        assert rows_of(d, "b").num_rows == 1_000
        assert not list(d.replay(["a", "b"]).steps())


KILLED = """
import sys
from penstock.doors.deployment import Deployment
with Deployment(sys.argv[1]) as d:
    for step in d.replay(["a", "b"], step_rows=60).steps():
        print(step.rows, flush=True)
"""


def test_kills_at_any_moment_lose_and_double_nothing(tmp_path: Path) -> None:
    project(tmp_path)
    rng = np.random.default_rng(3)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ}, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.12)))
        process.kill()
        process.communicate()
    with Deployment(tmp_path) as d:
        list(d.replay(["a", "b"]).steps())
        assert sorted(rows_of(d, "a")["n"].to_pylist()) == list(range(5_000))
        assert rows_of(d, "b").num_rows == 1_000
        assert d.topic("a").counts().duplicates == 0


def test_new_files_are_loaded_after_the_old(tmp_path: Path) -> None:
    text = 'import penstock as ps\na = ps.stream("a", ps.files("in"), time="t", schema={"t": "instant", "n": "int"})\n'
    (tmp_path / "definitions.py").write_text(text)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.csv").write_text("t,n\n2026-01-01T00:00:00Z,1\n")
    with Deployment(tmp_path) as d:
        assert [s.rows for s in d.replay(["a"]).steps()] == [1]
        (tmp_path / "in/0.csv").write_text("t,n\n2026-01-02T00:00:00Z,2\n")
        assert [s.rows for s in d.replay(["a"]).steps()] == [1]
        (tmp_path / "in/2.csv").write_text("t,n\n2025-01-02T00:00:00Z,3\n")
        with pytest.raises(DataError, match="do not go back"):
            list(d.replay(["a"]).steps())
        (tmp_path / "in/2.csv").unlink()
        assert rows_of(d, "a")["n"].to_pylist() == [1, 2]


def test_rows_that_do_not_fit_go_to_dead_letters_with_their_reason(tmp_path: Path) -> None:
    text = """
import penstock as ps
a = ps.stream("a", ps.files("a.ndjson"), time="t", schema={"t": "instant", "x": "float?"})
"""
    (tmp_path / "definitions.py").write_text(text)
    lines = [{"t": "2026-01-01T00:00:00Z", "x": 1}, {"t": None, "x": 2}, {"t": "2026-01-01T00:00:01Z", "x": 3}]
    (tmp_path / "a.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Deployment(tmp_path) as d:
        (step,) = d.replay(["a"]).steps()
        assert (step.results["a"].accepted, step.results["a"].dead) == (2, 1)
        assert "null" in d.topic("a").dead_letters()[0].reason


def test_a_table_with_deletes_is_loaded_as_versions(tmp_path: Path) -> None:
    text = """
import penstock as ps
types = {"k": "int", "dt": "date", "op": "text?", "x": "float?"}
a = ps.table("a", ps.files("a.csv"), key="k", known="dt + 24h", zone="UTC", op="op", schema=types)
"""
    (tmp_path / "definitions.py").write_text(text)
    (tmp_path / "a.csv").write_text("k,dt,op,x\n1,2026-01-01,,1\n1,2026-01-02,delete,\n1,2026-01-03,upsert,3\n")
    with Deployment(tmp_path) as d:
        (step,) = d.replay(["a"]).steps()
        assert (step.results["a"].accepted, step.results["a"].dead) == (3, 0)
        assert rows_of(d, "a")["op"].to_pylist() == [None, "delete", "upsert"]


def test_two_processes_do_not_load_one_topic(tmp_path: Path) -> None:
    with Deployment(project(tmp_path)) as d:
        steps = d.replay(["a"], step_rows=10).steps()
        next(steps)
        with pytest.raises(DoorError, match="one process at a time"):
            next(d.replay(["a"]).steps())
        steps.close()  # type: ignore[attr-defined]
        assert next(d.replay(["a"]).steps()).rows


def test_a_log_and_a_journal_of_two_states_are_told(tmp_path: Path) -> None:
    with Deployment(project(tmp_path)) as d:
        list(d.replay(["a"], step_rows=1_000).steps())
        (journal,) = (tmp_path / ".penstock/doors").glob("*.a@1.json")
        journal.unlink()
        with pytest.raises(StoreError, match="of one state"):
            list(d.replay(["a"]).steps())


def test_a_growing_table_is_followed_exactly_once(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    with sqlite3.connect(database) as c:
        c.execute("create table t (seq integer, at text)")
        c.executemany("insert into t values (?, '2026-01-01T00:00:00Z')", [(i,) for i in range(20_000)])
    text = f"""
import penstock as ps
a = ps.stream("a", ps.sql("sqlite:///{database}", "t", "seq"), time="at", schema={{"seq": "int", "at": "instant"}})
"""
    (tmp_path / "definitions.py").write_text(text)
    with Deployment(tmp_path) as d:
        follower = d.follower("a")
        next(follower.poll())  # broken off after the first append
        follower.close()
    with Deployment(tmp_path) as d:
        follower = d.follower("a")
        list(follower.poll())
        with sqlite3.connect(database) as c:
            c.execute("insert into t values (19999, '2026-01-01T00:00:00Z'), (20000, '2026-01-01T00:00:01Z')")
        list(follower.poll())
        list(follower.poll())
        follower.close()
        assert rows_of(d, "a")["seq"].to_pylist() == [*range(20_000), 19_999, 20_000]
    c.close()


def test_a_watched_folder_is_followed_and_its_frontier_moves(tmp_path: Path) -> None:
    text = """
import penstock as ps
a = ps.stream("a", ps.files("in", arrivals="watch"), time="t", schema={"t": "instant"})
"""
    (tmp_path / "definitions.py").write_text(text)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.csv").write_text("t\n1970-01-01T00:00:01Z\n")
    os.utime(tmp_path / "in/1.csv", (100, 100))
    clock = ReplayClock(200 * S)
    with Deployment(tmp_path, clock) as d:
        follower = d.follower("a")
        list(follower.poll())
        topic = d.topic("a")
        assert rows_of(d, "a")["_known_time"].to_pylist() == [100 * S]
        assert topic.frontier(topic.end()) == (200 * S - 1,)
        (tmp_path / "in/0.csv").write_text("t\n1970-01-01T00:00:02Z\n")
        os.utime(tmp_path / "in/0.csv", (150, 150))
        clock.advance_to(300 * S)
        list(follower.poll())
        follower.close()
        assert rows_of(d, "a")["_known_time"].to_pylist() == [100 * S, 300 * S]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=12), max_size=8),
    st.integers(1, 5),
    st.integers(1, 400),
)
@settings(max_examples=150)
def test_sorting_on_disk_is_a_stable_sort(parts: list[list[tuple[int, int]]], batch_rows: int, run_bytes: int) -> None:
    batches: list[pa.RecordBatch] = []
    flat: list[tuple[int, int, int]] = []
    for part in parts:
        start = len(flat)
        flat += [(k, t, start + i) for i, (k, t) in enumerate(part)]
        columns = list(zip(*flat[start:], strict=True))
        batches.append(pa.record_batch({"_known_time": columns[0], "_event_time": columns[1], "row": columns[2]}))
    found = [r for b in sort_by_known_time(batches, run_bytes=run_bytes, batch_rows=batch_rows) for r in b.to_pylist()]
    assert [(r["_known_time"], r["_event_time"], r["row"]) for r in found] == sorted(flat)
