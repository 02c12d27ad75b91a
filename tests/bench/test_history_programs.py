"""The benchmarks of history run, and find the peers' answers equal to ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def _last_line(*command: str) -> Any:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_history_beside_its_peers() -> None:
    found = _last_line("bench.history", "--n", "20000", "--m", "2000", "--keys", "string")
    assert found["bench"] == "history"
    assert found["ours"]["columns"] == 32
    assert set(found["peers"]) == {"polars", "duckdb"}
    for peer in found["peers"].values():
        assert peer["rows_compared"] > 1_900
        assert peer["equal"], peer["note"]


def test_a_profile_table_under_a_limit() -> None:
    found = _last_line("bench.profiles", "--n", "400000", "--m", "2000", "--limit-memory-mib", "64")
    assert found["peers"]["duckdb"]["equal"]
