"""`penstock ingest`: the HTTP door."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output

__all__ = ["ingest"]


def ingest(
    host: Annotated[str, typer.Option(help="Where to listen; others than loopback need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8700,
    token_file: Annotated[Path | None, typer.Option(help="Holds the token; else $PENSTOCK_TOKEN.")] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Take events by POST /v1/streams/{name} until stopped."""
    from penstock.doors.deployment import Deployment
    from penstock.server.run import read_token, run_ingest

    out = Output(as_json=as_json)
    token = read_token(token_file)

    def ready(url: str) -> None:
        out.record(url=url)
        out.say(f"taking events at {url}/v1/streams/NAME" + ("" if token else " (this machine only, no token)"))

    with Deployment(project) as deployment:
        run_ingest(deployment, host=host, port=port, token=token, ready=ready)
