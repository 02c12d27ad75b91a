"""What a predicate sees: facts of the deployment, and of the nodes of its own run."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.store.meta.rows import FactRow, NodeRow
from penstock.workflows.core.moves import ENDED_NODE, OUT
from penstock.workflows.core.state import State
from penstock.workflows.spec.predicate import Lookup, Scope

__all__ = ["SWITCHED_OFF", "lookup_in_run", "lookup_outside", "scope_of", "status_of"]

SWITCHED_OFF = "off"


def status_of(row: NodeRow) -> str:
    """The status that a predicate sees: `waiting`, `ready`, `running`, `done`, `failed`, `killed` or `skipped`."""
    if row.origin == SWITCHED_OFF:
        return "done"
    if row.state in ENDED_NODE or row.state == "ready":
        return row.state
    return "running" if row.state in OUT else "waiting"


def scope_of(state: State, run: str, now_us: int) -> Scope:
    """Interval, parameters and present of a run."""
    row = state.runs[run]
    return Scope(now_us, row.interval_start_us, row.interval_end_us, state.parameters[run])


def lookup_outside(state: State) -> Lookup:
    """For predicates of streams and triggers, which belong to no run."""

    def lookup(kind: str, subject: str) -> Any:
        if kind == "interval":
            coverage = state.coverage.get(subject)
            return None if coverage is None else coverage.ranges()
        return state.values.get((kind, subject))

    return lookup


def lookup_in_run(state: State, run: str, *, forgive: bool = False) -> Lookup:
    """For edges of a run's nodes: nodes of the same run are seen as they are in this run.

    Args:
        state: the state.
        run: the run.
        forgive: see a failure that its node says to go on after as done.
    """
    graph, nodes, created_us = state.plan(run), state.nodes[run], state.runs[run].created_us
    outside = lookup_outside(state)

    def lookup(kind: str, subject: str) -> Any:
        name = graph.local.get(subject)
        if name is not None and kind != "interval":
            row = nodes.get(name)
            if row is None:
                return None
            if kind == "status":
                found = status_of(row)
                forgiven = forgive and found == "failed" and graph.nodes[name].spec.on_failure == "continue"
                return "done" if forgiven else found
            return msgspec.json.decode(row.facts).get(kind) if row.state in ENDED_NODE else None
        if kind in ("signal", "approved"):
            return _given(state.facts.get((subject, kind, run))) or _given(
                state.facts.get((subject, kind, "")), created_us
            )
        return outside(kind, subject)

    return lookup


def _given(row: FactRow | None, since_us: int = 0) -> Any:
    """What a signal says, if it was given after the run was made."""
    return None if row is None or row.at_us < since_us else msgspec.json.decode(row.value)
