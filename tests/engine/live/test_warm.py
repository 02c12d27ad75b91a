"""A job that starts when retention has deleted rows: they come from the lake, each once, whatever dies meanwhile."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import penstock.define as ps
from penstock.clock import WallClock
from penstock.define.project import Definitions
from penstock.define.stream import Stream
from penstock.engine.live.job import LiveJob, Options
from penstock.errors import StoreError
from penstock.plan import plan
from penstock.plan.ir import Plan, SourcePlan
from penstock.store.lake import Lake, LakeSink
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import Append, Retention, TopicConfig
from penstock.testing.conformance import END_US, Case, RowsQuery, differences
from penstock.testing.conformance.cases import answer
from penstock.testing.oracle import Row
from tests.engine.live.tempo import rows_of, to_batch
from tests.engine.live.test_kills import ROOT, arrivals, assert_is_oracle
from tests.engine.live.worker import EMIT, definitions, memory, named


def lake_of(folder: Path) -> Lake:
    return Lake.open(folder / "lake", clock=WallClock())


def opened(folder: Path) -> EmbeddedLog:
    return EmbeddedLog.open(folder / "log", clock=WallClock())


def fill(log: EmbeddedLog, rows: dict[str, list[Row]], promised_us: int | None = None) -> None:
    """Rows through the door, in many commits, so that the log can delete some of them."""
    sources = [r for r in definitions().relations.values() if isinstance(r, SourcePlan)]
    for source in sources:
        config = TopicConfig(clock="source", ids=True, corrected=True, max_ahead_us=2**62)
        topic = log.create_topic(source.name, source.schema.arrow, config)
        mine = rows[source.name.name]
        for first in range(0, len(mine), 15):
            batch = to_batch(source, mine[first : first + 15]).drop_columns(["_ordinal", "_partition", "_offset"])
            topic.append(batch)
        log.append_all([Append(str(source.name), to_batch(source, []).drop_columns(
            ["_ordinal", "_partition", "_offset"]), frontier_us=promised_us)])  # fmt: skip


def retained(log: EmbeddedLog, lake: Lake, max_bytes: int = 2_000) -> int:
    """Brings rows into the lake and deletes what may go; how many rows are gone."""
    gone = 0
    for source in definitions().relations.values():
        if isinstance(source, SourcePlan):
            topic = log.topic(source.name)
            LakeSink(log, topic, lake).drain()
            topic.trim(Retention(max_bytes=max_bytes))
            gone += sum(topic.start().offsets)
    return gone


def halves(n: int, seed: int) -> tuple[dict[str, list[Row]], dict[str, list[Row]], dict[str, list[Row]]]:
    rows = arrivals(n, seed)
    cut_us = rows["show"][len(rows["show"]) * 2 // 3].k
    before = {name: [row for row in mine if row.k < cut_us] for name, mine in rows.items()}
    after = {name: [row for row in mine if row.k >= cut_us] for name, mine in rows.items()}
    return rows, before, after


def started(
    folder: Path, log: EmbeddedLog, state: str = "state", planned: Plan | None = None, emit: Sequence[str] = EMIT
) -> LiveJob:
    options = Options(max_rows=40, checkpoint_rows=60, memory_dir=memory(folder), reserve_bytes=1 << 28)
    return LiveJob(
        planned or definitions(), log, folder / state, WallClock(), emit=emit, options=options,
        lake=lambda: lake_of(folder),
    )  # fmt: skip


def test_a_job_that_starts_after_retention_is_one_that_saw_everything(tmp_path: Path) -> None:
    rows, before, after = halves(150, seed=5)
    with opened(tmp_path) as log:
        fill(log, before)
        gone = retained(log, lake_of(tmp_path))
        assert gone > 50
        job = started(tmp_path, log)
        job.drain()
        assert job.metrics.lake_rows == gone
        fill(log, after, END_US)
        job.drain()
        assert job.metrics.lake_rows == gone
        job.close()
    assert_is_oracle(tmp_path, Case(named(), rows, [RowsQuery(name, END_US) for name in EMIT]))
    shutil.rmtree(memory(tmp_path))


def test_a_job_that_fell_behind_retention_catches_up(tmp_path: Path) -> None:
    rows, before, after = halves(150, seed=8)
    with opened(tmp_path) as log:
        fill(log, before)
        job = started(tmp_path, log)
        assert job.step()
        job.close()
        fill(log, after, END_US)
        retained(log, lake_of(tmp_path), 0)
        job = started(tmp_path, log)
        job.drain()
        assert job.metrics.lake_rows > 0
        job.close()
    assert_is_oracle(tmp_path, Case(named(), rows, [RowsQuery(name, END_US) for name in EMIT]))
    shutil.rmtree(memory(tmp_path))


def test_a_changed_definition_starts_a_version_of_its_own_beside_the_old(tmp_path: Path) -> None:
    rows, before, after = halves(150, seed=9)
    changed = second_version()
    with opened(tmp_path) as log:
        fill(log, before)
        old = started(tmp_path, log)
        old.drain()
        retained(log, lake_of(tmp_path))
        new = started(tmp_path, log, "second", plan(changed), ("totals",))
        assert new.step()
        fill(log, after, END_US)
        for job in (old, new):
            job.drain()
            job.close()
        found = rows_of(log, plan(changed), "totals")
        assert not differences(answer(Case(changed, rows), RowsQuery("totals", END_US)), found)
    assert_is_oracle(tmp_path, Case(named(), rows, [RowsQuery(name, END_US) for name in EMIT]))
    shutil.rmtree(memory(tmp_path))


def second_version() -> Definitions:
    show = named().named["show"]
    assert isinstance(show, Stream)
    made = show.by("user").features("totals", version=2, n=ps.count(), least=ps.min("price"))
    return Definitions.of(made)


def test_killed_in_a_warm_start_it_goes_on(tmp_path: Path) -> None:
    rows = arrivals(250, seed=7)
    with opened(tmp_path) as log:
        fill(log, rows, END_US)
        assert retained(log, lake_of(tmp_path)) > 100
    rng = random.Random(11)
    command = [sys.executable, "-m", "tests.engine.live.worker", str(tmp_path), "--fork"]
    killed = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as zygote:
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        for delay_ms in [rng.uniform(30, 400) for _ in range(25)] + [-1]:
            zygote.stdin.write(f"{delay_ms}\n")
            zygote.stdin.flush()
            answer = zygote.stdout.readline().strip()
            killed += answer == "killed"
            if answer == "done" and delay_ms > 0:
                shutil.rmtree(tmp_path / "state")
        zygote.stdin.close()
    assert killed >= 5
    assert_is_oracle(tmp_path, Case(named(), rows, [RowsQuery(name, END_US) for name in EMIT]))
    shutil.rmtree(memory(tmp_path))


def test_rows_that_are_nowhere_end_the_start_before_anything_is_put_out(tmp_path: Path) -> None:
    rows = arrivals(60, seed=1)
    with opened(tmp_path) as log:
        fill(log, rows, END_US)
        retained(log, lake_of(tmp_path))
        lake = lake_of(tmp_path)
        table = log.topic("dev/default/main/show@1").lake_table()
        lake.erase(table, {"_offset": 7}, reason="lost by accident")
        job = started(tmp_path, log)
        with pytest.raises(StoreError, match="neither in the log nor in the lake"):
            job.drain()
        job.close()
        assert log.topic("dev/default/main/totals@1").end().offsets == (0,)
    shutil.rmtree(memory(tmp_path))
