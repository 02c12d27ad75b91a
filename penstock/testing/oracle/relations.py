"""The rows of derived relations, as logs: `time.md`, Chains and Labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from penstock.define.aggregate import Agg
from penstock.define.relation import Computed, Enriched, Filtered, Group, Joined, Relation
from penstock.testing.oracle.folds import fold
from penstock.testing.oracle.rows import Knowledge, Log, Own, Row, visible
from penstock.testing.oracle.sql import Functions, evaluate, is_true

__all__ = [
    "GONE",
    "Match",
    "base_name",
    "closings",
    "computed",
    "filtered",
    "joined",
    "joined_now",
    "mapped",
    "outcomes_of",
    "sources",
]


GONE = ("delete", "drop")


class Match(NamedTuple):
    """How outcomes belong to observations: on equal columns, within `within_us`, known by `grace_us` after it."""

    on: tuple[str, ...]
    within_us: int
    grace_us: int


def _gone(row: Row) -> bool:
    return row.op in GONE


def filtered(relation: Filtered, log: Log, functions: Functions) -> Log:
    """Rows that fail the condition are dropped, and hide what they correct."""
    rows = [
        row if _gone(row) or is_true(relation.condition, row.values, functions) else replace(row, op="drop")
        for row in log.rows
    ]
    return replace(log, rows=tuple(rows))


def computed(relation: Computed, log: Log, functions: Functions) -> Log:
    """Each row with further columns, each computed from those before it."""
    rows = []
    for row in log.rows:
        values = dict(row.values)
        if not _gone(row):
            for name, text in relation.columns:
                values[name] = evaluate(text, values, functions)
        rows.append(replace(row, values=values))
    return replace(log, rows=tuple(rows))


def mapped(log: Log, more: Callable[[Row, Own], dict[str, Any]]) -> Log:
    """Each row with what `more` reads for it at its own position."""
    rows = [
        row if _gone(row) else replace(row, values={**row.values, **more(row, Own(log.name, row.place))})
        for row in log.rows
    ]
    return replace(log, rows=tuple(rows))


def outcomes_of(observation: Row, outcomes: Sequence[Row], match: Match) -> list[Row]:
    """The outcomes that belong to an observation, in order: `t_obs <= t_out < t_obs + L`, equal on non-null keys."""
    key = [observation.values[column] for column in match.on]
    found = [
        row
        for row in outcomes
        if observation.t <= row.t < observation.t + match.within_us
        and None not in key
        and [row.values[column] for column in match.on] == key
    ]
    return sorted(found, key=lambda row: row.order)


def closings(observations: Log, close_us: Callable[[Row], int | None]) -> Log:
    """The log of rows made from observations at `close_us`, each keeping its t, id and origin.

    A version that is over when its row would be made makes none; a row stands until the next one of its event.
    """
    made: list[tuple[Row, int]] = []
    for number, (row, event) in enumerate(zip(observations.rows, observations.events, strict=True)):
        at = row.k if _gone(row) else close_us(row)
        later = zip(observations.rows[number + 1 :], observations.events[number + 1 :], strict=True)
        if at is not None and not any(event == other and after.k <= at for after, other in later):
            made.append((replace(row, k=at), event))
    made.sort(key=lambda found: found[0].place)
    return Log(observations.name, tuple(row for row, _ in made), tuple(event for _, event in made))


def joined(relation: Joined, observations: Log, outcomes: Log, functions: Functions) -> Log:
    """Observations with folded outcomes, known when they close, or at each one's first match."""
    match = Match(relation.on, relation.within_us, relation.grace_us)

    def found(observation: Row, a: int) -> list[Row]:
        return outcomes_of(observation, visible(outcomes, min(a, _deadline(observation, match))), match)

    def closing(observation: Row) -> int | None:
        if relation.emit == "final":
            return max(observation.k, _deadline(observation, match))
        later = sorted({observation.k, *(row.k for row in outcomes.rows if row.k > observation.k)})
        return next((a for a in later if found(observation, a)), None)

    log = closings(observations, closing)
    rows = []
    for row in log.rows:
        folded = {} if _gone(row) else _reduced(relation.reducers, found(row, row.k), row, functions)
        rows.append(replace(row, values={**row.values, **folded}))
    origin = observations.origin or observations.name
    return replace(log, name=relation.name, rows=tuple(rows), origin=origin)


def joined_now(relation: Joined, observation: Row, outcomes: Log, a: Knowledge, functions: Functions) -> Row | None:
    """The row of a join that an asking row makes with what is known at `a`; None where it needs a match and has none.

    It is in no log.
    """
    match = Match(relation.on, relation.within_us, relation.grace_us)
    known = visible(outcomes, a, by=_deadline(observation, match))
    found = outcomes_of(observation, known, match)
    if relation.emit == "match" and not found:
        return None
    folded = _reduced(relation.reducers, found, observation, functions)
    return replace(observation, values={**observation.values, **folded}, offset=2**62)


def _deadline(observation: Row, match: Match) -> int:
    return observation.t + match.within_us + match.grace_us


def _reduced(
    reducers: Sequence[tuple[str, Agg]], outcomes: list[Row], row: Row, functions: Functions
) -> dict[str, Any]:
    return {name: fold(agg, outcomes, row.t, functions).value for name, agg in reducers}


def base_name(relation: Relation) -> str:
    """The log whose positions a relation's rows inherit."""
    while not isinstance(relation, Joined) and hasattr(relation, "input"):
        relation = relation.input
    return relation.name


def sources(relation: Relation) -> dict[str, Relation]:
    """The streams and tables that a relation rests on, those behind its reads included, by name."""
    match relation:
        case Joined():
            return {**sources(relation.observation), **sources(relation.outcome)}
        case Enriched():
            read = relation.lookup.source
            return {**sources(relation.input), **sources(read if isinstance(read, Group) else read.relation)}
        case Filtered() | Computed() | Group():
            return sources(relation.input)
    return {relation.name: relation}
