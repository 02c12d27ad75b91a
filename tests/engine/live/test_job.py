from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest

import penstock.define as ps
from penstock.clock import ReplayClock, WallClock
from penstock.define.project import Definitions
from penstock.engine.live.job import LiveJob, Options
from penstock.errors import EngineError, StoreError
from penstock.plan import plan
from penstock.plan.ir import Plan
from penstock.semantics.columns import EVENT_TIME
from penstock.store.log.embedded.log import EmbeddedLog

MINUTE_US = 60_000_000


def counted(window: str) -> Plan:
    ev = ps.stream("ev", time="at", schema={"a": "int", "at": "instant"})
    return plan(Definitions.of(ev.by("a").over(window).features("g", n=ps.count())))


def append(log: EmbeddedLog, planned: Plan, t_us: int, n: int = 3) -> None:
    source = planned.relations["ev"]
    topic = log.create_topic("ev", source.schema.arrow)
    t = pa.array([t_us] * n)
    topic.append(pa.table({"a": list(range(n)), "at": t.cast(pa.timestamp("us", tz="UTC")), EVENT_TIME: t}))


def options(folder: Path) -> Options:
    return Options(memory_dir=folder, reserve_bytes=1 << 28)


def test_a_job_runs_until_it_is_stopped_and_goes_on_where_it_was(tmp_path: Path) -> None:
    planned, clock = counted("1min"), WallClock()
    with EmbeddedLog.open(tmp_path / "log", clock=clock, durability="process") as log:
        append(log, planned, clock.now_us())
        job = LiveJob(planned, log, tmp_path / "state", clock, options=options(tmp_path))
        runner = threading.Thread(target=job.run)
        runner.start()
        append(log, planned, clock.now_us())
        while job.metrics.rows_in < 6:
            pass
        job.stop()
        runner.join()
        assert job.metrics.checkpoints == 1
        assert job.metrics.frontier_us is not None
        assert job.metrics.watermark_us is not None
        again = LiveJob(planned, log, tmp_path / "state", clock, options=options(tmp_path))
        assert not again.step()
        assert (again.metrics.replayed, again.metrics.rows_in) == (0, 0)
        again.close()


def test_readers_see_a_batch_when_its_rows_are_in_the_log_and_the_next_is_applied_meanwhile(tmp_path: Path) -> None:
    planned, clock = counted("1min"), ReplayClock(1_000)
    seen: list[tuple[str, int, int]] = []

    def look(step: str) -> None:
        if step in ("applied", "appended"):
            seen.append((step, log.topic("g").end().offsets[0], job._arena.batch))

    with EmbeddedLog.open(tmp_path / "log", clock=clock, durability="process") as log:
        for n in range(4):
            append(log, planned, 900 + n)
            clock.advance_to(2_000 + n)
        small = Options(max_rows=3, memory_dir=tmp_path, reserve_bytes=1 << 28)
        job = LiveJob(planned, log, tmp_path / "state", clock, emit=("g",), options=small, on_step=look)
        job.drain()
        assert [step for step, _, _ in seen] == ["applied", *["applied", "appended"] * 3, "appended"]
        assert all(rows >= 3 * batch for _, rows, batch in seen)
        appended = [(rows, batch) for step, rows, batch in seen if step == "appended"]
        assert appended == [(3 * (n + 1), n) for n in range(4)]
        assert (job._arena.batch, job.metrics.rows_out) == (4, 12)
        job.close()


def test_a_state_directory_is_of_one_version_and_one_process(tmp_path: Path) -> None:
    planned, clock = counted("1min"), ReplayClock(1_000)
    with EmbeddedLog.open(tmp_path / "log", clock=clock, durability="process") as log:
        append(log, planned, 900)
        job = LiveJob(planned, log, tmp_path / "state", clock, options=options(tmp_path))
        job.drain()
        with pytest.raises(EngineError, match="one process at a time"):
            LiveJob(planned, log, tmp_path / "state", clock, options=options(tmp_path))
        job.checkpoint(wait=True)
        job.close()
        with pytest.raises(StoreError, match="one version of the definitions"):
            LiveJob(counted("2min"), log, tmp_path / "state", clock, options=options(tmp_path))
        beside = LiveJob(counted("2min"), log, tmp_path / "beside", clock, options=options(tmp_path))
        beside.drain()
        assert beside.metrics.rows_in == 3
        beside.close()


def test_what_no_query_can_cover_leaves_the_state(tmp_path: Path) -> None:
    planned, clock = counted("1min"), ReplayClock(1)
    with EmbeddedLog.open(tmp_path / "log", clock=clock, durability="process") as log:
        append(log, planned, 0, n=50)
        job = LiveJob(planned, log, tmp_path / "state", clock, options=options(tmp_path))
        for minute in range(1, 300):
            clock.advance_to(minute * 5 * MINUTE_US)
            append(log, planned, minute * 5 * MINUTE_US, n=2)
            job.drain()
        (group,) = job._flow.groups.values()
        held = group.keyed.counts()
        assert held.keys == 2
        assert held.rows < 120  # an hour of rows each five minutes, and what waits for a block to fill or a sweep
        assert held.forgotten > 500
        job.close()
