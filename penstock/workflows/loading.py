"""State of workflows from the database: everything open at once, ended runs when somebody asks for them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from penstock.errors import PenstockError
from penstock.store.meta.rows import (
    ConsumptionRow,
    CoverageRow,
    DefinitionRow,
    FactRow,
    NodeRow,
    OutboxRow,
    PoolRow,
    RunRow,
    StreamRow,
    WorkflowRow,
)
from penstock.store.meta.rows_store import RowStore
from penstock.workflows.core.state import State

__all__ = ["load_runs", "load_state"]

_LOG: Final = logging.getLogger(__name__)
_OPEN: Final = ("waiting", "running", "failing", "stopping")
_CHUNK: Final = 500


def load_state(store: RowStore, state: State) -> None:
    """Fills an empty state with all that is open.

    A workflow whose specification this Penstock cannot read is left as it is on record, with its runs and streams: it
    keeps the others from nothing.

    Raises:
        StoreError: the database cannot be read.
    """
    workflows, streams = store.read(WorkflowRow), store.read(StreamRow)
    marks = ", ".join("?" * len(_OPEN))
    runs = store.read(RunRow, f"state IN ({marks})", _OPEN, tail="ORDER BY seq")
    needed = {(row.name, row.version) for row in workflows}
    needed |= {(stream.workflow, stream.version) for stream in streams} | {(run.workflow, run.version) for run in runs}
    readable = _load_specs(store, state, needed)
    for workflow in workflows:
        if (workflow.name, workflow.version) in readable:
            state.put(None, workflow)
    for pool in store.read(PoolRow):
        state.put(None, pool)
    _put_runs(store, state, runs)
    for stream in streams:
        if stream.workflow in state.workflows and (stream.workflow, stream.version) in readable:
            state.put(None, stream)
    for order in store.read(OutboxRow):
        state.put(None, order)
    for fact in store.read(FactRow):
        state.put(None, fact)
    for covered in store.read(CoverageRow):
        state.put(None, covered)
    for value in store.read(ConsumptionRow, "state = 'waiting'", tail="ORDER BY revision"):
        if value.workflow in state.workflows:
            state.put(None, value)
    # The end of a node tells its status after its interval, so that no interval has a larger seq than every fact.
    newest = store.query("SELECT MAX(seq) FROM runs")[0][0]
    state.seq = max(state.seq, newest or 0)


def load_runs(store: RowStore, state: State, runs: Iterable[str]) -> None:
    """Takes runs into the state that it does not hold, if there are such; they have ended.

    Raises:
        StoreError: the database cannot be read.
    """
    missing = [run for run in dict.fromkeys(runs) if run not in state.runs]
    for at in range(0, len(missing), _CHUNK):
        part = missing[at : at + _CHUNK]
        rows = store.read(RunRow, f"run IN ({', '.join('?' * len(part))})", part, tail="ORDER BY seq")
        _load_specs(store, state, {(row.workflow, row.version) for row in rows})
        _put_runs(store, state, rows)


def _load_specs(store: RowStore, state: State, wanted: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Takes specifications in; gives those that can be read."""
    readable = set()
    for name, version in sorted(set(wanted)):
        if (name, version) not in state.specs:
            for row in store.read(DefinitionRow, "name = ? AND version = ?", (f"workflow/{name}", version)):
                state.put(None, row)
        try:
            state.graph(name, version)
        except (ValueError, KeyError, PenstockError) as error:
            state.specs.pop((name, version), None)
            _LOG.error("version %s of workflow %s cannot be read, and is left as it is: %s", version, name, error)
        else:
            readable.add((name, version))
    return readable


def _put_runs(store: RowStore, state: State, rows: Sequence[RunRow]) -> None:
    runs = [row for row in rows if row.workflow in state.workflows and (row.workflow, row.version) in state.graphs]
    for at in range(0, len(runs), _CHUNK):
        part = [row.run for row in runs[at : at + _CHUNK]]
        for row in runs[at : at + _CHUNK]:
            state.put(None, row)
        for node in store.read(NodeRow, f"run IN ({', '.join('?' * len(part))})", part):
            state.put(None, node)
