from __future__ import annotations

from pathlib import Path

import pytest

from penstock.clock import ReplayClock
from penstock.doors.deployment import Deployment
from penstock.doors.replay_check import replay_check
from penstock.errors import StoreError
from penstock.store.lake import LakeSink
from penstock.store.log import Retention
from tests.doors.test_replay import DEFINITIONS, project

GROUP = """
counts = a.by("n").over("1h").features("counts", n=ps.count(), newest=ps.last("t"))
"""


def test_history_and_a_new_job_read_from_the_lake_what_the_log_has_deleted(tmp_path: Path) -> None:
    root = project(tmp_path, 400)
    (root / "definitions.py").write_text(DEFINITIONS + GROUP)
    clock = ReplayClock()
    with Deployment(root, clock) as d:
        for number, _ in enumerate(d.replay(["a", "b"], clock=clock, step_rows=100).steps()):
            if number == 3:
                LakeSink(d.log, d.topic("a"), d.lake).drain()
        gone = d.topic("a").trim(Retention(max_bytes=0))
        assert gone and d.topic("a").start().offsets[0] > 50
        job = d.live_job(["counts"])
        job.drain()
        assert (job.metrics.lake_rows, job.metrics.rows_in) == (d.topic("a").start().offsets[0], 400)
        job.close()
        found = replay_check(d, "counts")
        assert found.ok and found.rows == 400
    (root / ".penstock" / "lake").rename(root / ".penstock" / "elsewhere")
    (root / "definitions.py").write_text(DEFINITIONS + GROUP.replace("1h", "2h"))
    with Deployment(root, clock) as d:
        job = d.live_job()
        with pytest.raises(StoreError, match="in the lake"):
            job.drain()
        job.close()
