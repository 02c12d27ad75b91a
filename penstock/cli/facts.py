"""`penstock facts`, `signal`, `jobs`, `components`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli import shown
from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output
from penstock.cli.remote import Remote
from penstock.errors import WorkflowError, nearest

__all__ = ["components", "facts", "jobs", "signal"]


def facts(
    subject: Annotated[str | None, typer.Argument(help="Only of this: a node as WORKFLOW.NODE, a stream ...")] = None,
    *,
    kind: Annotated[str | None, typer.Option(help="Only this kind: watermark, status, rows ...")] = None,
    n: Annotated[int, typer.Option("--rows", "-n", help="How many.", min=1, max=1000)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they change.")] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """List facts, newest first: what progress was told."""
    output, remote = Output(as_json=as_json), Remote(project)
    rows = remote.get("facts", subject=subject, kind=kind, limit=n)
    if not as_json:
        rows = [
            row | {"value": shown.value(row["kind"], row["value"]), "told": shown.instant(row["at_us"])} for row in rows
        ]
    output.rows(rows, ("subject", "kind", "scope", "value", "seq", "told"))
    if not follow:
        return
    held = b""
    for piece in remote.lines("events", tables="facts"):
        *frames, held = (held + piece).split(b"\n\n")
        for frame in frames:
            for line in frame.splitlines():
                if line.startswith(b"data: "):
                    fact = json.loads(line[6:])
                    if subject in (None, fact["subject"]) and kind in (None, fact["kind"]):
                        output.record(**fact)
                        output.say(f"{fact['subject']} {fact['kind']} {shown.value(fact['kind'], fact['value'])}")


def signal(
    name: Annotated[str, typer.Argument(help="Of the signal.")],
    *,
    value: Annotated[str, typer.Option(help="JSON.")] = "true",
    run: Annotated[str, typer.Option(help="Only for this run; for all that wait by default.")] = "",
    approve: Annotated[bool, typer.Option("--approve", help="An approval: `approved(NAME)`.")] = False,
    id: Annotated[str, typer.Option(help="Given again, it counts once.")] = "",
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Give a signal, or an approval, that nodes and triggers wait for."""
    try:
        body = {"value": json.loads(value), "kind": "approved" if approve else "signal", "run": run, "id": id}
    except ValueError as error:
        raise WorkflowError("a signal's value is JSON", found=repr(value), remedy="quote text: '\"text\"'") from error
    output, found = Output(as_json=as_json), Remote(project).post(f"signals/{name}", body)
    output.record(**found)
    output.say(f"{name}: {'given' if found.get('new', True) else 'was given before'}")


def jobs(
    job: Annotated[str | None, typer.Argument(help="WORKFLOW.NODE.")] = None,
    action: Annotated[str | None, typer.Argument(help="start, stop, restart or reload.")] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """List the stream jobs, or act on one by hand."""
    output, remote = Output(as_json=as_json), Remote(project)
    if job is not None and action is not None:
        actions = ("start", "stop", "restart", "reload")
        if action not in actions:
            raise WorkflowError("act on a stream", found=repr(action), remedy=nearest(action, actions))
        found = remote.post(f"jobs/{job}/{action}")
        output.record(**found)
        output.say(f"{job}: {action} asked")
        return
    rows = [row for row in remote.get("jobs") if job in (None, row["job"])]
    output.rows(rows, ("job", "desired", "gate", "state", "epoch", "generation", "version", "error"))


def components(
    name: Annotated[str | None, typer.Argument(help="Print one with its parameters.")] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """List components: Penstock's own, of installed packages, of the project; and the broken ones."""
    from penstock.components.registry import discover

    output, registry = Output(as_json=as_json), discover(project)
    rows = [found.describe() for found in registry.found.values()]
    if name is not None:
        chosen = next((row for row in rows if row["name"] == name), None)
        if chosen is None:
            registry[name]
            return
        output.record(**chosen)
        output.say(f"{name} {chosen['version']} ({chosen['kind']}, {chosen['origin']}): {chosen['description']}")
        schema = chosen["parameters"]
        fields = [
            {"parameter": key, "type": _type(field), "default": field.get("default", "required"), **field}
            for key, field in schema.get("properties", {}).items()
        ]
        if not as_json:
            output.rows(fields, ("parameter", "type", "default", "description"))
        return
    rows += [{"name": b.name, "kind": "broken", "origin": b.origin, "description": b.reason} for b in registry.broken]
    output.rows(rows, ("name", "kind", "version", "origin", "description"))


def _type(field: dict[str, object]) -> str:
    if "anyOf" in field and isinstance(field["anyOf"], list):
        return " or ".join(_type(one) for one in field["anyOf"])
    if field.get("type") == "array" and isinstance(field.get("items"), dict):
        return f"list of {_type(field['items'])}"  # type: ignore[arg-type]
    return str(field.get("type", "json"))
