"""The recovery benchmark runs: killed three times, no row is lost, doubled or wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.recovery import compare, expected
from bench.workload import Workload, write
from tests.bench.lines import last_line


def test_a_job_killed_three_times() -> None:
    found = last_line("recovery", "--n", "60000", "--peers", "", "--state-mb", "0", "--kills", "0")
    ours = found["ours"]
    assert len(ours["restart_s"]) == 3
    assert (ours["lost"], ours["doubled"], ours["wrong"]) == (0, 0, 0)


def test_lost_doubled_and_wrong_rows_are_counted(tmp_path: Path) -> None:
    events, _ = write(tmp_path, Workload(2_000, 1, "int", users=50))
    rows = expected(events)
    assert compare(rows, rows) == (0, 0, 0)
    assert compare(rows, rows[3:]) == (3, 0, 0)
    assert compare(rows, np.concatenate([rows, rows[-2:]])) == (0, 2, 0)
    wrong = rows.copy()
    wrong[7, 1] += 1
    assert compare(rows, wrong) == (0, 0, 1)
