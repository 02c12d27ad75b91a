"""Labels as rows arrive: an observation waits for its outcomes, or is corrected by them. `time.md`, Labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.define.sample import Samples
from penstock.define.stream import Stream
from penstock.testing.model.identities import Identities
from penstock.testing.model.progress import Frontier
from penstock.testing.model.state import Kept
from penstock.testing.oracle.labels import Sample
from penstock.testing.oracle.relations import GONE, Match, outcomes_of
from penstock.testing.oracle.rows import Row
from penstock.testing.oracle.sql import evaluate

__all__ = ["LabelModel"]


@dataclass(eq=False)
class _Open:
    """An observation that still waits, or whose sample may still change.

    Attributes:
        versions: in order of arrival.
        last: its last revision's row; None before the first.
        revision: the number of the next.
    """

    versions: list[Row] = field(default_factory=list)
    last: Row | None = None
    revision: int = 0


class LabelModel:
    """The state of a sample set with one label folded by `any`.

    Args:
        streams: where observations and outcomes come from.
        features: an observation's features; they are read as of its own instant, so they never change.
    """

    def __init__(
        self, samples: Samples, streams: tuple[Stream, Stream], features: Callable[[Row], dict[str, Any]]
    ) -> None:
        ((self.name, self.label),) = samples.labels
        self.samples, self.features = samples, features
        self.identities = (Identities(streams[0]), Identities(streams[1]))
        self.frontiers = (Frontier(), Frontier())
        self.outcomes: list[Kept] = []
        self._newest: dict[int, Kept] = {}
        self._open: dict[int, _Open] = {}
        self._closed: set[int] = set()
        self._instants: set[int] = set()

    def observe(self, row: Row) -> None:
        """Takes an observation or its correction."""
        event = self.identities[0].event(row)
        if event not in self._closed:
            self._open.setdefault(event, _Open()).versions.append(row)
            self._instants |= {row.k, self._made_us(row)}

    def outcome(self, row: Row) -> None:
        """Takes an outcome or its correction."""
        event, kept = self.identities[1].event(row), Kept(row)
        if event in self._newest:
            self._newest[event].until_us = row.k
        self._newest[event] = kept
        if row.op not in GONE:
            self.outcomes.append(kept)
        self._instants.add(row.k)

    def release(self) -> Iterator[Sample]:
        """The samples that every input's frontier has reached, in order of arrival.

        Under `wait` revision 0 of each observation that closes; under `correct` what each instant changes.
        """
        reached = min(frontier.at_us for frontier in self.frontiers)
        if self.samples.policy == "wait":
            yield from self._closing(reached)
            return
        for a in sorted(a for a in self._instants if a <= reached):
            self._instants.discard(a)
            for found in self._open.values():
                yield from self._revise(found, a)

    def _made_us(self, row: Row) -> int:
        """When a sample of a version can first be made: its features are of its own instant, which may be to come."""
        return row.k if row.op in GONE else max(row.k, row.t)

    def _closing(self, reached: int) -> Iterator[Sample]:
        due = []
        for event, found in self._open.items():
            for row, after in zip(found.versions, [*found.versions[1:], None], strict=True):
                close = max(row.k, row.t + self.label.within_us + self.label.grace_us)
                if row.op not in GONE and close <= reached and (after is None or after.k > close):
                    due.append((close, row.partition, row.offset, event, row))
                    break
        for close, _, _, event, row in sorted(due, key=lambda entry: entry[:3]):
            del self._open[event]
            self._closed.add(event)
            made = self._sample(row, close)
            if made is not None:
                yield Sample(replace(made, op="insert"), 0)

    def _value(self, row: Row, a: int) -> Any:
        label = self.label
        a = min(a, row.t + label.within_us + label.grace_us)
        known = [kept.row for kept in self.outcomes if kept.row.k <= a < kept.until_us]
        outcomes = outcomes_of(row, known, Match(label.on, label.within_us, label.grace_us))
        if label.value is None:
            return 1 if outcomes else None
        values = [evaluate(label.value, outcome.values) for outcome in outcomes]
        values = [value for value in values if value is not None]
        return int(any(values)) if values else None

    def _sample(self, row: Row, a: int) -> Row | None:
        if row.op in GONE:
            return None
        value = self._value(row, a)
        if value is None and self.label.absent == "drop":
            return None
        absent = None if self.label.absent == "null" else self.label.absent
        values = {**self.features(row), self.name: absent if value is None else value}
        return replace(row, k=a, values=values)

    def _revise(self, found: _Open, a: int) -> Iterator[Sample]:
        """The next revision, if anything changed at `a`."""
        known = [row for row in found.versions if row.k <= a]
        row = self._sample(known[-1], a) if known and self._made_us(known[-1]) <= a else None
        last = found.last
        if row is not None:
            row = replace(row, op="upsert" if found.revision else "insert")
        elif last is not None and last.op != "delete":
            row = replace(last, k=a, op="delete")
        else:
            return
        shown = (row.t, row.op == "delete", row.values)
        if last is None or shown != (last.t, last.op == "delete", last.values):
            yield Sample(row, found.revision)
            found.last, found.revision = row, found.revision + 1
