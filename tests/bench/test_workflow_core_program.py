"""The scheduler's own benchmark runs: every task of every shape ends, and a history is read."""

from __future__ import annotations

from tests.bench.lines import last_line


def test_a_shape_runs_to_its_end() -> None:
    found = last_line("workflow_core", "many")
    assert found["ours"]["tasks"] == 1_000 and found["ours"]["tasks_per_s"] > 0


def test_a_history_is_filled_and_read() -> None:
    found = last_line("workflow_core", "history", "--node-runs", "1000")
    assert found["ours"]["restart_reads_ms"] > 0 and found["ours"]["list_ms"] > 0
