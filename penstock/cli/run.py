"""`penstock run`: start, ls, show, logs, kill, rerun; and `penstock why`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from penstock.cli import shown
from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output
from penstock.cli.remote import Remote, author
from penstock.errors import WorkflowError

__all__ = ["app", "why"]

app = typer.Typer(help="Runs of workflows.", no_args_is_help=True)
Run = Annotated[str, typer.Argument(help="Of the run.")]
Reason = Annotated[str, typer.Option(help="Why; on record.")]
_ENDED: Final = ("done", "failed", "killed", "superseded")


@app.command()
def start(
    workflow: Annotated[str, typer.Argument(help="What to run.")],
    *,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE; the value is JSON, or else text.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="An id of your own; given again, nothing starts twice.")] = None,
    off: Annotated[list[str] | None, typer.Option(help="A node to leave out; may be repeated.")] = None,
    interval: Annotated[str | None, typer.Option(help="START/END in ISO 8601 with a zone.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit code 1 unless it is done.")] = False,
    reason: Reason = "",
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Start a run."""
    output, remote = Output(as_json=as_json), Remote(project)
    low, high = _interval(interval)
    body: dict[str, Any] = {
        "workflow": workflow,
        "run": run,
        "parameters": _parameters(parameter or []),
        "off": off or [],
    }
    body |= {"interval_start_us": low, "interval_end_us": high, "author": author(), "reason": reason}
    found = remote.post("runs", body)
    if wait:
        _wait(remote, found["run"], output)
        return
    output.record(**found)
    output.say(f"{found['run']}: {found['state']}")


def _parameters(given: list[str]) -> dict[str, Any]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise WorkflowError("a parameter is NAME=VALUE", found=repr(text), remedy="write it as in -p days=7")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _interval(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    from datetime import datetime

    try:
        ends = [datetime.fromisoformat(part) for part in text.split("/")]
    except ValueError:
        ends = []
    if len(ends) != 2 or any(end.tzinfo is None for end in ends):
        raise WorkflowError(
            "an interval is START/END in ISO 8601 with a zone",
            found=repr(text),
            remedy="write it as in 2026-11-01T00:00Z/2026-11-02T00:00Z",
        )
    low, high = (round(end.timestamp() * 1_000_000) for end in ends)
    return low, high


def _wait(remote: Remote, run: str, output: Output) -> None:
    while (found := remote.get(f"runs/{run}"))["state"] not in _ENDED:
        time.sleep(0.05)
    _show(found, output)
    if found["state"] != "done":
        raise typer.Exit(1)


@app.command("ls")
def list_runs(
    workflow: Annotated[str | None, typer.Argument(help="Only of this one.")] = None,
    state: Annotated[str | None, typer.Option(help="waiting, running, done, failed, killed or superseded.")] = None,
    n: Annotated[int, typer.Option("--rows", "-n", help="How many.", min=1, max=1000)] = 20,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    output = Output(as_json=as_json)
    rows = Remote(project).get("runs", workflow=workflow, state=state, limit=n)
    if not as_json:
        rows = [
            row | {"made": shown.instant(row["created_us"]), "took": _took(row), "by": row["author"] or row["trigger"]}
            for row in rows
        ]
    output.rows(rows, ("run", "workflow", "version", "state", "made", "took", "by", "error"))


@app.command()
def show(run: Run, project: Project = Path(), as_json: AsJson = False) -> None:
    """Show a run with its nodes."""
    _show(Remote(project).get(f"runs/{run}"), Output(as_json=as_json))


def _show(found: dict[str, Any], output: Output) -> None:
    output.record(**found)
    if output.as_json:
        return
    of = f" for {shown.instant(found['interval_start_us'])} to {shown.instant(found['interval_end_us'])}"
    output.say(
        f"{found['run']}: {found['state']}, version {found['version']} of {found['workflow']}"
        + (of if found["interval_end_us"] is not None else "")
        + (f": {found['error']}" if found["error"] else "")
    )
    rows = [node | {"took": _took(node), "outputs": node["outputs"] or ""} for node in found["nodes"]]
    output.rows(rows, ("node", "state", "attempt", "worker", "took", "outputs", "error"))


def _took(row: dict[str, Any]) -> str:
    return shown.length(row["ended_us"] - row["started_us"]) if row["ended_us"] and row["started_us"] else ""


@app.command()
def logs(
    run: Run,
    node: Annotated[str | None, typer.Argument(help="One node; all by default.")] = None,
    attempt: Annotated[int | None, typer.Option(help="The last by default.", min=1)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="As it grows, until the attempt ends.")] = False,
    project: Project = Path(),
) -> None:
    """Print the logs of a run's nodes."""
    remote = Remote(project)
    names = [node] if node else [n["node"] for n in remote.get(f"runs/{run}")["nodes"] if n["attempt"]]
    for name in names:
        if len(names) > 1:
            typer.echo(f"--- {name}")
        path = f"runs/{run}/nodes/{name}/log" + ("/follow" if follow else "")
        for piece in remote.lines(path, attempt=attempt):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@app.command()
def kill(run: Run, reason: Reason = "", project: Project = Path(), as_json: AsJson = False) -> None:
    """End a run with all its tasks."""
    output = Output(as_json=as_json)
    found = Remote(project).post(f"runs/{run}/kill", {"author": author(), "reason": reason})
    output.record(**found)
    output.say(f"{found['run']}: {found['state']}")


@app.command()
def rerun(
    run: Run,
    *,
    newest: Annotated[bool, typer.Option("--newest", help="The newest definition and code, not the same.")] = False,
    only_failed: Annotated[bool, typer.Option("--only-failed", help="Take over what is done.")] = False,
    from_node: Annotated[str, typer.Option("--from", help="This node and what comes after it.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit code 1 unless it is done.")] = False,
    reason: Reason = "",
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Run again what a run was."""
    output, remote = Output(as_json=as_json), Remote(project)
    body = {"how": "newest" if newest else "same", "only_failed": only_failed, "from_node": from_node}
    found = remote.post(f"runs/{run}/rerun", body | {"author": author(), "reason": reason})
    if wait:
        _wait(remote, found["run"], output)
        return
    output.record(**found)
    output.say(f"{found['run']}: {found['state']}")


def why(
    run: Annotated[str, typer.Argument(help="A run, or a stream job as WORKFLOW.NODE.")],
    node: Annotated[str | None, typer.Argument(help="A node of the run; all that wait by default.")] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Why a node is where it is: what it waits for, what stands there, how fast that moves, when it will start."""
    output, remote = Output(as_json=as_json), Remote(project)
    if node is None and any(job["job"] == run for job in remote.get("jobs")):
        found = [remote.get(f"jobs/{run}/why")]
    else:
        shown_run = remote.get(f"runs/{run}")
        names = [node] if node else [n["node"] for n in shown_run["nodes"] if n["state"] not in _ENDED_NODES]
        found = [remote.get(f"runs/{run}/nodes/{name}/why") for name in names]
        if not found:
            output.say(f"{run} is {shown_run['state']}: nothing waits")
    for one in found:
        output.record(**one)
        _tell(one, output)


_ENDED_NODES: Final = ("done", "failed", "killed", "skipped")


def _tell(why: dict[str, Any], output: Output) -> None:
    output.say(f"{why['node']}: {why['summary']}")
    for reason in why["reasons"]:
        kind = (reason["fact"] or "").partition("(")[0]
        parts = [reason["text"]]
        if reason["required"] is not None and not isinstance(reason["required"], list):
            present, required = shown.value(kind, reason["present"]), shown.value(kind, reason["required"])
            parts.append(f"present {present}, required {required}")
        if reason["per_second"] is not None:
            pace = reason["per_second"]
            parts.append(f"moves {shown.length(pace)} a second" if kind in _TIMES else f"moves {pace:,.1f} a second")
        if reason["at_us"] is not None:
            parts.append(f"met at {shown.instant(reason['at_us'])} at this pace")
        if reason["behind"]:
            parts.append("behind " + ", ".join(reason["behind"]))
        output.say("  - " + "; ".join(parts))


_TIMES: Final = ("watermark", "frontier")
