"""Runs the HTTP door of a deployment until it is told to stop."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn

from penstock.doors.deployment import Deployment
from penstock.errors import DoorError
from penstock.server.address import listen
from penstock.server.app import IngestApp, Limits

__all__ = ["TOKEN_VARIABLE", "read_token", "run_ingest"]

TOKEN_VARIABLE: Final = "PENSTOCK_TOKEN"  # noqa: S105  the name of a variable


def read_token(file: Path | None = None) -> str | None:
    """The token that requests must show: from a file, or from PENSTOCK_TOKEN; None for none.

    Raises:
        DoorError: the file cannot be read or is empty.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = file.read_text().strip()
    except OSError as error:
        raise DoorError(
            "the token's file can be read", found=str(error), remedy="look at its path and rights"
        ) from error
    if not token:
        raise DoorError("the token's file holds a token", found="nothing", remedy="write one", where=str(file))
    return token


def run_ingest(
    deployment: Deployment,
    *,
    host: str = "127.0.0.1",
    port: int = 8700,
    token: str | None = None,
    limits: Limits | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM; what is under way is committed and answered first.

    Args:
        port: 0 takes a free one.
        ready: called with the URL once connections are taken.

    Raises:
        DoorError: the address is in use, or is open to others without a token.
    """
    if token is None and not _is_loopback(host):
        raise DoorError(
            f"others than this machine show a token at {host}",
            found="no token",
            remedy=f"export {TOKEN_VARIABLE}=..., or listen on 127.0.0.1",
        )
    app = IngestApp(deployment, token=token, limits=limits)
    listener = listen(host, port)
    if ready is not None:
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listener.getsockname()[1]}")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        backlog=1024,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
