"""Joins as rows arrive: observations wait, outcomes are buffered, the known frontier releases. `time.md`, Chains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from penstock.define.relation import Joined
from penstock.define.stream import Stream
from penstock.testing.model.identities import Identities
from penstock.testing.model.progress import Frontier
from penstock.testing.model.state import NEVER_US, Kept
from penstock.testing.oracle.folds import fold
from penstock.testing.oracle.relations import Match, outcomes_of
from penstock.testing.oracle.rows import Row
from penstock.testing.oracle.sql import Functions

__all__ = ["JoinModel"]

GONE = ("delete", "drop")


@dataclass(eq=False)
class _Pending:
    """A version of an observation: its row is made if it is due before `until_us`, when the next version is known."""

    event: int
    row: Row
    until_us: int = NEVER_US


class JoinModel:
    """The state of a join.

    Args:
        streams: where observations and outcomes come from.
    """

    def __init__(self, join: Joined, streams: tuple[Stream, Stream], functions: Functions) -> None:
        self.join, self.functions = join, functions
        self.identities = (Identities(streams[0]), Identities(streams[1]))
        self.match = Match(join.on, join.within_us, join.grace_us)
        self.frontiers = (Frontier(), Frontier())
        self.outcomes: list[Kept] = []
        self._newest: dict[int, Kept] = {}
        self._pending: list[_Pending] = []
        self._made: set[int] = set()

    def observe(self, row: Row) -> None:
        """Takes an observation, or a correction of one."""
        event = self.identities[0].event(row)
        for former in self._pending:
            if former.event == event:
                former.until_us = min(former.until_us, row.k)
        self._pending.append(_Pending(event, row))

    def outcome(self, row: Row) -> None:
        """Takes an outcome, or a correction of one."""
        event, kept = self.identities[1].event(row), Kept(row)
        if event in self._newest:
            self._newest[event].until_us = row.k
        self._newest[event] = kept
        if row.op not in GONE:
            self.outcomes.append(kept)

    def _due(self, row: Row, reached: int) -> int | None:
        """When a row is due, as far as is known; None if it cannot be said yet."""
        if row.op in GONE:
            return row.k
        if self.join.emit == "final":
            return max(row.k, row.t + self.match.within_us + self.match.grace_us)
        ks = sorted({row.k, *(kept.row.k for kept in self.outcomes if row.k < kept.row.k <= reached)})
        return next((a for a in ks if a <= reached and self._found(row, a)), None)

    def _found(self, row: Row, a: int) -> list[Row]:
        a = min(a, row.t + self.match.within_us + self.match.grace_us)
        return outcomes_of(row, [kept.row for kept in self.outcomes if kept.row.k <= a < kept.until_us], self.match)

    def release(self) -> Iterator[Row]:
        """The rows that every input's frontier has reached, in order of arrival; a delete only of what was made."""
        reached = min(frontier.at_us for frontier in self.frontiers)
        due, waiting = [], []
        for pending in self._pending:
            at = self._due(pending.row, reached)
            if at is not None and at <= reached and at < pending.until_us:
                due.append((replace(pending.row, k=at), pending.event))
            elif pending.until_us > reached:
                waiting.append(pending)
        self._pending = waiting
        for row, event in sorted(due, key=lambda entry: entry[0].place):
            if row.op in GONE and event in self._made:
                self._made.discard(event)
                yield row
            elif row.op not in GONE:
                self._made.add(event)
                outcomes = self._found(row, row.k)
                folded = {name: fold(agg, outcomes, 0, self.functions).value for name, agg in self.join.reducers}
                yield replace(row, values={**row.values, **folded})
