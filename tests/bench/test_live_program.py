"""The live benchmark runs, with a peer whose rows equal ours, and on corrected rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def _last_line(*flags: str) -> Any:
    command = [sys.executable, "-m", "bench.live", "--seconds", "0.5", "--burst-s", "0.5", *flags]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_live_beside_a_peer() -> None:
    found = _last_line("--n", "12000", "--keys", "string", "--peers", "polars")
    polars = found["peers"]["polars"]
    assert polars["rows_compared"] > 11_900
    assert polars["equal"], polars["note"]
    assert found["ratio"] > 0
    assert found["ours"]["burst_10x"]["rows"] > 0


def test_live_with_ids_and_corrections() -> None:
    found = _last_line("--n", "12000", "--ids")
    assert found["ours"]["row_out_per_event"]["events"] == 12_000
    assert found["peers"] == {}
