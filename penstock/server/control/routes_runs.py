"""Runs, their nodes and logs, and why a node is where it is."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, JsonValue

from penstock.errors import WorkflowError, nearest
from penstock.server.control.events import plain_row
from penstock.store.meta.rows import AttemptRow, NodeRow, RunRow
from penstock.workflows.control import Control
from penstock.workflows.core.requests import KillRun, Rerun, StartRun
from penstock.workflows.loading import load_runs
from penstock.workflows.why import Why, why_node

__all__ = ["find_run", "make_router"]

_MOST: Final = 1000
_LOG_MOST: Final = 1 << 20
_LOOK_S: Final = 0.05
Limit = Annotated[int, Query(ge=1, le=_MOST)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunBody(_Body):
    """A run to start. With the same `run` again nothing starts."""

    workflow: str
    run: str | None = None
    parameters: dict[str, JsonValue] = {}
    interval_start_us: int | None = None
    interval_end_us: int | None = None
    priority: int | None = None
    off: list[str] = []
    author: str = ""
    reason: str = ""


class KillBody(_Body):
    """Who ends a run and why."""

    author: str = ""
    reason: str = ""


class RerunBody(_Body):
    """How a run is run again."""

    run: str | None = None
    how: Literal["same", "newest"] = "same"
    only_failed: bool = False
    from_node: str = ""
    author: str = ""
    reason: str = ""


def make_router(control: Control) -> APIRouter:
    """The routes over a deployment's runs."""
    router = APIRouter(tags=["runs"])

    @router.get("/runs")
    def list_runs(
        workflow: str | None = None, state: str | None = None, before: str | None = None, limit: Limit = 50
    ) -> list[dict[str, Any]]:
        """Runs, newest first; `before` is the last run of the page before."""
        where, values = [], []
        for column, value in (("workflow", workflow), ("state", state)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if before is not None:
            last = find_run(control, before)
            where.append("(created_us < ? OR (created_us = ? AND run < ?))")
            values += [last.created_us, last.created_us, last.run]  # type: ignore[list-item]
        tail = f"ORDER BY created_us DESC, run DESC LIMIT {limit}"
        return [plain_row(row) for row in control.rows.read(RunRow, " AND ".join(where), values, tail=tail)]

    @router.post("/runs")
    def start(body: RunBody) -> dict[str, Any]:
        """Starts a run; answered when it is durable."""
        run = body.run or f"{body.workflow}.{control.new_id()}"
        return control.ask(
            StartRun(
                run,
                body.workflow,
                body.parameters,
                body.interval_start_us,
                body.interval_end_us,
                body.priority,
                body.author,
                body.reason,
                tuple(body.off),
            )
        )

    @router.get("/runs/{run}")
    def show(run: str) -> dict[str, Any]:
        """A run with its nodes, in the order of the definition, and the attempts that were followed by another."""
        row = find_run(control, run)
        nodes = {node.node: node for node in control.rows.read(NodeRow, "run = ?", (run,))}
        order = [node.name for node in control.version(row.workflow, row.version).spec.nodes if node.kind == "batch"]
        attempts = control.rows.read(AttemptRow, "run = ?", (run,), tail="ORDER BY node, attempt")
        return plain_row(row) | {
            "nodes": [plain_row(nodes[name]) for name in order if name in nodes],
            "attempts": [plain_row(attempt) for attempt in attempts],
        }

    @router.post("/runs/{run}/kill")
    def kill(run: str, body: KillBody) -> dict[str, Any]:
        """Ends a run with all its tasks."""
        return control.ask(KillRun(run, body.author, body.reason))

    @router.post("/runs/{run}/rerun")
    def rerun(run: str, body: RerunBody) -> dict[str, Any]:
        """Runs again what a run was: the same definition and code, or the newest."""
        made = body.run or f"{find_run(control, run).workflow}.{control.new_id()}"
        return control.ask(Rerun(made, run, body.how, body.only_failed, body.from_node, body.author, body.reason))

    @router.get("/runs/{run}/nodes/{node}/why")
    def why(run: str, node: str) -> dict[str, Any]:
        """What a node waits for, what stands there, how fast it moves, when it will start at this pace."""

        def look(core: Any, now_us: int) -> Why:
            load_runs(control.rows, core.state, [run])
            return why_node(core.state, run, node, now_us, control.pace)

        found = control.look(look)
        plain: dict[str, Any] = msgspec.to_builtins(found)
        return plain | {"at_us": found.at_us}

    return router


def find_run(control: Control, run: str) -> RunRow:
    """A run's row.

    Raises:
        WorkflowError: there is none.
    """
    found = control.rows.read(RunRow, "run = ?", (run,))
    if not found:
        newest = control.rows.read(RunRow, tail="ORDER BY created_us DESC LIMIT 200")
        raise WorkflowError(f"run {run!r}", found="no such run", remedy=nearest(run, [row.run for row in newest]))
    return found[0]
