"""Runs the server of a project: `python -m penstock.server.control.run PROJECT PORT`."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import uvicorn

from penstock.errors import PenstockError
from penstock.server.address import listen
from penstock.server.control.access import read_or_make_token
from penstock.server.control.app import make_app
from penstock.workflows.control import Control

__all__ = ["SERVER_FILE", "main", "serve"]

SERVER_FILE = "server.json"


def serve(project: Path, port: int) -> None:
    """Serves until SIGINT or SIGTERM; writes its address to `.penstock/run/server.json`.

    Args:
        project: the folder of definitions.
        port: on loopback; 0 takes a free one.

    Raises:
        PenstockError: the address is in use, or the state cannot be read.
    """
    control = Control(project)
    listener = listen("127.0.0.1", port)
    address = control.state / "run" / SERVER_FILE
    address.parent.mkdir(parents=True, exist_ok=True)
    part = address.with_suffix(f".{os.getpid()}")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    part.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    part.replace(address)
    app = make_app(control, read_or_make_token(control.state))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ws="none", server_header=False, timeout_graceful_shutdown=2
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()


def main(arguments: list[str]) -> int:
    """Reads the arguments and serves; with `--standby` only after a line has come on standard input."""
    if "--standby" in arguments and not sys.stdin.readline():
        return 0  # whoever kept it ready has ended
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        serve(Path(arguments[0]), int(arguments[1]))
    except PenstockError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201  edge of the process
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
