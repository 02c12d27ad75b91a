"""Samples: features as of an observation, with labels from its outcomes: `time.md`, Progress, Labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from penstock.define.aggregate import Agg
from penstock.define.sample import Label, Samples
from penstock.testing.oracle.answers import Oracle, plain_value
from penstock.testing.oracle.folds import fold
from penstock.testing.oracle.relations import GONE, Match, closings, outcomes_of
from penstock.testing.oracle.rows import Log, Row, visible
from penstock.testing.oracle.sql import evaluate

__all__ = ["Sample", "samples"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One revision of one observation's sample: `row` has the observation's t and id, and the `k` it was made at."""

    row: Row
    revision: int


def samples(oracle: Oracle, definition: Samples) -> list[Sample]:
    """Every revision of every sample, in the order of arrival.

    Under `wait` an observation makes revision 0 when all its labels close, or none. Under `correct` it makes
    revision 0 as soon as it is known, and one more at each instant that changes its labels or itself.
    """
    observations = oracle.log(definition.observations)
    made = _waited(oracle, definition, observations)
    if definition.policy == "correct":
        made = _corrected(oracle, definition, observations)
    return sorted(made, key=lambda sample: (sample.row.place, sample.revision))


def _waited(oracle: Oracle, definition: Samples, observations: Log) -> Iterator[Sample]:
    def close(row: Row) -> int:
        return max(row.k, _asked_at(oracle, definition, row), *(_deadline(row, x) for _, x in definition.labels))

    closed = closings(observations, close)
    events = set()
    for row, event in zip(closed.rows, closed.events, strict=True):
        if event not in events and row.op not in GONE:
            events.add(event)
            values = _values(oracle, definition, row, row.k)
            if values is not None:
                yield Sample(replace(row, values=values, op="insert"), 0)


def _corrected(oracle: Oracle, definition: Samples, observations: Log) -> Iterator[Sample]:
    outcome_ks = {row.k for _, label in definition.labels for row in oracle.log(label.outcome).rows}
    for event in sorted(set(observations.events)):
        own = [row for row, other in zip(observations.rows, observations.events, strict=True) if other == event]
        alone = Log(observations.name, tuple(own), (event,) * len(own))
        starts = [_made_at(oracle, definition, row) for row in own]
        last: Row | None = None
        revision = 0
        for a in sorted({*starts, *(row.k for row in own), *(k for k in outcome_ks if k > own[0].k)}):
            found = next(iter(visible(alone, a)), None)
            values = None
            if found is not None and _made_at(oracle, definition, found) <= a:
                values = _values(oracle, definition, found, a)
            if found is not None and values is not None:
                row = replace(found, k=a, values=values, op="upsert" if revision else "insert")
            elif last is not None and last.op != "delete":
                row = replace(last, k=a, op="delete")
            else:
                continue
            if last is None or (row.t, row.op == "delete", row.values) != (last.t, last.op == "delete", last.values):
                yield Sample(row, revision)
                last, revision = row, revision + 1


def _asked_at(oracle: Oracle, definition: Samples, row: Row) -> int:
    if definition.at_expression is None:
        return row.t
    q = evaluate(definition.at_expression, row.values, oracle.functions)
    return row.t if q is None else int(q)


def _made_at(oracle: Oracle, definition: Samples, row: Row) -> int:
    return row.k if row.op in GONE else max(row.k, _asked_at(oracle, definition, row))


def _deadline(row: Row, label: Label) -> int:
    return row.t + label.within_us + label.grace_us


def _values(oracle: Oracle, definition: Samples, row: Row, a: int) -> dict[str, Any] | None:
    """Features as served and labels as known at `a`; None where an absent outcome drops the sample."""
    labels = {}
    for name, label in definition.labels:
        found = _label(oracle, label, row, a)
        if found is None and label.absent == "drop":
            return None
        labels[name] = found if found is not None else None if label.absent == "null" else label.absent
    q = _asked_at(oracle, definition, row)
    features = oracle.view(definition.features, row.values, q, q, row if q == row.t else None)
    return {**{name: plain_value(cell) for name, cell in features.items()}, **labels}


def _label(oracle: Oracle, label: Label, row: Row, a: int) -> Any:
    known = visible(oracle.log(label.outcome), min(a, _deadline(row, label)))
    outcomes = outcomes_of(row, known, Match(label.on, label.within_us, label.grace_us))
    if label.fold != "any":
        return fold(Agg(label.fold, (label.value or "1",)), outcomes, row.t, oracle.functions).value
    if label.value is None:
        return 1 if outcomes else None
    found = [evaluate(label.value, outcome.values, oracle.functions) for outcome in outcomes]
    found = [value for value in found if value is not None]
    return int(any(found)) if found else None
