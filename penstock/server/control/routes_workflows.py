"""Workflows and their schedules."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, JsonValue

from penstock.store.meta.rows import RunRow, WorkflowRow
from penstock.workflows.control import Control, Version
from penstock.workflows.core.requests import Pause, Resume, Retire
from penstock.workflows.spec.text import plain, schema
from penstock.workflows.why import firings

__all__ = ["make_router"]


class ApplyBody(BaseModel):
    """A workflow to apply; without `spec`, those of the project's definitions (or the one named `only`)."""

    model_config = ConfigDict(extra="forbid")

    spec: dict[str, JsonValue] | None = None
    only: str | None = None
    author: str = ""
    reason: str = ""
    expect: int | None = None


def make_router(control: Control) -> APIRouter:
    """The routes over a deployment's workflows."""
    router = APIRouter(tags=["workflows"])

    @router.get("/workflows/schema")
    def workflow_schema() -> dict[str, Any]:
        """The JSON Schema of a workflow's specification."""
        return schema()

    @router.get("/workflows")
    def list_workflows() -> list[dict[str, Any]]:
        """The workflows in service, with how their last run stands."""
        rows = {row.name: row for row in control.rows.read(WorkflowRow)}
        found = []
        for version in control.workflows():
            row = rows[version.spec.name]
            last = control.rows.read(
                RunRow, "workflow = ?", (row.name,), tail="ORDER BY created_us DESC, run DESC LIMIT 1"
            )
            found.append(
                {
                    "name": row.name,
                    "state": row.state,
                    "version": row.version,
                    "owner": version.spec.owner,
                    "nodes": len(version.spec.nodes),
                    "applied_us": row.applied_us,
                    "last_run": last[0].run if last else None,
                    "last_state": last[0].state if last else None,
                }
            )
        return found

    @router.post("/workflows")
    def apply(body: ApplyBody) -> list[dict[str, Any]]:
        """Checks and applies: a specification, or what the project defines."""
        return control.apply(body.spec, author=body.author, reason=body.reason, expect=body.expect, only=body.only)

    @router.get("/workflows/{name}")
    def show(name: str, version: int | None = None) -> dict[str, Any]:
        """A version of a workflow, the newest by default."""
        return _version(control.version(name, version))

    @router.get("/workflows/{name}/versions")
    def versions(name: str) -> list[dict[str, Any]]:
        """All versions, newest first."""
        control.version(name)
        return [_version(version) for version in reversed(control.versions(name))]

    @router.get("/workflows/{name}/diff")
    def difference(name: str, before: int | None = None, after: int | None = None) -> list[dict[str, Any]]:
        """What changed between two versions, by nodes, edges and fields."""
        return [
            {"path": c.path, "how": c.how, "before": c.before, "after": c.after, "text": str(c)}
            for c in control.diff(name, before, after)
        ]

    @router.post("/workflows/{name}/{action}")
    def act(name: str, action: Literal["pause", "resume", "retire"]) -> dict[str, Any]:
        """Holds new runs back, lets them go on, or takes the workflow out of service."""
        match action:
            case "pause":
                return control.ask(Pause(name))
            case "resume":
                return control.ask(Resume(name))
        return control.ask(Retire(name))

    @router.get("/schedules")
    def schedules() -> list[dict[str, Any]]:
        """The next firing of every schedule, soonest first."""
        found = control.look(lambda core, _: firings(core.state))
        return [{"workflow": f.workflow, "at_us": f.at_us, "state": f.state} for f in found]

    return router


def _version(version: Version) -> dict[str, Any]:
    return {
        "name": version.spec.name,
        "version": version.version,
        "author": version.author,
        "reason": version.reason,
        "created_us": version.created_us,
        "spec": plain(version.spec),
    }
