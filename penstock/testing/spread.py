"""A user's own aggregate for tests."""

from __future__ import annotations

from penstock.define.aggregate import Aggregate

__all__ = ["Spread"]


class Spread(Aggregate):
    """Greatest less least."""

    def lift(self, x: int) -> list[int]:
        """Both ends at one value."""
        return [x, x]

    def merge(self, p: list[int], q: list[int]) -> list[int]:
        """The outer ends."""
        return [min(p[0], q[0]), max(p[1], q[1])]

    def finalize(self, s: list[int]) -> int:
        """Their distance."""
        return s[1] - s[0]
