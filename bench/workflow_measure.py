"""What the workflow benchmark and its peers have in common: instants that task bodies told, and what follows from them.

It imports nothing outside the standard library, for it stands in the peers' environments.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["BODIES", "Body", "Rounds", "edges_ms", "quantiles", "rate"]

Body = tuple[int, int]
"""When a body began and ended, in nanoseconds of the machine's monotonic clock, which all processes share."""

BODIES = "bodies"
"""File of a peer's folder to which bodies append their number, begin and end."""


def quantiles(values: list[float]) -> dict[str, float]:
    """The median and the 99th percentile."""
    ordered = sorted(values)
    return {"p50": statistics.median(ordered), "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]}


def rate(bodies: Iterable[Body], asked_ns: int) -> float:
    """Tasks a second, from asking to the end of the last body."""
    ends = [end for _, end in bodies]
    return len(ends) / ((max(ends) - asked_ns) / 1e9)


def edges_ms(bodies: Iterable[Body]) -> list[float]:
    """From the end of a body to the beginning of the next, along a chain."""
    return [(after[0] - before[1]) / 1e6 for before, after in itertools.pairwise(sorted(bodies))]


@dataclass
class Rounds:
    """What a peer's program saw.

    Attributes:
        rounds: for each, when it was asked for, when all of it was known to have ended, and its bodies.
    """

    version: str
    rounds: list[tuple[int, int, list[Body]]] = field(default_factory=list)

    def add(self, asked_ns: int, ended_ns: int, bodies: Iterable[Body]) -> None:
        """A round has ended."""
        self.rounds.append((asked_ns, ended_ns, [(begin, end) for begin, end in bodies]))

    def rates(self) -> list[float]:
        """Tasks a second of each round, until all are kept: bodies alone may run before anything of them is."""
        return [len(bodies) / ((ended - asked) / 1e9) for asked, ended, bodies in self.rounds]

    def edges_ms(self) -> list[float]:
        """All edges of all rounds, which are chains."""
        return [ms for _, _, bodies in self.rounds for ms in edges_ms(bodies)]

    def starts_ms(self) -> list[float]:
        """From asking to the first body, per round."""
        return [(min(begin for begin, _ in bodies) - asked) / 1e6 for asked, _, bodies in self.rounds]

    def written(self) -> str:
        """As one line."""
        return json.dumps({"version": self.version, "rounds": self.rounds})

    @classmethod
    def read(cls, line: str) -> Rounds:
        """From one line."""
        found = json.loads(line)
        rounds = cls(found["version"])
        for asked, ended, bodies in found["rounds"]:
            rounds.add(asked, ended, bodies)
        return rounds
