"""Workload W live, from the log to committed rows and readable state, exactly once; and how fresh state is under load.

Events lie in an embedded log (synced commits of 10,000 rows); the job reads them, journals, applies them to the state
of the group with its 32 columns and, with rows out, appends the exact features of every event to a derived topic.
Freshness: rows are appended at a steady rate, and for each commit the time until the state's header shows it is taken.
Run: python -m bench.live [--n 300000] [--rate 20000]
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import penstock.define as ps
from bench.report import Meter, last_line
from bench.workload import WINDOWS, Workload, write
from penstock.clock import WallClock
from penstock.define.project import Definitions
from penstock.engine.live.job import LiveJob, Options
from penstock.plan import plan
from penstock.plan.ir import Plan
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import Append, TopicConfig

COMMIT_ROWS = 10_000
MILLISECOND_US = 1_000


def definitions(keys: str) -> Plan:
    types = {"user_id": keys, "happened_at": "instant", "known_at": "instant", "amount": "int", "category": "int"}
    events = ps.stream("events", time="happened_at", known="known_at", schema=types)
    exact = [ps.window(name, hop="exact") for name in WINDOWS]
    amounts = events.by("user_id").over(*exact).features(
        "amounts", count=ps.count(), sum=ps.sum("amount"), mean=ps.mean("amount"), min=ps.min("amount"),
        max=ps.max("amount"), std=ps.std("amount"),
    )  # fmt: skip
    newest = events.by("user_id").features("newest", last=ps.last("amount"))
    return plan(Definitions.of(amounts, newest))


def feed(log: EmbeddedLog, planned: Plan, events: pa.Table) -> None:
    name = planned.relations["events"].name
    log.create_topic(name, planned.relations["events"].schema.arrow, TopicConfig(clock="source"))
    table = events.append_column(EVENT_TIME, events["happened_at"].cast(pa.int64()))
    table = table.append_column(KNOWN_TIME, events["known_at"].cast(pa.int64()))
    known = table[KNOWN_TIME].to_numpy()
    for first in range(0, table.num_rows, COMMIT_ROWS):
        rows = table.slice(first, COMMIT_ROWS)
        log.append_all([Append(str(name), rows, frontier_us=int(known[first + rows.num_rows - 1]))])


def throughput(folder: Path, w: Workload, emit: bool, batch_rows: int) -> dict[str, object]:
    events, _ = write(folder, w)
    planned = definitions("int" if w.keys == "int" else "text")
    state = Path(tempfile.mkdtemp(dir=folder))
    with EmbeddedLog.open(state / "log", clock=WallClock()) as log:
        feed(log, planned, pq.read_table(events))
        emitted = ("amounts",) if emit else ()
        options = Options(max_rows=batch_rows, checkpoint_s=5.0)
        job = LiveJob(planned, log, state / "state", WallClock(), emit=emitted, options=options)
        meter, slowest = Meter(), list[float]()
        while True:
            began_s = time.perf_counter()
            if not job.step():
                break
            slowest.append(time.perf_counter() - began_s)
        cost = meter.cost()
        counts = job._flow.groups[planned.groups["amounts"].fingerprint].keyed.counts()
        metrics = job.metrics
        written = metrics.checkpoint_bytes + metrics.journal_bytes
        job.close()
    return {
        "events": metrics.rows_in,
        "events_per_s": round(metrics.rows_in / cost.wall_s),
        "events_per_cpu_s": round(metrics.rows_in / cost.cpu_s),
        "batch_ms_p50": round(1e3 * float(np.percentile(slowest, 50)), 2),
        "batch_ms_p99": round(1e3 * float(np.percentile(slowest, 99)), 2),
        "checkpoints": metrics.checkpoints,
        "state_bytes_per_key": round(metrics.state_bytes / max(counts.keys, 1)),
        "state_bytes_per_event": round(metrics.state_bytes / max(counts.rows, 1), 1),
        "bytes_written_per_event": round(written / metrics.rows_in, 1),
    }


def freshness(folder: Path, rate: int, seconds: float) -> dict[str, object]:
    """From the call of an append to the state's header showing its rows, in milliseconds."""
    planned = definitions("int")
    state, rows = Path(tempfile.mkdtemp(dir=folder)), rate // 100
    rng = np.random.default_rng(1)
    with EmbeddedLog.open(state / "log", clock=WallClock()) as log:
        topic = log.create_topic(planned.relations["events"].name, planned.relations["events"].schema.arrow)
        job = LiveJob(planned, log, state / "state", WallClock(), options=Options(checkpoint_s=1.0, poll_s=0.02))
        runner = threading.Thread(target=job.run)
        runner.start()
        asked: list[tuple[float, int]] = []
        seen: list[float] = []
        until_s = time.perf_counter() + seconds
        next_s = time.perf_counter()
        while time.perf_counter() < until_s or asked:
            now_s = time.perf_counter()
            if now_s >= next_s and now_s < until_s:
                next_s += 0.01
                stamp = pa.array([time.time_ns() // 1_000] * rows).cast(pa.timestamp("us", tz="UTC"))  # noqa: TID251
                result = topic.append(
                    pa.table({"user_id": rng.integers(0, 100_000, rows), "happened_at": stamp, "known_at": stamp,
                              "amount": rng.integers(1, 9_999, rows), "category": rng.integers(0, 50, rows),
                              EVENT_TIME: stamp.cast(pa.int64())})
                )  # fmt: skip
                assert result.known_time is not None
                asked.append((now_s, result.known_time))
            applied_us = int(job._arena.head.known_us)
            while asked and asked[0][1] <= applied_us:
                seen.append(time.perf_counter() - asked.pop(0)[0])
            time.sleep(0.0005)
        job.stop()
        runner.join()
        checkpoints = job.metrics.checkpoints
    p50, p99 = (round(1e3 * float(np.percentile(seen, p)), 1) for p in (50, 99))
    return {"freshness_ms_p50": p50, "freshness_ms_p99": p99, "rate": rate, "checkpoints_meanwhile": checkpoints}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=300_000)
    parser.add_argument("--keys", choices=("int", "text"), default="int")
    parser.add_argument("--batch-rows", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, w = Path(name), Workload(options.n, 1, options.keys)
        ours: dict[str, object] = {"state_only": throughput(folder, w, False, options.batch_rows)}
        print(ours, flush=True)
        ours["row_out_per_event"] = throughput(folder, w, True, options.batch_rows)
        ours |= freshness(folder, options.rate, options.seconds)
    last_line("live", ours, {}, 0.0, "log synced, journal flushed per batch, checkpoint every 5 s")


if __name__ == "__main__":
    main()
