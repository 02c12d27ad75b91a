"""Facts, done intervals, signals; changes as they happen."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from penstock.server.control.events import events, plain_row
from penstock.store.meta.rows import FactRow, IntervalRow
from penstock.workflows.control import Control
from penstock.workflows.core.requests import FactGiven, SignalGiven

__all__ = ["make_router"]

_MOST: Final = 1000
Limit = Annotated[int, Query(ge=1, le=_MOST)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FactBody(_Body):
    """Progress told from outside; `position` orders the reports of one maker."""

    subject: str
    kind: str
    value: JsonValue
    position: int | None = None


class SignalBody(_Body):
    """A signal or an approval; with an `id`, sent again it counts once."""

    value: JsonValue = True
    kind: Literal["signal", "approved"] = "signal"
    run: str = ""
    id: str = Field(default="", max_length=200)


def make_router(control: Control) -> APIRouter:
    """The routes over a deployment's facts."""
    router = APIRouter(tags=["facts"])

    @router.get("/facts")
    def facts(subject: str | None = None, kind: str | None = None, limit: Limit = 200) -> list[dict[str, Any]]:
        """The newest value of every fact, newest first."""
        where, values = [], []
        for column, value in (("subject", subject), ("kind", kind)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        rows = control.rows.read(FactRow, " AND ".join(where), values, tail=f"ORDER BY seq DESC LIMIT {limit}")
        return [plain_row(row) for row in rows]

    @router.get("/intervals/{subject}")
    def intervals(subject: str, limit: Limit = 200) -> list[dict[str, Any]]:
        """The done intervals of a batch node, `workflow.node`, newest first."""
        rows = control.rows.read(IntervalRow, "subject = ?", (subject,), tail=f"ORDER BY seq DESC LIMIT {limit}")
        return [plain_row(row) for row in rows]

    @router.post("/facts")
    def tell(body: FactBody) -> dict[str, Any]:
        """Puts a fact of an outside program on record."""
        return control.ask(FactGiven(body.subject, body.kind, body.value, position=body.position))

    @router.post("/signals/{name}")
    def signal(name: str, body: SignalBody) -> dict[str, Any]:
        """Gives a signal or an approval, to one run or to all that wait."""
        return control.ask(SignalGiven(name, body.kind, body.value, body.run, body.id))

    @router.get("/events")
    def stream_events(run: str | None = None, tables: str = "") -> StreamingResponse:
        """Server-sent events: runs, nodes, facts, streams, workflows, as they are committed."""
        wanted = frozenset(table for table in tables.split(",") if table)
        return StreamingResponse(events(control, run=run, tables=wanted), media_type="text/event-stream")

    return router
