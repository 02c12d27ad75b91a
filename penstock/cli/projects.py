"""`penstock new`, `add`, `plan`, `check`: a project and its definitions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output
from penstock.errors import DefinitionError, DoorError

if TYPE_CHECKING:
    from penstock.define.project import Definitions

__all__ = ["add", "check", "new", "plan"]

_STARTER = '''"""What {name} computes. `penstock plan` checks it; `penstock add FILE` appends more sources."""

import penstock as ps
from penstock import count, mean

user = ps.entity("user", "user_id")
types = {{"at": "instant", "event_id": "text", "user_id": "int", "amount": "decimal(12,2)?"}}
events = ps.stream("events", time="at", id="event_id", late="5min", schema=types)  # sent by HTTP

by_user = events.by(user).over("1h", "1d").features("by_user", n=count(), mean=mean("amount"))
profile = ps.view("profile", events["user_id"], by_user)
'''


def new(
    path: Annotated[Path, typer.Argument(help="The folder to make.")],
    as_json: AsJson = False,
) -> None:
    """Make a project: a folder with definitions.py."""
    out, path = Output(as_json=as_json), path.resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DoorError(
            f"{path} is a new folder",
            found="something in it",
            remedy="name another, or go there and use `penstock add`",
        )
    part = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        (part / "definitions.py").write_text(_STARTER.format(name=path.name))
        (part / ".gitignore").write_text(".penstock/\n__pycache__/\n")
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    out.say(f"made {path / 'definitions.py'}\n\n  cd {path}\n  penstock plan\n  penstock ingest")
    out.record(path=str(path), files=["definitions.py", ".gitignore"])


def add(
    what: Annotated[str, typer.Argument(help="A file, a folder, a pattern, or a URL; '$NAME' is kept as it is.")],
    *,
    name: Annotated[str | None, typer.Option(help="Of the definition; by default from the file's name.")] = None,
    zone: Annotated[str | None, typer.Option(help="Of local times, as in Europe/London.")] = None,
    table: Annotated[str | None, typer.Option(help="Of a database.")] = None,
    cursor: Annotated[str | None, typer.Option(help="The column of a database's table that only grows.")] = None,
    rows: Annotated[int, typer.Option(help="Rows of the sample.", min=2)] = 100_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written; write nothing.")] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Read a sample, propose definitions, and append them to definitions.py."""
    from penstock.doors.propose import find_targets, propose, write
    from penstock.doors.sources import open_source
    from penstock.doors.sources.listing import list_files

    out, root = Output(as_json=as_json), _folder(project)
    _check_zone(zone)
    proposals = []
    targets = find_targets(what, root, table=table, cursor=cursor, name=name)
    with out.progress("reading samples", len(targets)) as step:
        for done, (target, source) in enumerate(targets):
            step(done, target)
            plugin, options = open_source(source, root)
            as_text = source.kind == "files" and list_files(options).format != "parquet"
            proposals.append(propose(target, source, plugin.sample(options, rows), zone, as_text=as_text))
    written = write(proposals, root, dry_run=dry_run)
    for proposal in proposals:
        out.record(**_proposal(proposal))
        choices = [{"what": c.what, "proposed": c.value or "-", "why": c.why} for c in proposal.choices]
        if not as_json:
            title = f"{proposal.kind} {proposal.name}: {len(proposal.schema)} columns, from {proposal.rows:,} rows"
            out.rows(choices, ("what", "proposed", "why"), title)
            for column, why in proposal.left_out:
                out.say(f"left out: {column} ({why})")
            for note in proposal.notes:
                out.say(f"look at: {note}")
            out.say("")
    for standing, line in written.standing:
        out.say(f"{standing} stands in {written.path} line {line} already; left as it is")
    if written.text:
        out.say(f"{'would be ' if dry_run else ''}written to {written.path}:\n{written.text.rstrip()}")
    out.record(written=not dry_run, path=str(written.path), text=written.text, added=written.added)


def _proposal(proposal: Any) -> dict[str, Any]:
    return {
        "kind": proposal.kind,
        "name": proposal.name,
        "arguments": dict(proposal.arguments),
        "schema": proposal.schema,
        "entities": proposal.entities,
        "choices": [{"what": c.what, "value": c.value, "why": c.why} for c in proposal.choices],
        "notes": proposal.notes,
        "left_out": dict(proposal.left_out),
    }


def plan(
    against: Annotated[
        Path | None, typer.Option(help="What --json printed before, or a folder: say what is made anew.")
    ] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Check the definitions, and show what each puts out and needs. Touches no data."""
    from penstock.define.project import load
    from penstock.plan import plan as make_plan
    from penstock.plan.against import compare, render_changes
    from penstock.plan.describe import document, render

    out = Output(as_json=as_json)
    definitions = load(project)
    made = make_plan(definitions)
    if against is None:
        workflows, texts = _workflows(definitions)
        out.record(**document(made), workflows=workflows)
        out.say("\n\n".join([render(made).rstrip(), *texts]))
        return
    former = document(make_plan(load(against))) if against.is_dir() else _former(against)
    changes = compare(former, made)
    if as_json:
        import dataclasses

        for change in changes:
            out.record(**dataclasses.asdict(change))
    out.say(render_changes(changes).rstrip())


def _workflows(definitions: Definitions) -> tuple[dict[str, Any], list[str]]:
    """The workflows of a project, as JSON data by name and as text; components are read only where there are any."""
    from penstock.define.workflow import Workflow

    if not any(isinstance(definition, Workflow) for definition in definitions.named.values()):
        return {}, []
    from penstock.clock import WallClock
    from penstock.workflows.project import planned
    from penstock.workflows.spec.describe import describe
    from penstock.workflows.spec.text import plain

    found, not_built = planned(definitions, WallClock().now_us())
    texts = [describe(spec, Path(str(places.workflow)).name) for spec, places in found.values()]
    texts += [f"{name}   workflow, legal, but not built yet: {reason}" for name, reason in not_built.items()]
    specs = {name: plain(spec) for name, (spec, _) in found.items()}
    return specs | {name: {"not_built": reason} for name, reason in not_built.items()}, texts


def _former(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DoorError(
            "a former plan is a file that `penstock plan --json` wrote, or a folder",
            found=str(error)[:200],
            remedy="write one: penstock plan --json > former.json",
            where=str(path),
        ) from error
    return found


def check(
    sources: Annotated[bool, typer.Option("--sources", help="Also read the schemas of all sources.")] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Plan, then run the laws of your own aggregates; exit code 1 when one fails."""
    from penstock.doors.check import check_aggregates, check_sources
    from penstock.doors.deployment import Deployment

    out = Output(as_json=as_json)
    with Deployment(project) as deployment:
        found = check_aggregates(deployment.plan)
        out.say(f"plan: {len(deployment.plan.relations) + len(deployment.plan.views)} definitions fit each other")
        if sources:
            found += check_sources(deployment)
    shown = [
        {"subject": f.subject, "law": f.law, "result": "ok" if f.ok else "FAILS", "detail": f.detail} for f in found
    ]
    out.rows(shown, ("subject", "law", "result", "detail"))
    if not all(f.ok for f in found):
        raise typer.Exit(1)


def _folder(project: Path) -> Path:
    if not project.is_dir():
        raise DoorError(f"{project} is a project's folder", found="no such folder", remedy="run `penstock new` first")
    return project.resolve()


def _check_zone(zone: str | None) -> None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if zone is None:
        return
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DefinitionError(
            "a zone of the tz database", found=repr(zone), remedy="write it as in Europe/London, Asia/Shanghai, UTC"
        ) from error
