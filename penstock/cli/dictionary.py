"""`penstock dict`: run-time values; `penstock resource`: versioned files; `penstock secret`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli import shown
from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output
from penstock.cli.remote import Remote, author
from penstock.errors import DoorError

__all__ = ["app", "resources", "secrets"]

app = typer.Typer(help="The dictionary: values that nodes read while they run.", no_args_is_help=True)
resources = typer.Typer(help="Resources: versioned files, named resource://NAME@VERSION.", no_args_is_help=True)
secrets = typer.Typer(help="Secrets: read by name, never shown, struck out of logs.", no_args_is_help=True)
Key = Annotated[str, typer.Argument(help="Lower-case letters, digits and _.")]
Reason = Annotated[str, typer.Option(help="Why; on record.")]


@app.command("ls")
def list_entries(project: Project = Path(), as_json: AsJson = False) -> None:
    """List keys with their values and who reads them."""
    output = Output(as_json=as_json)
    rows = Remote(project).get("dictionary")
    if not as_json:
        rows = [row | {"value": json.dumps(row["value"]), "readers": ", ".join(row["readers"])} for row in rows]
    output.rows(rows, ("key", "value", "type", "version", "author", "description", "readers"))


@app.command()
def get(key: Key, project: Project = Path(), as_json: AsJson = False) -> None:
    """Print a value, and with --json its history."""
    output, found = Output(as_json=as_json), Remote(project).get(f"dictionary/{key}")
    output.record(**found)
    output.say(json.dumps(found["value"], ensure_ascii=False))


@app.command("set")
def put(
    key: Key,
    value: Annotated[str, typer.Argument(help="JSON, or else text.")],
    *,
    type: Annotated[str | None, typer.Option(help="integer, number, string, boolean, date, duration, json ...")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    reason: Reason = "",
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Set a key; running nodes that read it see it at once."""
    try:
        read: Any = json.loads(value) if type != "string" else value
    except ValueError:
        read = value
    body = {"value": read, "type": type, "description": description, "author": author(), "reason": reason}
    output, found = Output(as_json=as_json), Remote(project).ask("PUT", f"dictionary/{key}", body)
    output.record(**found)
    output.say(f"{key} = {json.dumps(found['value'], ensure_ascii=False)} (version {found['version']})")


@app.command("rm")
def remove(key: Key, reason: Reason = "", project: Project = Path(), as_json: AsJson = False) -> None:
    """Take a key away; its versions stay."""
    query = {"author": author(), "reason": reason}
    output, found = Output(as_json=as_json), Remote(project).ask("DELETE", f"dictionary/{key}", query=query)
    output.record(**found)
    output.say(f"{key}: taken away")


@app.command()
def history(key: Key, project: Project = Path(), as_json: AsJson = False) -> None:
    """List the versions of a key."""
    output = Output(as_json=as_json)
    rows = Remote(project).get(f"dictionary/{key}")["history"]
    if not as_json:
        rows = [
            row
            | {
                "value": json.dumps(row["value"]) if row["is_there"] else "(gone)",
                "made": shown.instant(row["created_us"]),
            }
            for row in rows
        ]
    output.rows(rows, ("version", "value", "type", "made", "author", "reason"))


@resources.command("ls")
def list_resources(project: Project = Path(), as_json: AsJson = False) -> None:
    """List resources with who uses them."""
    output = Output(as_json=as_json)
    rows = Remote(project).get("resources")
    if not as_json:
        rows = [row | {"users": ", ".join(row["users"])} for row in rows]
    output.rows(rows, ("uri", "size", "author", "reason", "users"))


@resources.command("put")
def put_resource(
    name: Annotated[str, typer.Argument(help="Of the resource.")],
    file: Annotated[Path, typer.Argument(help="Its content.", dir_okay=False)],
    reason: Reason = "",
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Add a version of a file."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DoorError("read the file", found=str(error), remedy="look at its path and rights") from error
    query = {"author": author(), "reason": reason}
    output, found = Output(as_json=as_json), Remote(project).ask("PUT", f"resources/{name}", data, query)
    output.record(**found)
    output.say(f"{found['uri']}, {found['size']:,} bytes")


@secrets.command("ls")
def list_secrets(project: Project = Path(), as_json: AsJson = False) -> None:
    """List the names of the secrets that are kept here."""
    Output(as_json=as_json).rows([{"name": name} for name in Remote(project).get("secrets")], ("name",))


@secrets.command("set")
def put_secret(
    name: Annotated[str, typer.Argument(help="Of the secret.")],
    reason: Reason = "",
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Keep a secret; its value is asked for, or read from standard input, never given on the command line."""
    import sys

    hidden = sys.stdin.isatty()
    value = typer.prompt("value", hide_input=True) if hidden else sys.stdin.read().removesuffix("\n")
    query = {"author": author(), "reason": reason}
    Remote(project).ask("PUT", f"secrets/{name}", {"value": value}, query)
    output = Output(as_json=as_json)
    output.record(name=name)
    output.say(f"{name}: kept")


@secrets.command("rm")
def remove_secret(
    name: Annotated[str, typer.Argument(help="Of the secret.")],
    reason: Reason = "",
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Take a secret away."""
    Remote(project).ask("DELETE", f"secrets/{name}", query={"author": author(), "reason": reason})
    output = Output(as_json=as_json)
    output.record(name=name)
    output.say(f"{name}: taken away")
