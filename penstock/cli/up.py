"""`penstock up` and `penstock down`: all parts of a project's deployment."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output, error_line
from penstock.cli.remote import Remote, author
from penstock.errors import DoorError, PenstockError

__all__ = ["down", "up"]

_STOP_S: Final = 60.0


def up(
    *,
    port: Annotated[int, typer.Option(help="Of the server, on this machine; 0 takes a free one.", min=0)] = 8800,
    ingest_port: Annotated[int, typer.Option(help="Of the door for events; 0 takes a free one.", min=0)] = 8700,
    slots: Annotated[int | None, typer.Option(help="Tasks that run together.", min=1)] = None,
    apply: Annotated[bool, typer.Option(help="Apply the project's workflows at the start.")] = True,
    run: Annotated[str | None, typer.Option(help="Then start a run of this workflow.")] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Run everything: scheduler, worker, streams, the HTTP doors; state lies under .penstock/. Ctrl-C ends it.

    Streams go on meanwhile, as they do when a part dies; `penstock down` ends them too.
    """
    from penstock.server.guardian import Guardian, Part, ingest_command, server_command, worker_command

    output, root = Output(as_json=as_json), project.resolve()
    state = root / ".penstock"
    _alone(root)
    parts = [
        Part("server", server_command(root, port), standby=True),
        Part("worker", worker_command(root, slots)),
    ]
    if _takes_events(root):
        parts.append(Part("ingest", ingest_command(root, ingest_port)))
    address = state / "run" / "server.json"
    address.unlink(missing_ok=True)
    (state / "run").mkdir(parents=True, exist_ok=True)
    (state / "run" / "up.json").write_text(json.dumps({"pid": os.getpid()}))

    def ready() -> bool:
        try:
            return bool(Remote(root).get("health"))
        except PenstockError:
            return False

    def then() -> None:
        remote = Remote(root)
        output.record(url=remote.url, token_file=str(state / "token"))
        output.say(f"up at {remote.url}; the token stands in {state / 'token'}")
        try:
            if apply:
                _apply(remote, output)
            if run is not None:
                found = remote.post("runs", {"workflow": run, "author": author(), "reason": "penstock up --run"})
                output.record(**found)
                output.say(f"run {found['run']}: penstock run show {found['run']}")
        except PenstockError as error:
            output.say(error_line(error, as_json=as_json))

    try:
        Guardian(parts, state / "logs", output.say).run(ready, then)
    finally:
        address.unlink(missing_ok=True)
        (state / "run" / "up.json").unlink(missing_ok=True)
    if left := _streams_left(state):
        output.say(f"{left} streams go on; `penstock up` finds them again, `penstock down` ends them")


def _alone(root: Path) -> None:
    pid = _guardian(root)
    if pid is not None:
        raise DoorError(
            "start a deployment once",
            found=f"process {pid} has it up",
            remedy="use it, or end it: penstock down",
            where=str(root),
        )


def _guardian(root: Path) -> int | None:
    """The process that has this project up, if one has."""
    try:
        pid = int(json.loads((root / ".penstock" / "run" / "up.json").read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return pid if b"up" in command.split(b"\0") and pid != os.getpid() else None


def _takes_events(root: Path) -> bool:
    """Whether a stream of the project is fed by HTTP; definitions that do not load take none."""
    from penstock.define.project import load
    from penstock.define.stream import Stream

    try:
        found = load(root).named.values()
    except PenstockError:
        return False
    return any(isinstance(one, Stream) and one.source.kind == "http" for one in found)


def _apply(remote: Remote, output: Output) -> None:
    from penstock.define.project import load
    from penstock.define.workflow import Workflow

    if not any(isinstance(one, Workflow) for one in load(Path(remote.project)).named.values()):
        return
    for one in remote.post("workflows", {"author": author(), "reason": "penstock up"}):
        output.record(**one)
        if reason := one.get("not_built"):
            output.say(f"workflow {one['name']} is left out: {reason}")
        else:
            output.say(f"workflow {one['name']}, version {one['version']}" + (", new" if one["changed"] else ""))


def _streams_left(state: Path) -> int:
    from penstock.clock import WallClock
    from penstock.store.meta import Meta
    from penstock.store.meta.rows import LeaseRow
    from penstock.store.meta.rows_store import RowStore
    from penstock.workflows.supervisor.processes import is_alive

    if not (state / "meta.db").exists():
        return 0
    with Meta.open(state / "meta.db", clock=WallClock()) as meta:
        return sum(is_alive(row.holder) for row in RowStore(meta.engine).read(LeaseRow) if row.holder)


def down(project: Project = Path(), as_json: AsJson = False) -> None:
    """End a deployment that is up, with its streams; each makes a last checkpoint first."""
    output, root = Output(as_json=as_json), project.resolve()
    pid = _guardian(root)
    if pid is None:
        raise DoorError("end a deployment", found="none is up", remedy="start it: penstock up", where=str(root))
    remote = Remote(root)
    running: list[dict[str, Any]] = [job for job in remote.get("jobs") if job["desired"] == "running"]
    for job in running:
        remote.post(f"jobs/{job['job']}/stop")
    until = time.monotonic() + _STOP_S
    while (left := [j["job"] for j in remote.get("jobs") if j["state"] not in ("stopped", "broken", "")]) and (
        time.monotonic() < until
    ):
        time.sleep(0.05)
    os.kill(pid, signal.SIGTERM)
    while _guardian(root) is not None and time.monotonic() < until:
        time.sleep(0.05)
    output.record(stopped=len(running), left=left)
    output.say(f"down; {len(running)} streams stopped" + (f", not in time: {', '.join(left)}" if left else ""))
