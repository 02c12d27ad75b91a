"""Which moves are legal, as a table. Anything else is a fault of the scheduler itself and stops the pass unwritten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from penstock.errors import WorkflowError
from penstock.store.meta.rows import ConsumptionRow, NodeRow, Row, RunRow, WorkflowRow

__all__ = ["ENDED_NODE", "ENDED_RUN", "LEGAL", "OUT", "check_move"]

ENDED_RUN: Final = frozenset({"done", "failed", "killed", "superseded"})
ENDED_NODE: Final = frozenset({"done", "failed", "killed", "skipped"})
OUT: Final = frozenset({"starting", "running", "stopping"})
"""States of a node whose task may be at a worker."""

LEGAL: Final[Mapping[type[Row], Mapping[str, frozenset[str]]]] = {
    RunRow: {
        "": frozenset({"waiting"}),
        "waiting": frozenset({"running", "superseded", "killed"}),
        "running": frozenset({"running", "stopping", "failing", "done", "failed", "killed"}),
        "failing": frozenset({"failing", "stopping", "failed", "killed"}),
        "stopping": frozenset({"stopping", "killed"}),
        "done": frozenset(),
        "failed": frozenset(),
        "killed": frozenset(),
        "superseded": frozenset(),
    },
    NodeRow: {
        "": frozenset({"waiting", "done", "skipped"}),
        "waiting": frozenset({"waiting", "ready", "skipped", "killed", "failed"}),
        "ready": frozenset({"ready", "starting", "killed", "failed"}),
        "starting": frozenset({"starting", "running", "done", "failed", "retrying", "ready", "stopping"}),
        "running": frozenset({"running", "done", "failed", "retrying", "ready", "stopping"}),
        "retrying": frozenset({"retrying", "ready", "killed"}),
        "stopping": frozenset({"stopping", "killed"}),
        **dict.fromkeys(ENDED_NODE, frozenset[str]()),
    },
    ConsumptionRow: {
        "": frozenset({"waiting", "consumed", "skipped"}),
        "waiting": frozenset({"consumed", "superseded", "skipped"}),
        "consumed": frozenset(),
        "superseded": frozenset(),
        "skipped": frozenset(),
    },
    WorkflowRow: {
        "": frozenset({"active"}),
        "active": frozenset({"active", "paused", "retired"}),
        "paused": frozenset({"active", "paused", "retired"}),
        "retired": frozenset({"active", "retired"}),
    },
}
"""Table -> state -> the states that may follow; `""` stands before the first."""


def check_move(before: Row | None, after: Row | None) -> None:
    """Refuses an illegal move; a removal, and rows without states, are not judged.

    Raises:
        WorkflowError: the table does not have it.
    """
    if after is None or type(after) not in LEGAL:
        return
    old = "" if before is None else before.state  # type: ignore[attr-defined]
    new = after.state  # type: ignore[attr-defined]
    if new not in LEGAL[type(after)].get(old, frozenset()):
        raise WorkflowError(
            f"move a row of {type(after).TABLE} from {old or 'nothing'} to {new}",
            found=repr(before),
            remedy="this is a fault in the scheduler; report it with this line",
        )
