"""Prefect as a peer of the workflow benchmark: flows of no-op tasks against its own server with its SQLite file.

`python -m bench.workflow_prefect SHAPE N REPEAT FOLDER` runs in an environment that has no more than Prefect, and
prints as `bench.workflow_measure.Rounds` says. `trigger` asks a task server, to which the server pushes, its fastest.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.workflow_measure import BODIES, Body, Rounds

__all__: list[str] = []


@contextmanager
def server(folder: Path) -> Iterator[None]:
    """Its server, answering; without the parts of a page and of analytics."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ |= {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui", "--analytics-off"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while not answers(os.environ["PREFECT_API_URL"] + "/health"):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("Prefect's server does not answer: " + (folder / "server.log").read_text()[-300:])
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(60)


def answers(url: str) -> bool:
    """Whether something answers."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def body() -> Body:
    """Nothing."""
    began = time.monotonic_ns()
    return began, time.monotonic_ns()


def flows() -> dict[str, Any]:
    """Flows: tasks submitted to two threads, one after another, and ten in an order."""
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    nothing = task(body, name="nothing")

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def fan(n: int) -> list[Body]:
        return [future.result() for future in [nothing.submit() for _ in range(n)]]

    @flow
    def chain(n: int) -> list[Body]:
        return [nothing() for _ in range(n)]

    @task(name="nothing")
    async def later() -> Body:
        return body()

    @flow
    async def ten() -> list[Body]:
        return [await later(), *await asyncio.gather(*[later() for _ in range(8)]), await later()]

    async def several(n: int) -> list[Body]:
        return [b for run in await asyncio.gather(*[ten() for _ in range(n)]) for b in run]

    return {"fan": fan, "chain": chain, "many": lambda n: asyncio.run(several(n))}


def serve(folder: Path) -> None:
    """Serves the task that says into the folder when it ran."""
    from prefect.task_worker import serve as serve_tasks

    serve_tasks(saying(folder))


def saying(folder: Path) -> Any:
    """A task that says when it ran."""
    from prefect import task

    @task(name="saying", persist_result=False)
    def said(number: int) -> None:
        began, ended = body()
        with (folder / BODIES).open("a") as out:
            out.write(f"{number} {began} {ended}\n")

    return said


def trigger(n: int, folder: Path) -> Rounds:
    """From asking for a task to its body, in another process; the first, which waits for its start, is not kept."""
    worker = subprocess.Popen([sys.executable, "-m", "bench.workflow_prefect", "serve", "0", "0", str(folder)])
    seen, told = folder / BODIES, saying(folder)
    found = Rounds(version("prefect"))
    seen.touch()
    try:
        for number in range(n + 1):
            asked = time.monotonic_ns()
            told.delay(number)
            while len(lines := seen.read_text().splitlines()) <= number:
                time.sleep(0.005)
            _, began, ended = map(int, lines[-1].split())
            found.add(asked, ended, [(began, ended)])
    finally:
        worker.terminate()
        worker.wait(30)
    del found.rounds[:1]
    return found


def run(shape: str, n: int, repeat: int, folder: Path) -> Rounds:
    """A shape against a server of its own; the first round, small, is not counted."""
    rounds = Rounds(version("prefect"))
    with server(folder):
        if shape == "trigger":
            return trigger(n, folder)
        one = flows()[shape]
        one(2)
        for _ in range(repeat):
            asked = time.monotonic_ns()
            bodies = one(n)
            rounds.add(asked, time.monotonic_ns(), bodies)
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=("fan", "chain", "many", "trigger", "serve"))
    parser.add_argument("n", type=int)
    parser.add_argument("repeat", type=int)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.shape == "serve":
        serve(args.folder)
    else:
        print(run(args.shape, args.n, args.repeat, args.folder).written(), flush=True)


if __name__ == "__main__":
    main()
