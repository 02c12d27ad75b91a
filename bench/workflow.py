"""The workflow benchmark: shapes of runs under `penstock up`, durable, beside a process pool and schedulers.

    python -m bench.workflow fan|chain|many|isolated|trigger|watermark|recover|day [--peers pool,dbos,prefect,luigi]

Ours is measured through the public doors: a deployment of its own processes, runs started over HTTP, and the instants
that the task bodies themselves wrote (the machine's monotonic clock, which all processes share).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.report import Peer, last_line
from bench.workflow_measure import Body, edges_ms, quantiles, rate
from bench.workflow_peers import PEERS
from bench.workflow_project import write_project
from penstock.cli.remote import Remote
from penstock.errors import PenstockError

MODE = "SQLite, synchronous=FULL: every state change is durable before it is acted upon; tasks in warm processes"


class Deployment:
    """A project under `penstock up`."""

    def __init__(self, folder: Path, **shapes: Any) -> None:
        self.folder = folder
        write_project(folder, **shapes)
        self.log = folder / "up.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock.cli", "up", "--port", "0", "-C", str(folder)],
                stdout=log,
                stderr=log,
            )
        self.until(lambda: "workflow " in self.log.read_text(), 300)
        self.remote = Remote(folder)

    def until(self, holds: Callable[[], Any], limit_s: float = 300.0, step_s: float = 0.02) -> Any:
        """Waits until something holds."""
        end = time.monotonic() + limit_s
        while not (found := holds()):
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit(f"the deployment does not come on:\n{self.log.read_text()[-2000:]}")
            time.sleep(step_s)
        return found

    def start(self, workflow: str, run: str) -> None:
        """Starts a run; returns when it is durable."""
        self.remote.post("runs", {"workflow": workflow, "run": run})

    def has_ended(self, workflow: str, runs: list[str]) -> bool:
        """Whether runs, the newest of their workflow, have ended. Their nodes are not read: it costs."""
        try:
            rows = self.remote.get("runs", workflow=workflow, limit=len(runs))
        except PenstockError:  # the server has been killed: the next one is asked, at its own address
            with contextlib.suppress(PenstockError):
                self.remote = Remote(self.folder)
            return False
        return set(runs) <= {row["run"] for row in rows if row["state"] in ("done", "failed")}

    def bodies(self, run: str) -> dict[str, Body]:
        """When each node's body began and ended, in monotonic nanoseconds."""
        nodes = self.remote.get(f"runs/{run}")["nodes"]
        return {n["node"]: tuple(n["outputs"]["result"]) for n in nodes if n["state"] == "done"}

    def finish(self, workflow: str, run: str, count: int = 1) -> tuple[dict[str, Body], int]:
        """Starts a run, or several, and waits for their end: all bodies, and when the first was asked for."""
        asked = time.monotonic_ns()
        names = [run] if count == 1 else [f"{run}.{i}" for i in range(count)]
        for name in names:
            self.start(workflow, name)
        self.until(lambda: self.has_ended(workflow, names), step_s=0.05)
        found: dict[str, Body] = {}
        for name in names:
            found |= {f"{name}/{node}": body for node, body in self.bodies(name).items()}
        return found, asked

    def parts(self, word: str) -> list[int]:
        """Pids of this project's processes whose command line has a word."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if word.encode() in command and str(self.folder).encode() in command:
                found.append(int(entry.name))
        return found

    def cpu_s(self) -> float:
        """CPU-seconds of all its living processes and their dead children."""
        total = 0
        for pid in [self.process.pid, *self.parts("penstock")]:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            total += sum(map(int, fields[11:15]))
        return total / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Ends it with its streams."""
        command = [sys.executable, "-m", "penstock.cli", "down", "-C", str(self.folder)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def deployed(**shapes: Any) -> Iterator[Deployment]:
    """A deployment in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        one = Deployment(Path(folder), **shapes)
        try:
            yield one
        finally:
            one.close()


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def fan(args: argparse.Namespace) -> dict[str, Any]:
    """1,000 no-op tasks of one run."""
    with deployed(fan=args.n) as one:
        one.finish("trigger", "warm")
        rates, cpu = [], []
        for i in range(args.repeat):
            before = one.cpu_s()
            bodies, asked = one.finish("fan", f"r{i}")
            rates.append(rate(bodies.values(), asked))
            cpu.append(len(bodies) / (one.cpu_s() - before))
        return {"tasks_per_s": statistics.median(rates), "tasks_per_cpu_s": statistics.median(cpu), "tasks": args.n}


def chain(args: argparse.Namespace) -> dict[str, Any]:
    """100 tasks one after another."""
    with deployed(chain=args.n) as one:
        one.finish("trigger", "warm")
        found: list[float] = []
        rates = []
        for i in range(args.repeat):
            bodies, asked = one.finish("chain", f"r{i}")
            found += edges_ms(bodies.values())
            rates.append(rate(bodies.values(), asked))
        edge = quantiles(found)
        return {"tasks_per_s": statistics.median(rates), "edge_p50_ms": edge["p50"], "edge_p99_ms": edge["p99"]}


def many(args: argparse.Namespace) -> dict[str, Any]:
    """100 runs of 10 tasks together; every one must end."""
    with deployed(runs=args.n) as one:
        one.finish("trigger", "warm")
        bodies, asked = one.finish("many", "r", args.n)
        return {
            "tasks_per_s": rate(bodies.values(), asked),
            "runs": args.n,
            "ended": len({k.rpartition("/")[0] for k in bodies}),
        }


def isolated(args: argparse.Namespace) -> dict[str, Any]:
    """Tasks with limits of their own: each in a process that served no other."""
    with deployed(isolated=args.n) as one:
        one.finish("trigger", "warm")
        bodies, asked = one.finish("isolated", "r0")
        edge = quantiles(edges_ms(one.finish("isolated_chain", "c0")[0].values()))
        return {"tasks_per_s": rate(bodies.values(), asked), "edge_p50_ms": edge["p50"], "edge_p99_ms": edge["p99"]}


def trigger(args: argparse.Namespace) -> dict[str, Any]:
    """From a request over HTTP to the beginning of the task's body."""
    with deployed() as one:
        one.finish("trigger", "warm")
        found = []
        for i in range(args.n):
            bodies, asked = one.finish("trigger", f"r{i}")
            found.append((min(begin for begin, _ in bodies.values()) - asked) / 1e6)
        edge = quantiles(found)
        return {"tasks_per_s": 1e3 / edge["p50"], "edge_p50_ms": edge["p50"], "edge_p99_ms": edge["p99"]}


def watermark(args: argparse.Namespace) -> dict[str, Any]:
    """From a stream's telling its watermark to the beginning of the batch task that waited for it."""
    with deployed(watermark=True) as one:
        one.until(lambda: len(one.remote.get("runs", workflow="ticks", state="done", limit=1000)) >= args.n)
        one.remote.post("jobs/ticks.ticker/stop")
        ticks = one.folder / ".penstock" / "streams" / "ticks.ticker" / "ticks"
        told = dict(map(int, line.split()) for line in ticks.read_text().splitlines())
        found = []
        for run in one.remote.get("runs", workflow="ticks", limit=1000, state="done"):
            begin = one.bodies(run["run"])["n0"][0]
            found.append((begin - told[run["interval_end_us"] // 1_000_000]) / 1e6)
        edge = quantiles(found)
        return {"tasks_per_s": 1e3 / edge["p50"], "edge_p50_ms": edge["p50"], "edge_p99_ms": edge["p99"]}


def recover(args: argparse.Namespace) -> dict[str, Any]:
    """kill -9 of the server in the middle of a fan: until the next body begins, by itself; no body runs twice."""
    with deployed(fan=args.n) as one:
        one.finish("trigger", "warm")
        found = []
        for i in range(args.repeat):
            one.start("fan", f"r{i}")
            time.sleep(0.4)
            server = json.loads((one.folder / ".penstock" / "run" / "server.json").read_text())["pid"]
            killed = time.monotonic_ns()
            os.kill(server, signal.SIGKILL)
            one.until(lambda i=i: one.has_ended("fan", [f"r{i}"]), step_s=0.1)
            bodies = one.bodies(f"r{i}")
            after = sorted(begin for begin, _ in bodies.values() if begin > killed + 50_000_000)
            found.append((after[0] - killed) / 1e9 if after else 0.0)
        return {
            "tasks_per_s": 1 / max(statistics.median(found), 1e-9),
            "progress_s": statistics.median(found),
            "kills": args.repeat,
        }


def day(args: argparse.Namespace) -> dict[str, Any]:
    """1,600 workflows that fire at the same minute, a day's busiest moment: drift of each firing, none lost."""
    each = max(1, args.n // 1600)
    with deployed(day=(1600, each, "* * * * *")) as one:
        seen: dict[str, Any] = {}

        def all_ended() -> bool:
            rows = [r for r in one.remote.get("runs", limit=1000) if r["trigger"] == "schedule"]
            rows += (
                one.remote.get("runs", limit=1000, state="done", before=rows[-1]["run"]) if len(rows) == 1000 else []
            )
            seen.update({r["run"]: r for r in rows})
            return sum(r["state"] == "done" for r in seen.values()) >= 1600

        one.until(all_ended, 600, 0.5)
        drift = [(r["created_us"] - int(r["run"].rpartition(".")[2])) / 1e6 for r in seen.values()]
        ends = max(r["ended_us"] or 0 for r in seen.values()) - min(r["created_us"] for r in seen.values())
        found = quantiles(drift)
        return {
            "tasks_per_s": len(seen) * each / (ends / 1e6),
            "drift_p50_s": found["p50"],
            "drift_p99_s": found["p99"],
            "firings": len(seen),
        }


SHAPES: dict[str, tuple[Callable[[argparse.Namespace], dict[str, Any]], int]] = {
    "fan": (fan, 1000),
    "chain": (chain, 100),
    "many": (many, 100),
    "isolated": (isolated, 60),
    "trigger": (trigger, 50),
    "watermark": (watermark, 50),
    "recover": (recover, 2000),
    "day": (day, 16_000),
}


def _nothing(_: int) -> int:
    return time.monotonic_ns()


def pool(shape: str, n: int) -> Peer | None:
    """The floor: a process pool that keeps nothing, and so has nothing to recover."""
    if shape == "recover":
        return None
    version = f"concurrent.futures, Python {sys.version.split()[0]}"
    note = "keeps nothing: no state, no order, no retries"
    with ProcessPoolExecutor(2) as executor:
        executor.submit(_nothing, 0).result()
        began = time.perf_counter()
        if shape in ("chain", "trigger", "watermark"):
            for _ in range(n):
                executor.submit(_nothing, 0).result()
        else:
            list(executor.map(_nothing, range(n)))
        return Peer(version, n / (time.perf_counter() - began), n, True, note)


def main() -> None:
    """Runs a shape, ours and the peers', and ends with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--n", type=int, help="tasks, runs or triggers")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", default=",".join(("pool", *PEERS)))
    args = parser.parse_args()
    run, default = SHAPES[args.shape]
    args.n = args.n or default
    ours = run(args)
    peers: dict[str, Peer] = {}
    for name in filter(None, args.peers.split(",")):
        found = pool(args.shape, args.n) if name == "pool" else PEERS[name](args.shape, args.n, args.repeat)
        if found is not None:
            peers[name] = found
    print(json.dumps(_rounded({k: v for k, v in ours.items() if isinstance(v, float)})))
    shown = {name: round(value, 3) if isinstance(value, float) else value for name, value in ours.items()}
    last_line("workflow", shown["tasks_per_s"], f"tasks/s, {args.shape}", shown, peers, mode=MODE)


if __name__ == "__main__":
    main()
