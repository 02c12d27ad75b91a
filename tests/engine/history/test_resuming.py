"""Runs larger than memory: the same answers, bounded memory, and going on after kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock import define as ps
from penstock.define.project import Definitions
from penstock.engine.history import ArrowRows, History, Progress
from penstock.errors import EngineError, StoreError
from penstock.plan.ir import Plan
from penstock.plan.planner import plan

SCHEMA = {"user": "int?", "shop": "text", "t": "int", "x": "float?"}
N, M = 60_000, 5_000


def made_plan() -> Plan:
    stream = ps.stream("events", ps.files("events.parquet"), time="instant_us(t)", schema=SCHEMA)
    windows = (ps.window("1s", hop="exact"), ps.window("1min"))
    by_user = (
        stream.by("user").over(*windows).features("by_user", n=ps.count(), s=ps.sum("x"), kinds=ps.distinct("shop"))
    )
    by_shop = stream.by("shop").over(*windows).features("by_shop", n=ps.count(), last=ps.last("x"))
    newest = stream.where("x > 0").asof(ps.entity("user"))["x"]
    view = ps.view(
        "v", ps.inputs(user="int", shop="text"), by_user, by_shop, newest, both="by_user.n_1s + by_shop.n_1s"
    )
    return plan(Definitions.of(view))


def write_inputs(folder: Path) -> None:
    rng = np.random.default_rng(5)
    shops = np.array([f"shop {i}" for i in range(40)])
    events = {
        "user": pa.array(rng.integers(0, 300, N), mask=rng.random(N) < 0.02),
        "shop": pa.array(shops[rng.integers(0, 40, N)]),
        "t": pa.array(np.sort(rng.integers(0, 300_000_000, N))),
        "x": pa.array(rng.normal(size=N)),
    }
    pq.write_table(pa.table(events), folder / "events.parquet", row_group_size=10_000)
    queries = {
        "user": pa.array(rng.integers(0, 320, M)),
        "shop": pa.array(shops[rng.integers(0, 40, M)]),
        "q": pa.array(rng.integers(0, 300_000_000, M)),
    }
    pq.write_table(pa.table(queries), folder / "queries.parquet")


def ask(folder: Path, **options: Any) -> History:
    return History(made_plan(), {"events": folder / "events.parquet"}, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


def test_spilled_answers_are_those_in_memory(folder: Path) -> None:
    whole = ask(folder).view("v", folder / "queries.parquet").table(statuses=True)
    spilled = ask(folder, memory_bytes=2_000_000).view("v", folder / "queries.parquet").table(statuses=True)
    assert whole.num_rows == M
    assert spilled.equals(whole)


def test_progress_is_told_to_its_end(folder: Path) -> None:
    told: list[Progress] = []
    ask(folder, memory_bytes=2_000_000, progress=told.append).view("v", folder / "queries.parquet").table()
    stages = {p.stage: p for p in told}
    assert all(p.fraction == 1.0 for p in stages.values())
    assert any(stage.startswith("answer-") for stage in stages)


def test_a_finished_run_is_not_made_again(folder: Path) -> None:
    work = folder / "work"
    first = ask(folder, work=work).view("v", folder / "queries.parquet").table()
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.arrow")}
    assert ask(folder, work=work).view("v", folder / "queries.parquet").table().equals(first)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.arrow")} == before


def test_a_work_folder_belongs_to_one_run(folder: Path) -> None:
    work = folder / "work"
    ask(folder, work=work).view("v", folder / "queries.parquet").table()
    with pytest.raises(EngineError, match="another definition, other queries or other rows"):
        ask(folder, work=work).group("by_user", folder / "queries.parquet").table()
    (work / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(StoreError, match="upgrade"):
        ask(folder, work=work).view("v", folder / "queries.parquet").table()


def test_a_run_works_in_an_empty_folder(folder: Path) -> None:
    with pytest.raises(EngineError, match="a folder of its own"):
        ask(folder, work=folder).view("v", folder / "queries.parquet").table()


def test_a_killed_run_goes_on(folder: Path) -> None:
    """Killed again and again, each time further on, it ends with the answers of a run that was never killed."""
    expected = ask(folder).view("v", folder / "queries.parquet").table()
    out, work = folder / "out.parquet", folder / "work"
    command = [sys.executable, str(Path(__file__)), str(folder)]
    kills = 0
    for files in (1, 3, None):
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": _root()}) as child:
            while child.poll() is None and (files is None or len(list(work.rglob("*"))) < files):
                time.sleep(0.005)
            if child.poll() is None:
                child.kill()
                kills += 1
        if child.returncode == 0:
            break
        assert not out.exists() or pq.read_metadata(out).num_rows == M  # seen when it is whole, or not at all
    assert kills > 0
    assert child.returncode == 0
    order = [("user", "ascending"), ("shop", "ascending"), ("q", "ascending")]
    assert pq.read_table(out).sort_by(order).equals(expected.sort_by(order))
    assert not list(work.glob("*.partial"))


def _root() -> str:
    return str(Path(__file__).parents[3])


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_resuming import ask
from penstock.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
place = Path(sys.argv[1])
try:
    found = ask(place, work=place / "work" if sys.argv[4] else None).view("v", place / "queries.parquet")
    found.write_parquet(place / "out.parquet")
except StoreError as error:
    print(error.code)
"""


@pytest.mark.parametrize("spills", [False, True])
def test_a_full_disk_leaves_nothing_behind(folder: Path, *, spills: bool) -> None:
    command = [sys.executable, "-c", FULL, str(folder), str(Path(__file__).parent), "4000", "spill" if spills else ""]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": _root()}, check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.strip() == StoreError.code
    assert not list(folder.glob("*out.parquet*")) + list(folder.glob(".*partial"))


def test_queries_and_rows_may_be_tables(folder: Path) -> None:
    events, queries = pq.read_table(folder / "events.parquet"), pq.read_table(folder / "queries.parquet")
    found = History(made_plan(), {"events": ArrowRows(events)}).view("v", queries).table()
    assert found.equals(ask(folder).view("v", folder / "queries.parquet").table())


if __name__ == "__main__":
    place = Path(sys.argv[1])
    ask(place, work=place / "work").view("v", place / "queries.parquet").write_parquet(place / "out.parquet")
