"""What every benchmark prints last: one JSON object with our figure, the peers' and the ratio."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

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
    """A peer's run.

    Attributes:
        figure: in our unit; None where it did not run.
        rows_compared: with our answers. equal: whether all of them agree, None where nothing was compared.
        note: what else is to be said of it; of one that did not run, why.
    """

    version: str
    figure: float | None
    rows_compared: int = 0
    equal: bool | None = None
    note: str = ""

    def shown(self) -> dict[str, object]:
        """As the last line has it."""
        ran = {"version": self.version, "figure": self.figure, "rows_compared": self.rows_compared, "equal": self.equal}
        return {**ran} if self.figure is not None else {**ran, "why": self.note}


def last_line(
    bench: str,
    figure: float,
    unit: str,
    ours: Mapping[str, object],
    peers: Mapping[str, Peer],
    *,
    mode: str,
    more_is_better: bool = True,
) -> str:
    """Prints a line for each peer's note, then the last line, and returns that.

    Args:
        figure: ours, in `unit`; `ours` is what else was measured.
        mode: how durable what was measured is, and what else the figures rest on.

    The ratio is ours against the fastest peer; above 1 we are ahead.
    """
    for name, peer in peers.items():
        if peer.note:
            sys.stdout.write(f"{name} {peer.version}: {peer.note}\n")
    ran = [peer.figure for peer in peers.values() if peer.figure is not None]
    best = (max if more_is_better else min)(ran, default=None)
    ratio = None if best is None else round(figure / best if more_is_better else best / figure, 3)
    shown = {name: peer.shown() for name, peer in peers.items()}
    measured = {"figure": figure, "unit": unit, **ours}
    text = json.dumps({"bench": bench, "ours": measured, "peers": shown, "ratio": ratio, "mode": mode})
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return text
