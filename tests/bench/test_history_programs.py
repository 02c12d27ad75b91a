"""The benchmarks of history run, and find the peers' answers equal to ours."""

from __future__ import annotations

from tests.bench.lines import last_line


def test_history_beside_its_peers() -> None:
    found = last_line("history", "--n", "20000", "--m", "2000", "--keys", "string")
    assert found["ours"]["columns"] == 32
    assert set(found["peers"]) == {"polars", "duckdb"}
    for peer in found["peers"].values():
        assert peer["rows_compared"] > 1_900
        assert peer["equal"]


def test_a_profile_table_under_a_limit() -> None:
    found = last_line("profiles", "--n", "400000", "--m", "2000", "--limit-memory-mib", "64")
    assert found["peers"]["duckdb"]["equal"]


def test_the_kernel_beside_code_for_this_workload_alone() -> None:
    assert last_line("kernel", "20000", "2000")["peers"]["hardwired"]["equal"]
