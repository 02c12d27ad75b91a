"""Rows fold as early as they may: the answers are the oracle's, and what is held does not grow with the rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock.define as ps
from penstock.clock import ReplayClock
from penstock.define.project import Definitions
from penstock.engine.live import flow
from penstock.engine.live.job import LiveJob, Options
from penstock.engine.online import Online
from penstock.errors import EngineError
from penstock.plan import plan
from penstock.plan.describe import render
from penstock.semantics.columns import EVENT_TIME
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.testing.conformance import Case, Matrix, check
from penstock.testing.strategies import model_cases, views
from tests.engine.live.tempo import LiveTempo
from tests.engine.live.test_conformance import rows_only
from tests.engine.online.tempo import OnlineTempo, at_present

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@contextmanager
def folding_at_once() -> Iterator[None]:
    """No read of a former batch is waited for, and every key is looked at after every batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "READABLE_BATCHES", 0)
        patch.setattr(flow, "_SHARDS_A_BATCH", 1024)
        patch.setattr(flow, "ASOF_LATE_US", 0)
        yield


@given(model_cases(), st.integers(1, 6))
@settings(suppress_health_check=SLOW)
def test_rows_put_out_are_the_oracles(case: Case, max_rows: int) -> None:
    with folding_at_once():
        check(rows_only(case, "g"), LiveTempo(max_rows=max_rows))


@given(model_cases(), st.integers(1, 6))
@settings(suppress_health_check=SLOW)
def test_reads_of_groups_are_the_oracles(case: Case, max_rows: int) -> None:
    with folding_at_once():
        check(at_present(case), OnlineTempo(max_rows), Matrix())


@given(views(), st.integers(1, 6))
@settings(suppress_health_check=SLOW)
def test_reads_of_views_are_the_oracles(case: Case, max_rows: int) -> None:
    with folding_at_once():
        check(at_present(case), OnlineTempo(max_rows), Matrix())


@given(model_cases(), st.lists(st.integers(1, 12), max_size=6), st.integers(1, 6))
@settings(max_examples=30, suppress_health_check=SLOW)
def test_crashes_change_nothing_of_what_was_folded(case: Case, crashes: list[int], max_rows: int) -> None:
    with folding_at_once():
        check(rows_only(case, "g"), LiveTempo(crashes, max_rows))


MINUTE_US = 60_000_000
EVERYTHING: dict[str, Any] = {
    "n": ps.count(), "total": ps.sum("x"), "mean": ps.mean("i"), "spread": ps.std("x"), "least": ps.min("x"),
    "begun": ps.first("i"), "newest": ps.last("w"), "three": ps.last_n(3, "i"), "kinds": ps.distinct("w", limit=5),
    "fading": ps.decayed_sum("x", "1h"), "some": ps.sum("i").where("x > 0.5"),
}  # fmt: skip
SCHEMA = {"a": "int", "x": "float", "i": "int", "w": "text", "at": "instant"}


def minute_of_rows(minute: int) -> pa.Table:
    """Twenty rows of four keys."""
    n = range(20)
    t = pa.array([minute * MINUTE_US + i for i in n])
    return pa.table({
        "a": [i % 4 for i in n], "x": [i / 20 for i in n], "i": [minute + i for i in n], "w": [f"w{i % 9}" for i in n],
        "at": t.cast(pa.timestamp("us", tz="UTC")), EVENT_TIME: t,
    })  # fmt: skip


@contextmanager
def grown(tmp_path: Path, *definitions: Any, source: str) -> Iterator[tuple[list[int], LiveJob, Online]]:
    """Bytes of state after 100, 200, 300 minutes, the job that is left, and its reader."""
    planned, clock, used = plan(Definitions.of(*definitions)), ReplayClock(1), []
    options = Options(memory_dir=tmp_path, reserve_bytes=1 << 28)
    with EmbeddedLog.open(tmp_path / "log", clock=clock, durability="process") as log, folding_at_once():
        topic = log.create_topic(source, planned.relations[source].schema.arrow)
        job = LiveJob(planned, log, tmp_path / "state", clock, options=options)
        for minute in range(1, 301):
            clock.advance_to((minute + 1) * MINUTE_US)
            topic.append(minute_of_rows(minute))
            job.drain()
            if minute % 100 == 0:
                used.append(job._arena.used_bytes)
        online = Online(planned, tmp_path / "state", clock)
        yield used, job, online
        online.close()
        job.close()


def test_a_lifetime_takes_no_more_room_however_many_rows_come(tmp_path: Path) -> None:
    stream = ps.stream("ev", time="at", schema=SCHEMA)
    group = stream.by("a").over(ps.lifetime(), ps.rows(4)).features("g", **EVERYTHING)
    with grown(tmp_path, group, source="ev") as (used, job, online):
        assert used[2] < used[0] * 1.05
        (state,) = job._flow.groups.values()
        held = state.keyed.counts()
        assert (held.keys, held.rows + held.forgotten) == (4, 6000)
        assert held.rows < 2000  # an hour of rows, and those that wait to be a quarter of a key's
        found = online.group("g", 1).columns
        assert found["n_lifetime"][0].as_py() == 1500
        assert found["begun_lifetime"][0].as_py() == 2
        assert found["mean_lifetime"][0].as_py() == pytest.approx(301 / 2 + 9)


def test_only_the_newest_version_below_the_horizon_is_kept_of_a_table(tmp_path: Path) -> None:
    table = ps.table("tab", key="a", time="at", schema=SCHEMA)
    view = ps.view("v", ps.inputs(a="int"), table["i", "w"])
    with grown(tmp_path, view, source="tab") as (used, job, online):
        assert used[2] < used[0] * 1.05
        (state,) = job._flow.asofs.values()
        assert state.state.keyed.counts().rows < 100
        assert online.view("v", {"a": 1}).columns["i"][0].as_py() == 317
        with pytest.raises(EngineError, match="about its present"):
            online.view("v", {"a": 1}, q_us=100 * MINUTE_US)


def test_rows_that_may_be_corrected_for_ever_are_kept_and_the_plan_says_so() -> None:
    schema = SCHEMA | {"id": "text", "op": "text"}
    for corrected, kept in ((None, "kept for ever: rows of ev may be corrected for ever"), ("7d", "older ones merged")):
        stream = ps.stream("ev", time="at", id="id", op="op", corrected=corrected, schema=schema)
        planned = plan(Definitions.of(stream.by("a").over(ps.lifetime()).features("g", n=ps.count())))
        assert kept in render(planned)
        assert [name for name, _ in planned.warnings] == (["g"] if corrected is None else [])
