"""The scheduler by itself, and reading a long history.

    python -m bench.workflow_core fan|chain|many [--slots 2]
    python -m bench.workflow_core history [--node-runs 1000000]

The first three run the production step, store (SQLite, synchronous=FULL) and loop with an executor that ends each task
as soon as it is started: what a task costs before any process does anything. `history` fills a database with ended runs
and times what a page, a command line and a restart read. The last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.report import last_line
from penstock.clock import WallClock
from penstock.names import fingerprint
from penstock.store.meta import Meta, RowChange, RowStore
from penstock.store.meta.rows import CoverageRow, IntervalRow, NodeRow, RunRow
from penstock.workflows.core.requests import Apply, StartRun
from penstock.workflows.core.state import State
from penstock.workflows.loading import load_state
from penstock.workflows.messages import Acknowledged, Assignment, Ended, Hello, Kill, TaskRef
from penstock.workflows.scheduler import Scheduler
from penstock.workflows.spec.model import Node, WorkflowSpec

HOUR_US = 3_600_000_000


class Immediate:
    """An executor whose tasks end as soon as they are started."""

    def __init__(self, slots: int) -> None:
        self.many = slots
        self.receive: Callable[[Any], None] = lambda message: None

    def listen(self, receive: Callable[[Any], None]) -> None:
        self.receive = receive
        receive(Hello("here", "default", self.many, ()))

    def slots(self) -> int:
        return self.many

    def start(self, assignments: list[Assignment]) -> None:
        for order in assignments:
            self.receive(Ended("here", order.task, "done", {"n": 1}))

    def kill(self, order: Kill) -> None:
        return None

    def acknowledge(self, acknowledgements: list[Acknowledged]) -> None:
        return None

    def running(self) -> tuple[TaskRef, ...]:
        return ()

    def close(self) -> None:
        return None


class NoStreams:
    """A supervisor of nothing."""

    def listen(self, receive: Callable[[Any], None]) -> None:
        return None

    want = command = watch = listen

    def close(self) -> None:
        return None


def after(*names: str) -> list[dict[str, str]]:
    return [{"when": f'status({name}) == "done"'} for name in names]


def batch(name: str, *before: str) -> Node:
    return Node.model_validate({"name": name, "kind": "batch", "component": "none", "edges": after(*before)})


def shaped(shape: str) -> tuple[list[Node], int]:
    """Nodes and number of runs."""
    if shape == "fan":
        names = [f"n{i}" for i in range(1_000)]
        return [batch("root"), *(batch(name, "root") for name in names), batch("end", *names)], 1
    length, runs = (100, 1) if shape == "chain" else (10, 100)
    return [batch("n0"), *(batch(f"n{i}", f"n{i - 1}") for i in range(1, length))], runs


def run_shape(shape: str, slots: int, folder: Path) -> dict[str, Any]:
    nodes, runs = shaped(shape)
    spec = WorkflowSpec.model_validate({"name": "w", "nodes": nodes, "overlap": {"how": "parallel", "limit": runs}})
    text = spec.model_dump_json()
    left, over, ends = runs, threading.Event(), list[int]()

    def see(changes: list[RowChange]) -> None:
        nonlocal left
        ends.extend(time.perf_counter_ns() for _, row in changes if isinstance(row, NodeRow) and row.state == "done")
        left -= sum(isinstance(row, RunRow) and row.ended_us is not None for _, row in changes)
        if left <= 0:
            over.set()

    with Meta.open(folder / "meta.db", clock=WallClock()) as meta:
        store = RowStore(meta.engine)
        scheduler = Scheduler(store, WallClock(), Immediate(slots), NoStreams())
        scheduler.start()
        scheduler.post(Apply("w", text, fingerprint(text), "bench", "bench")).result()
        scheduler.subscribe(see)
        began, cpu = time.perf_counter(), time.process_time()
        for number in range(runs):
            scheduler.tell(StartRun(f"r{number}", "w"))
        over.wait()
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        scheduler.close()
        store.close()
    tasks = len(nodes) * runs
    found: dict[str, Any] = {
        "tasks": tasks,
        "tasks_per_s": round(tasks / wall_s),
        "tasks_per_cpu_s": round(tasks / cpu_s),
    }
    if shape == "chain":
        edges = sorted((b - a) / 1e6 for a, b in pairwise(ends))
        found |= {"edge_p50_ms": round(statistics.median(edges), 2), "edge_p99_ms": round(edges[-2], 2)}
    return found


def fill(store: RowStore, node_runs: int) -> None:
    """Ended runs of ten nodes, of 160 workflows, an hour each."""
    for first in range(0, node_runs // 10, 2_000):
        changes: list[RowChange] = []
        for number in range(first, min(first + 2_000, node_runs // 10)):
            changes += [RowChange(None, row) for row in one_run(number)]
        store.commit(changes)
    hours = max(1, node_runs // 1_600)
    covered = [CoverageRow(f"w{w}.n{n}", 0, hours * HOUR_US) for w in range(160) for n in range(10)]
    store.commit([RowChange(None, row) for row in covered])


def one_run(number: int) -> list[RunRow | NodeRow | IntervalRow]:
    workflow, hour, at = f"w{number % 160}", number // 160, 1_700_000_000_000_000 + number * 1_000_000
    run, state = f"{workflow}.schedule.{at}", "failed" if number % 50 == 7 else "done"
    low, high = hour * HOUR_US, (hour + 1) * HOUR_US
    rows: list[RunRow | NodeRow | IntervalRow] = [
        RunRow(
            run,
            workflow,
            1,
            "schedule",
            "",
            0,
            number + 1,
            low,
            high,
            "{}",
            "",
            "{}",
            "",
            "",
            "",
            at,
            state,
            1,
            at,
            at + 9,
            "",
        )
    ]
    for n in range(10):
        ended = state if n == 9 else "done"
        times = (at, at, at + 5, None, None)
        rows.append(NodeRow(run, f"n{n}", workflow, at, ended, 1, 1, 0, "worker", *times, '{"rows":5}', "{}", "", ""))
        rows.append(IntervalRow(f"{workflow}.n{n}", low, high, number * 10 + n, "UTC", run, at))
    return rows


QUERIES = {
    "list": "SELECT * FROM node_runs ORDER BY created_us DESC, run DESC LIMIT 100",
    "filter_failed": "SELECT * FROM node_runs WHERE state = 'failed' ORDER BY created_us DESC LIMIT 100",
    "filter_node": "SELECT * FROM node_runs WHERE workflow = 'w5' AND node = 'n3' ORDER BY created_us DESC LIMIT 100",
    "filter_runs": "SELECT * FROM runs WHERE workflow = 'w5' AND state = 'failed' ORDER BY created_us DESC LIMIT 100",
    "chart_runs": "SELECT created_us / 86400000000, state, COUNT(*) FROM runs GROUP BY 1, 2",
    "chart_node_runs": "SELECT state, COUNT(*) FROM node_runs GROUP BY state",
    "chart_workflow": "SELECT node, AVG(ended_us - started_us) FROM node_runs WHERE workflow = 'w5' GROUP BY node",
}


def run_history(node_runs: int, folder: Path) -> dict[str, Any]:
    with Meta.open(folder / "meta.db", clock=WallClock()) as meta:
        store = RowStore(meta.engine)
        fill(store, node_runs)
        found: dict[str, Any] = {"node_runs": node_runs}
        for name, sql in QUERIES.items():
            took = []
            for _ in range(5):
                began = time.perf_counter()
                store.query(sql)
                took.append(time.perf_counter() - began)
            found[f"{name}_ms"] = round(statistics.median(took) * 1e3, 1)
        began = time.perf_counter()
        load_state(store, State())
        found["restart_reads_ms"] = round((time.perf_counter() - began) * 1e3, 1)
        store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=["fan", "chain", "many", "history"])
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--node-runs", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.shape == "history":
            found = run_history(options.node_runs, Path(folder))
            figure, unit = max(found[f"{name}_ms"] for name in QUERIES), "ms for the slowest of its queries"
        else:
            found = run_shape(options.shape, options.slots, Path(folder))
            figure, unit = found["tasks_per_cpu_s"], "tasks per CPU-second"
    mode = f"{options.shape}, SQLite, synchronous=FULL"
    last_line("workflow_core", figure, unit, found, {}, mode=mode, more_is_better=options.shape != "history")


if __name__ == "__main__":
    main()
