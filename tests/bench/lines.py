"""What every benchmark ends with: one line, of the shape that readers of many runs rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def last_line(program: str, *flags: str) -> Any:
    """Runs a benchmark and returns its last line, whose shape and ratio are checked."""
    command = [sys.executable, "-m", f"bench.{program}", *flags]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == ["bench", "ours", "peers", "ratio", "mode"]
    assert found["bench"] == program
    assert isinstance(found["mode"], str) and found["mode"]
    assert found["ours"]["figure"] > 0 and found["ours"]["unit"]
    figures = [check_peer(peer) for peer in found["peers"].values()]
    check_ratio(found["ratio"], found["ours"]["figure"], [figure for figure in figures if figure is not None])
    return found


def check_peer(peer: Any) -> float | None:
    """A peer says what it answered, or why it did not; its figure."""
    names = ["version", "figure", "rows_compared", "equal"]
    assert list(peer) == (names if peer["figure"] is not None else [*names, "why"])
    assert isinstance(peer["version"], str) and peer["version"]
    assert isinstance(peer["rows_compared"], int)
    figure: float | None = peer["figure"]
    return figure


def check_ratio(ratio: float | None, ours: float, peers: list[float]) -> None:
    """Against the fastest peer, whichever way is better; above 1 ours is ahead."""
    if not peers:
        assert ratio is None
        return
    more, less = ours / max(peers), min(peers) / ours
    assert ratio is not None
    assert min(abs(ratio - more), abs(ratio - less)) < 0.001 + 0.002 * ratio
