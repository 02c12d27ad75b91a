"""DBOS as a peer of the workflow benchmark: durable workflows of no-op steps over its SQLite file.

`python -m bench.workflow_dbos SHAPE N FOLDER` runs in an environment that has no more than DBOS, and prints as
`bench.workflow_measure.Rounds` says. `recover` runs or goes on with one fan, and appends what its bodies say to FOLDER.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.workflow_measure import BODIES, Body, Rounds

__all__: list[str] = []


def launch(folder: Path) -> Any:
    """DBOS over a file in the folder, with what it finds there going on."""
    from dbos import DBOS

    DBOS(
        config={
            "name": "peer",
            "system_database_url": f"sqlite:///{folder}/dbos.sqlite",
            "log_level": "ERROR",
            "application_version": "1",
        }
    )
    return DBOS


def shapes(one: Any, folder: Path) -> dict[str, Callable[..., Any]]:
    """The workflows; what is parallel in them is awaited together."""
    seen = os.open(folder / BODIES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def body() -> Body:
        began = time.monotonic_ns()
        return began, time.monotonic_ns()

    @one.step()  # type: ignore[untyped-decorator]
    def step() -> Body:
        return body()

    @one.step()  # type: ignore[untyped-decorator]
    async def nothing() -> Body:
        return body()

    @one.step()  # type: ignore[untyped-decorator]
    async def said(number: int) -> Body:
        began, ended = body()
        os.write(seen, f"{number} {began} {ended}\n".encode())
        return began, ended

    @one.workflow()  # type: ignore[untyped-decorator]
    async def fan(n: int) -> list[Body]:
        return await asyncio.gather(*[nothing() for _ in range(n)])

    @one.workflow()  # type: ignore[untyped-decorator]
    async def saying(n: int) -> list[Body]:
        return await asyncio.gather(*map(said, range(n)))

    @one.workflow()  # type: ignore[untyped-decorator]
    def chain(n: int) -> list[Body]:
        return [step() for _ in range(n)]

    @one.workflow()  # type: ignore[untyped-decorator]
    async def ten() -> list[Body]:
        return [await nothing(), *await asyncio.gather(*[nothing() for _ in range(8)]), await nothing()]

    return {"fan": fan, "saying": saying, "chain": chain, "ten": ten}


def over_http(one: Any, chain: Callable[..., Any], n: int) -> Rounds:
    """Requests to a plain server in the same process, which starts a workflow of one step and answers."""
    rounds = Rounds(version("dbos"))
    handles: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            handles.append(one.start_workflow(chain, 1))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for _ in range(n + 1):
        asked = time.monotonic_ns()
        request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/", method="POST")
        urllib.request.urlopen(request).close()
        found = handles[-1].get_result()
        rounds.add(asked, time.monotonic_ns(), found)
    server.shutdown()
    return rounds


def run(shape: str, n: int, repeat: int, folder: Path) -> Rounds:
    """A shape, from the program's start; the first round of each is not counted."""
    one = launch(folder)
    flows = shapes(one, folder)
    one.launch()
    rounds = Rounds(version("dbos"))
    if shape == "trigger":
        rounds = over_http(one, flows["chain"], n)
    elif shape == "recover":
        from dbos import SetWorkflowID

        with SetWorkflowID("the one"):
            one.start_workflow(flows["saying"], n).get_result()
    else:
        for i in range(repeat + 1):
            asked = time.monotonic_ns()
            if shape == "many":
                handles = [one.start_workflow(flows["ten"]) for _ in range(n)]
                found = [b for handle in handles for b in handle.get_result()]
            else:
                found = one.start_workflow(flows[shape], n if i else 10).get_result()
            rounds.add(asked, time.monotonic_ns(), found)
    del rounds.rounds[:1]
    one.destroy()
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=("fan", "chain", "many", "trigger", "recover"))
    parser.add_argument("n", type=int)
    parser.add_argument("repeat", type=int)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    print(run(args.shape, args.n, args.repeat, args.folder).written(), flush=True)


if __name__ == "__main__":
    main()
