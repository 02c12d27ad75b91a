"""examples/edges on real departures: the four kinds of edges, and every control action, on live jobs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.cli.deployment import Deployment

EXAMPLE = Path(__file__).parents[2] / "examples" / "edges"
DATA = Path(__file__).parents[2].parent / "shared" / "data"
ZONE = ZoneInfo("America/New_York")
FIRST, LAST = datetime(2013, 3, 1, 5, tzinfo=UTC), datetime(2013, 3, 4, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if not DATA.is_dir():
        pytest.skip(f"the real data are not at {DATA}")
    project = tmp_path_factory.mktemp("edges")
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, project)
    (project / "data").mkdir()
    table = pq.read_table(DATA / "flights" / "departures.parquet")
    at = table["departed_at"]
    table = table.filter(pc.and_(pc.greater_equal(at, pa.scalar(FIRST)), pc.less(at, pa.scalar(LAST))))
    pq.write_table(table, project / "data" / "departures.parquet")
    one = Deployment(project)
    one.up()
    one.run("log", "load", "--speed", "100000")
    yield one
    one.run("down")
    one.stop()


def job(edges: Deployment, name: str) -> dict[str, Any]:
    return next(row for row in edges.json("jobs") if row["job"] == f"days.{name}")


def until_job(edges: Deployment, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    found: dict[str, Any] = edges.until(lambda: (row := job(edges, name)) and holds(row) and row)
    return found


def runs_done(edges: Deployment) -> list[dict[str, Any]]:
    rows = [row for row in edges.json("run", "ls") if row["state"] == "done"]
    return sorted(rows, key=lambda row: row["interval_end_us"])


def expected(project: Path) -> dict[tuple[str, str], int]:
    """Departures by local day and origin, counted plainly."""
    found: dict[tuple[str, str], int] = {}
    for row in pq.read_table(project / "data" / "departures.parquet").to_pylist():
        key = (row["departed_at"].astimezone(ZONE).date().isoformat(), row["origin"])
        found[key] = found.get(key, 0) + 1
    return found


def test_each_day_is_reported_once_its_events_are_there_and_every_number_is_right(edges: Deployment) -> None:
    edges.until(lambda: len(runs_done(edges)) == 3, 60)
    plain = expected(edges.project)
    for run in runs_done(edges):
        nodes = {node["node"]: node for node in edges.json("run", "show", run["run"])[0]["nodes"]}
        told = nodes["report"]["outputs"]["result"]
        day = datetime.fromtimestamp(run["interval_start_us"] / 1e6, ZONE).date().isoformat()
        assert told["departures"] == {origin: n for (d, origin), n in plain.items() if d == day}
        assert str(sum(told["departures"].values())) in nodes["summary"]["outputs"]["result"]
    assert len({run["run"] for run in edges.json("run", "ls")}) == 3, "the day that is not over has no run"
    assert edges.json("facts", "days.report", "--kind", "rows")[0]["value"] > 0


def test_a_done_batch_node_starts_and_reloads_a_stream(edges: Deployment) -> None:
    until_job(edges, "board", lambda row: row["state"] == "running")
    log = edges.project / ".penstock" / "streams" / "days.board" / "1.log"
    edges.until(lambda: "reloaded" in log.read_text())
    edges.until(lambda: edges.json("facts", "days.board", "--kind", "offset")[0]["value"] > 0)


def test_a_gate_holds_a_live_job_while_the_other_does_not_run(edges: Deployment) -> None:
    until_job(edges, "carriers", lambda row: row["state"] == "running")
    edges.run("jobs", "days.live", "stop")
    until_job(edges, "live", lambda row: row["state"] == "stopped")
    held = until_job(edges, "carriers", lambda row: row["state"] == "paused")
    assert held["gate"] == "held"
    assert 'status(days.live) == "running"' in edges.run("why", "days.carriers")
    edges.run("jobs", "days.live", "start")
    again = until_job(edges, "carriers", lambda row: row["state"] == "running")
    assert again["epoch"] == held["epoch"], "it was held, not ended"


def test_signals_restart_and_stop_a_stream(edges: Deployment) -> None:
    before = until_job(edges, "board", lambda row: row["state"] == "running")
    edges.run("signal", "renew")
    after = until_job(edges, "board", lambda row: row["state"] == "running" and row["epoch"] > before["epoch"])
    assert after["generation"] == before["generation"] + 1
    edges.run("signal", "close")
    until_job(edges, "board", lambda row: row["state"] == "stopped")
    assert [row["state"] for row in edges.json("jobs")].count("running") == 2


def test_a_reload_lets_a_live_job_go_on_where_it_was(edges: Deployment) -> None:
    before = until_job(edges, "live", lambda row: row["state"] == "running")
    edges.run("jobs", "days.live", "reload")
    edges.until(lambda: job(edges, "live")["state"] == "running")
    assert job(edges, "live")["epoch"] == before["epoch"]
    assert job(edges, "live")["error"] == ""
