"""The live benchmark runs, with a peer whose rows equal ours, and on corrected rows."""

from __future__ import annotations

from tests.bench.lines import last_line

QUICK = ("--seconds", "0.5", "--burst-s", "0.5")


def test_live_beside_a_peer() -> None:
    found = last_line("live", *QUICK, "--n", "12000", "--keys", "string", "--peers", "polars")
    polars = found["peers"]["polars"]
    assert polars["rows_compared"] > 11_900
    assert polars["equal"]
    assert found["ratio"] > 0
    assert found["ours"]["burst_10x"]["rows"] > 0


def test_live_with_ids_and_corrections() -> None:
    found = last_line("live", *QUICK, "--n", "12000", "--ids")
    assert found["ours"]["row_out_per_event"]["events"] == 12_000
    assert found["peers"] == {}
