"""`penstock erase`: a person out of everything that is stored."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output
from penstock.errors import DoorError

__all__ = ["erase"]


def erase(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="The key, as in user_id=7; streams before it, by default all that have its columns."),
    ] = None,
    *,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit, which does not keep the key.")] = "",
    author: Annotated[str, typer.Option(help="Who; by default you.")] = "",
    go_on: Annotated[bool, typer.Option("--resume", help="Finish what was broken off.")] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Erase a key from log, lake, live state, derived topics and logged reads. Broken off, run it again.

    Stop what sends the key's rows first. Files and tables that sources read are not touched.
    """
    from penstock.doors.deployment import Deployment
    from penstock.doors.erasure import erase as begin
    from penstock.doors.erasure import resume

    out = Output(as_json=as_json)
    streams = tuple(text for text in what or () if "=" not in text)
    key = dict(text.split("=", 1) for text in what or () if "=" in text)
    if not go_on and not reason:
        raise DoorError("an erasure has a reason", found="none", remedy="penstock erase user_id=7 --reason '...'")
    with Deployment(project) as deployment, out.progress("erasing", None) as step:

        def tell(number: int, total: int, name: str) -> None:
            step(number, f"{number + 1} of {total}: {name}")
            out.record(stage=name, number=number + 1, of=total)

        if go_on:
            done = resume(deployment, tell=tell)
        else:
            done = begin(deployment, key, streams, reason=reason, author=author or getpass.getuser(), tell=tell)
    if done is None:
        out.say("nothing was broken off")
        out.record(rows=0, topics=[])
        return
    out.say(f"erased: {done.rows:,} rows went or changed; {', '.join(done.topics)}")
    out.record(rows=done.rows, topics=done.topics)
