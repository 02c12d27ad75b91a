"""Stream jobs, pools of tasks, components."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel

from penstock.server.control.events import plain_row
from penstock.store.meta.rows import StreamRow
from penstock.workflows.control import Control
from penstock.workflows.core.requests import SetPool, SetStream
from penstock.workflows.why import why_stream

__all__ = ["make_router"]


class PoolBody(BaseModel):
    """Slots of a pool; null for as many as workers take."""

    slots: int | None


def make_router(control: Control) -> APIRouter:
    """The routes over what runs on."""
    router = APIRouter(tags=["jobs"])

    @router.put("/pools/{name}")
    def pool(name: str, body: PoolBody) -> dict[str, Any]:
        """Sets how many tasks of a pool may be out together."""
        return control.ask(SetPool(name, body.slots))

    @router.get("/jobs")
    def jobs() -> list[dict[str, Any]]:
        """The stream jobs: what is wanted and what is seen of them."""
        rows = sorted(control.rows.read(StreamRow), key=lambda row: row.job)
        return [plain_row(row) for row in rows]

    @router.get("/jobs/{job}/why")
    def job_why(job: str) -> dict[str, Any]:
        """Why a stream is where it is."""
        found = control.look(lambda core, now_us: why_stream(core.state, job, now_us, control.pace))
        plain: dict[str, Any] = msgspec.to_builtins(found)
        return plain | {"at_us": found.at_us}

    @router.post("/jobs/{job}/{action}")
    def job_act(job: str, action: Literal["start", "stop", "restart", "reload"]) -> dict[str, Any]:
        """Acts on a stream by hand."""
        return control.ask(SetStream(job, action))

    @router.get("/components")
    def components() -> dict[str, Any]:
        """Every component with its parameters' JSON Schema, and the broken ones with the reason."""
        return control.components()

    return router
