"""Supervises any outside process that reports its position by HTTP."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from pydantic import Field

from penstock.components.contract import Parameters, StreamComponent, StreamContext
from penstock.errors import WorkflowError

__all__ = ["StreamCommand", "StreamCommandParameters"]

_MOST_BYTES: Final = 1 << 16
_KINDS: Final = {"watermark": int, "frontier": int, "offset": int, "rows": int, "lag": int | float}


class StreamCommandParameters(Parameters):
    """What to run, and how long it may take to stop."""

    command: str = Field(description="A command line for the shell", json_schema_extra={"widget": "code"})
    stop_s: float = Field(default=20.0, gt=0, description="Seconds from SIGTERM until it is killed")


class StreamCommand(StreamComponent):
    """Runs a command and takes its progress by HTTP.

    The process finds an address in `PENSTOCK_REPORT_URL` and a token in `PENSTOCK_REPORT_TOKEN`, and posts JSON such as
    `{"watermark": 1700000000000000, "offset": 17}` with `Authorization: Bearer TOKEN`: instants in UTC microseconds.
    `stop` and `drain` send SIGTERM, `reload` SIGHUP once it has reported for the first time, a shut gate SIGSTOP and an
    open one SIGCONT, to its whole group.
    """

    name = "stream_command"
    parameters = StreamCommandParameters

    def run(self, context: StreamContext, parameters: StreamCommandParameters) -> None:
        """Runs the command until told to stop; its own end is a crash."""
        token = secrets.token_urlsafe(24)
        reported = threading.Event()
        server = _server(context, token, reported)
        threading.Thread(target=server.serve_forever, name="report", daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        child = subprocess.Popen(  # noqa: S602  a command line is what this component is for
            parameters.command,
            shell=True,
            cwd=context.folder,
            env=os.environ
            | {"PENSTOCK_REPORT_URL": address, "PENSTOCK_REPORT_TOKEN": token}
            | {"PENSTOCK_JOB": context.job, "PENSTOCK_PROJECT": str(context.project)},
            process_group=0,
        )
        try:
            self._follow(context, parameters, child, reported)
        finally:
            _signal(child, signal.SIGKILL)
            child.wait()
            server.shutdown()
            server.server_close()

    def _follow(
        self,
        context: StreamContext,
        parameters: StreamCommandParameters,
        child: subprocess.Popen[Any],
        reported: threading.Event,
    ) -> None:
        reload = False
        while True:
            for command in context.commands():
                match command:
                    case "stop" | "drain":
                        _signal(child, signal.SIGCONT)
                        _signal(child, signal.SIGTERM)
                        with contextlib.suppress(subprocess.TimeoutExpired):
                            child.wait(parameters.stop_s)
                        return
                    case "reload":
                        reload = True
                    case "pause":
                        _signal(child, signal.SIGSTOP)
                    case "resume":
                        _signal(child, signal.SIGCONT)
            # A process that has not reported yet may have no handler yet, and SIGHUP would end it.
            if reload and reported.is_set():
                reload = False
                _signal(child, signal.SIGHUP)
            if (code := child.poll()) is not None:
                raise WorkflowError(
                    "the command runs until it is told to stop",
                    found=f"it ended with code {code}",
                    remedy="see the job's log",
                )
            context.wait(50_000)


def _signal(child: subprocess.Popen[Any], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _server(context: StreamContext, token: str, reported: threading.Event) -> ThreadingHTTPServer:
    class Reports(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                self.send_error(401, "the token of PENSTOCK_REPORT_TOKEN is missing")
                return
            try:
                size = int(self.headers.get("Content-Length", ""))
                facts = json.loads(self.rfile.read(size)) if 0 <= size <= _MOST_BYTES else None
            except ValueError:
                facts = None
            if not isinstance(facts, dict) or any(
                kind not in _KINDS or isinstance(value, bool) or not isinstance(value, _KINDS[kind])
                for kind, value in facts.items()
            ):
                self.send_error(400, "a JSON object of watermark, frontier, offset, rows, lag as numbers")
                return
            for kind, value in facts.items():
                context.report(kind, value)
            reported.set()
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            """Says nothing: a line for every report would fill the log."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Reports)
