"""The ingest benchmark runs: every row that was acknowledged is in the log, and in the peer's store."""

from __future__ import annotations

from tests.bench.lines import last_line


def test_ingest_beside_a_peer() -> None:
    found = last_line("ingest", "--seconds", "0.4", "--connections", "2")
    assert found["ours"]["with_ids"]["rows"] > 0
    (peer,) = found["peers"].values()
    assert peer["equal"]
    assert peer["rows_compared"] > 0
