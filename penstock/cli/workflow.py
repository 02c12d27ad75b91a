"""`penstock workflow`: apply, ls, show, diff, pause, resume, retire, schema, schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli import shown
from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output
from penstock.cli.remote import Remote, author

__all__ = ["app"]

app = typer.Typer(help="Workflows: stream and batch nodes that wait for each other's progress.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Of the workflow.")]
Reason = Annotated[str, typer.Option(help="Why; on record.")]


@app.command()
def apply(
    name: Annotated[str | None, typer.Argument(help="One of the project's workflows; all by default.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A workflow as YAML or JSON instead.", dir_okay=False)
    ] = None,
    reason: Reason = "",
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Check workflows, and make them what runs from now on; what runs already goes on as it was frozen."""
    output, remote = Output(as_json=as_json), Remote(project)
    body: dict[str, Any] = {"author": author(), "reason": reason, "only": name}
    if file is not None:
        from penstock.workflows.spec.text import from_file, plain

        spec, _ = from_file(file)
        body["spec"] = plain(spec)
    found = remote.post("workflows", body)
    for one in found:
        changed = one.pop("changed")
        one["what"] = one.get("not_built") or ("new version" if changed else "unchanged")
    output.rows(found, ("name", "version", "what"))


@app.command("ls")
def list_workflows(project: Project = Path(), as_json: AsJson = False) -> None:
    """List the workflows in service."""
    output, remote = Output(as_json=as_json), Remote(project)
    next_us = {f["workflow"]: f["at_us"] for f in remote.get("schedules")}
    rows = [row | {"next_us": next_us.get(row["name"])} for row in remote.get("workflows")]
    if not as_json:
        rows = [row | {"next": shown.instant(row["next_us"])} for row in rows]
    output.rows(rows, ("name", "state", "version", "nodes", "last_run", "last_state", "next", "owner"))


@app.command()
def show(
    name: Name,
    version: Annotated[int | None, typer.Option(help="The newest by default.", min=1)] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Print a workflow's specification, as YAML or with --json as JSON, and its versions."""
    output, remote = Output(as_json=as_json), Remote(project)
    found = remote.get(f"workflows/{name}", version=version)
    if as_json:
        output.record(**found)
        return
    import yaml

    output.say(yaml.safe_dump(found["spec"], sort_keys=False, allow_unicode=True).rstrip())
    output.say("")
    rows = [row | {"created": shown.instant(row["created_us"])} for row in remote.get(f"workflows/{name}/versions")]
    output.rows(rows, ("version", "created", "author", "reason"))


@app.command()
def diff(
    name: Name,
    before: Annotated[int | None, typer.Argument(help="By default the version before.")] = None,
    after: Annotated[int | None, typer.Argument(help="By default the newest.")] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Print what changed between two versions: nodes, edges, fields."""
    output, remote = Output(as_json=as_json), Remote(project)
    found = remote.get(f"workflows/{name}/diff", before=before, after=after)
    for change in found:
        output.say(change["text"])
        output.record(**change)
    if not found:
        output.say("nothing changed")


def _act(name: str, action: str, project: Path, *, as_json: bool) -> None:
    output, found = Output(as_json=as_json), Remote(project).post(f"workflows/{name}/{action}")
    output.record(**found)
    output.say(f"{name}: {action}d")


@app.command()
def pause(name: Name, project: Project = Path(), as_json: AsJson = False) -> None:
    """Hold new runs back; what runs goes on."""
    _act(name, "pause", project, as_json=as_json)


@app.command()
def resume(name: Name, project: Project = Path(), as_json: AsJson = False) -> None:
    """End a pause: what has waited is taken as its triggers say."""
    _act(name, "resume", project, as_json=as_json)


@app.command()
def retire(name: Name, project: Project = Path(), as_json: AsJson = False) -> None:
    """Take a workflow out of service: nothing fires, its streams stop."""
    _act(name, "retire", project, as_json=as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a workflow's specification."""
    import json

    from penstock.workflows.spec.text import schema as found

    typer.echo(json.dumps(found(), indent=2))
