"""How far a log has come: the known frontier and the watermark. `time.md`, Progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Frontier", "Watermark"]

NEVER_US = -(2**63)


@dataclass
class Frontier:
    """The last instant at or before which no new `k` can appear, of each partition and of all."""

    partitions: dict[int, int] = field(default_factory=dict)

    def open(self, partitions: Iterable[int]) -> None:
        """Names the partitions, so that one that is silent is waited for."""
        for partition in partitions:
            self.partitions.setdefault(partition, NEVER_US)

    def read(self, partition: int, k: int) -> None:
        """A commit was read. `k` rises from commit to commit, so nothing at or before it can appear."""
        self.partitions[partition] = max(self.partitions.get(partition, NEVER_US), k)

    def read_to_end(self, partition: int, clock_us: int) -> None:
        """The partition was read to its end when the log's clock stood there."""
        self.read(partition, clock_us)

    @property
    def at_us(self) -> int:
        """The frontier of all: the slowest partition's."""
        return min(self.partitions.values(), default=NEVER_US)


@dataclass
class Watermark:
    """No more rows with `t < w` are expected.

    Attributes:
        late_us: declared out-of-orderness.
        idle_us: a partition silent for that long on the deployment's clock steps aside.
    """

    late_us: int
    idle_us: int
    _greatest_t: dict[int, int] = field(default_factory=dict)
    _heard_at: dict[int, int] = field(default_factory=dict)
    _at_us: int = NEVER_US

    def row(self, partition: int, t: int, clock_us: int) -> None:
        """A row came; a new partition joins at the watermark of the topic."""
        floor = self._at_us + self.late_us if self._at_us != NEVER_US else t
        self._greatest_t[partition] = max(self._greatest_t.get(partition, floor), t)
        self._heard_at[partition] = clock_us

    def at(self, clock_us: int) -> int:
        """The watermark: the least of the partitions that are not idle; where all are it holds; it never goes back."""
        awake = [t for p, t in self._greatest_t.items() if clock_us - self._heard_at[p] < self.idle_us]
        if awake:
            self._at_us = max(self._at_us, min(awake) - self.late_us)
        return self._at_us
