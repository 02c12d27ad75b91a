"""Runs, their nodes and logs, and why a node is where it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, JsonValue

from penstock.errors import WorkflowError, nearest
from penstock.server.control.events import plain_row
from penstock.store.meta.rows import AttemptRow, NodeRow, RunRow
from penstock.workflows.control import Control
from penstock.workflows.core.moves import ENDED_NODE
from penstock.workflows.core.requests import KillRun, Rerun, StartRun
from penstock.workflows.executor.local.folders import Folders
from penstock.workflows.loading import load_runs
from penstock.workflows.why import Why, why_node

__all__ = ["make_router"]

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
    folders = Folders(control.state)

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
            last = _run(control, before)
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
        row = _run(control, run)
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
        made = body.run or f"{_run(control, run).workflow}.{control.new_id()}"
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

    @router.get("/runs/{run}/nodes/{node}/log", response_class=PlainTextResponse)
    def log(run: str, node: str, attempt: int | None = None, offset: int = 0) -> PlainTextResponse:
        """The log of an attempt, the last by default, from a byte on; `x-next-offset` goes on from there."""
        path = folders.log(run, node, attempt or _node(control, run, node).attempt)
        data = _read(path, offset)
        return PlainTextResponse(data, headers={"x-next-offset": str(offset + len(data))})

    @router.get("/runs/{run}/nodes/{node}/log/follow")
    async def follow(run: str, node: str, attempt: int | None = None) -> StreamingResponse:
        """The log as it grows, until the attempt has ended."""
        number = attempt or (await asyncio.to_thread(_node, control, run, node)).attempt
        path = folders.log(run, node, number)
        return StreamingResponse(_following(control, run, node, number, path), media_type="text/plain; charset=utf-8")

    return router


def _run(control: Control, run: str) -> RunRow:
    found = control.rows.read(RunRow, "run = ?", (run,))
    if not found:
        newest = control.rows.read(RunRow, tail="ORDER BY created_us DESC LIMIT 200")
        raise WorkflowError(f"run {run!r}", found="no such run", remedy=nearest(run, [row.run for row in newest]))
    return found[0]


def _node(control: Control, run: str, node: str) -> NodeRow:
    found = {row.node: row for row in control.rows.read(NodeRow, "run = ?", (_run(control, run).run,))}
    if node not in found:
        raise WorkflowError(f"node {node!r} of run {run}", found="no such node", remedy=nearest(node, found))
    return found[node]


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_LOG_MOST)
    except FileNotFoundError:
        return b""


async def _following(control: Control, run: str, node: str, attempt: int, path: Path) -> AsyncIterator[bytes]:
    offset = 0
    while True:
        row = await asyncio.to_thread(_node, control, run, node)
        data = await asyncio.to_thread(_read, path, offset)
        if data:
            offset += len(data)
            yield data
        elif row.attempt != attempt or row.state in ENDED_NODE or row.state == "retrying":
            return
        else:
            await asyncio.sleep(_LOOK_S)
