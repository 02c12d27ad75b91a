"""Logs of tasks, whole and as they grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, StreamingResponse

from penstock.errors import WorkflowError, nearest
from penstock.server.control.routes_runs import find_run
from penstock.store.meta.rows import NodeRow
from penstock.workflows.control import Control
from penstock.workflows.core.moves import ENDED_NODE
from penstock.workflows.executor.local.folders import Folders

__all__ = ["make_router"]

_LOG_MOST: Final = 1 << 20
_LOOK_S: Final = 0.05


def make_router(control: Control) -> APIRouter:
    """The routes over a deployment's logs."""
    router = APIRouter(tags=["logs"])
    folders = Folders(control.state)

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


def _node(control: Control, run: str, node: str) -> NodeRow:
    found = {row.node: row for row in control.rows.read(NodeRow, "run = ?", (find_run(control, run).run,))}
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
