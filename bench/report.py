"""What every benchmark prints last: one JSON object with our figure, the peers' and the ratio."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

__all__ = ["Cost", "Meter", "Peer", "last_line"]


@dataclass(frozen=True)
class Cost:
    """What a piece of work took: CPU-seconds of all threads, seconds on the wall, peak resident bytes."""

    cpu_s: float
    wall_s: float
    peak_bytes: int


class Meter:
    """Measures this process from its making to `cost()`; the peak is of the process's whole life."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = _cpu_s()

    def cost(self) -> Cost:
        """The cost until now."""
        return Cost(_cpu_s() - self._cpu, time.perf_counter() - self._wall, peak_bytes())


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_bytes() -> int:
    """The greatest resident size this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class Peer:
    """A peer's run: its version, its figure in our unit, how many rows were compared and how many of them agree."""

    version: str
    figure: float
    rows_compared: int = 0
    equal: bool | None = None
    note: str = ""


def last_line(
    bench: str,
    ours: Mapping[str, object],
    peers: Mapping[str, Peer],
    figure: float,
    mode: str,
    *,
    more_is_better: bool = True,
) -> str:
    """Prints the last line and returns it. The ratio is ours against the fastest peer; above 1 we are ahead."""
    best = (max if more_is_better else min)((p.figure for p in peers.values()), default=None)
    ratio = None if not best or not figure else round(figure / best if more_is_better else best / figure, 3)
    text = json.dumps(
        {
            "bench": bench,
            "ours": dict(ours),
            "peers": {k: asdict(v) for k, v in peers.items()},
            "ratio": ratio,
            "mode": mode,
        }
    )
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return text
