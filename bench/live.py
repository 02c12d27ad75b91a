"""Workload W live, from the log to committed rows and readable state, exactly once; and how fresh state is under load.

Events lie in an embedded log (synced commits of 10,000 rows); the job reads them, journals, applies them to the state
of the group with its 32 columns and, with rows out, appends the exact features of every event to a derived topic.
Freshness: rows are appended at a steady rate, and for each commit the time until the state's header shows it is taken;
then at ten times the rate for `--burst-s`, and the time until that is caught up. Peers (`bench.live_peers`) read the
same events from the file and write a row for each; the figure is events per CPU-second with rows out
and a checkpoint at the end.
Run: python -m bench.live [--n 300000] [--rate 20000] [--keys int|string] [--ids] [--peers bytewax,polars]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import penstock.define as ps
from bench.environments import ROOT, python_with, why_not
from bench.live_peers import BYTEWAX, SCHEMA
from bench.report import Meter, Peer, last_line
from bench.workload import WINDOWS, Workload, write
from penstock.clock import WallClock
from penstock.define.project import Definitions
from penstock.engine.live.job import LiveJob, Options
from penstock.plan import plan
from penstock.plan.ir import Plan
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, OP
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import Append, TopicConfig

COMMIT_ROWS = 10_000
CORRECTED = 0.01
TOLERANCE = 1e-9


def definitions(keys: str, ids: bool = False) -> Plan:
    types = {"user_id": keys, "happened_at": "instant", "known_at": "instant", "amount": "int", "category": "int"}
    if ids:
        types |= {"event_id": "text", "op": "text?"}
        events = ps.stream("events", time="happened_at", known="known_at", id="event_id", op="op", schema=types)
    else:
        events = ps.stream("events", time="happened_at", known="known_at", schema=types)
    exact = [ps.window(name, hop="exact") for name in WINDOWS]
    amounts = events.by("user_id").over(*exact).features(
        "amounts", count=ps.count(), sum=ps.sum("amount"), mean=ps.mean("amount"), min=ps.min("amount"),
        max=ps.max("amount"), std=ps.std("amount"),
    )  # fmt: skip
    newest = events.by("user_id").features("newest", last=ps.last("amount"))
    return plan(Definitions.of(amounts, newest))


def corrections(events: pa.Table) -> pa.Table:
    """With an id per event; one row of a hundred is an upsert of an earlier event: its key and time, a new amount."""
    rng = np.random.default_rng(7)
    n = events.num_rows
    of, upsert = np.arange(n), rng.random(n) < CORRECTED
    upsert[0] = False
    earlier = (rng.random(n) * np.arange(n)).astype(np.int64)
    of[upsert] = earlier[upsert]
    while (again := upsert & upsert[of]).any():
        of[again] = of[of[again]]  # of a correction: of what it corrects
    kept = events.take(pa.array(of))
    for name in ("known_at", "amount"):
        kept = kept.set_column(kept.column_names.index(name), name, events[name])
    ids = pa.array(np.char.add("e", of.astype(str)), pa.string())
    kept = kept.append_column("event_id", ids)
    kept = kept.append_column("op", pa.array(np.where(upsert, "upsert", "insert"), pa.string()))
    return kept.append_column(ID, ids).append_column(OP, pa.array(upsert.astype(np.int8)))


def feed(log: EmbeddedLog, planned: Plan, events: pa.Table) -> None:
    name = planned.relations["events"].name
    ids = ID in events.column_names
    config = TopicConfig(clock="source", ids=ids, corrected=ids)
    log.create_topic(name, planned.relations["events"].schema.arrow, config)
    table = events.append_column(EVENT_TIME, events["happened_at"].cast(pa.int64()))
    table = table.append_column(KNOWN_TIME, events["known_at"].cast(pa.int64()))
    known = table[KNOWN_TIME].to_numpy()
    for first in range(0, table.num_rows, COMMIT_ROWS):
        rows = table.slice(first, COMMIT_ROWS)
        log.append_all([Append(str(name), rows, frontier_us=int(known[first + rows.num_rows - 1]))])


def throughput(folder: Path, w: Workload, batch_rows: int, ids: bool, out: Path | None) -> dict[str, Any]:
    """With `out`, rows are emitted, and written there after the measurement."""
    events, _ = write(folder, w)
    planned = definitions("int" if w.keys == "int" else "text", ids)
    state = Path(tempfile.mkdtemp(dir=folder))
    with EmbeddedLog.open(state / "log", clock=WallClock()) as log:
        feed(log, planned, corrections(pq.read_table(events)) if ids else pq.read_table(events))
        emitted = ("amounts",) if out else ()
        options = Options(max_rows=batch_rows, checkpoint_s=5.0)
        job = LiveJob(planned, log, state / "state", WallClock(), emit=emitted, options=options)
        meter, slowest = Meter(), list[float]()
        while True:
            began_s = time.perf_counter()
            if not job.step():
                break
            slowest.append(time.perf_counter() - began_s)
        cost = meter.cost()
        job.checkpoint(wait=True)  # as Bytewax ends with one: the ratio counts it
        saved = meter.cost()
        counts = job._flow.groups[planned.groups["amounts"].fingerprint].keyed.counts()
        metrics = job.metrics
        written = metrics.checkpoint_bytes + metrics.journal_bytes
        job.close()
        if out:
            pq.write_table(emitted_rows(log), out)
    return {
        "events": metrics.rows_in,
        "events_per_s": round(metrics.rows_in / cost.wall_s),
        "events_per_cpu_s": round(metrics.rows_in / cost.cpu_s),
        "events_per_s_with_checkpoint": round(metrics.rows_in / saved.wall_s),
        "events_per_cpu_s_with_checkpoint": round(metrics.rows_in / saved.cpu_s),
        "batch_ms_p50": round(1e3 * float(np.percentile(slowest, 50)), 2),
        "batch_ms_p99": round(1e3 * float(np.percentile(slowest, 99)), 2),
        "checkpoints": metrics.checkpoints,
        "state_bytes_per_key": round(metrics.state_bytes / max(counts.keys, 1)),
        "state_bytes_per_event": round(metrics.state_bytes / max(counts.rows, 1), 1),
        "bytes_written_per_event": round(written / metrics.rows_in, 1),
    }


def emitted_rows(log: EmbeddedLog) -> pa.Table:
    """The derived topic, in the order of the events it was made from."""
    topic, offset, batches = log.topic("amounts"), 0, []
    while (read := topic.read(0, offset)).rows.num_rows:
        batches.append(read.rows)
        offset = read.next_offset
    return pa.Table.from_batches(batches)


def peer(name: str, events: Path, rows: pa.Table) -> Peer:
    """A peer on the same events in a process of its own, its rows against ours; or why it could not run."""
    answers = events.with_name(f"{name}.out")
    try:
        python = str(python_with(*BYTEWAX)) if name == "bytewax" else sys.executable
        command = [python, "-m", "bench.live_peers", name, str(events), str(answers)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=480)
    except (OSError, subprocess.SubprocessError) as failure:
        return Peer(BYTEWAX[1][0] if name == "bytewax" else "not known", None, note=why_not(failure))
    cost: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    found = pa.ipc.open_file(answers).read_all() if name == "bytewax" else pq.read_table(answers)
    compared, wrong = compare(rows, found.sort_by("number"))
    note = f"{rows.num_rows / cost['wall_s']:.0f} events/s on the wall, peak {cost['peak_bytes'] >> 20} MiB"
    if wrong:
        note += "; rows that differ: " + ", ".join(f"{column} {n}" for column, n in sorted(wrong.items()))
    return Peer(cost["version"], round(rows.num_rows / cost["cpu_s"]), compared, not wrong, note)


def compare(rows: pa.Table, found: pa.Table) -> tuple[int, dict[str, int]]:
    """Rows compared, and by column how many differ beyond the tolerance.

    Left out are rows of a user before whose end of batch a row with an earlier time arrived: micro-batches see it.
    """
    if found.num_rows != rows.num_rows:
        return 0, {"rows": abs(found.num_rows - rows.num_rows)}
    frame = pa.table({"user": rows["user_id"], "t": rows[EVENT_TIME], "n": np.arange(rows.num_rows)}).to_pandas()
    frame = frame.assign(batch=frame.n // COMMIT_ROWS).sort_values("n", ascending=False)
    later_least = frame.groupby(["batch", "user"]).t.cummin()
    kept = (later_least >= frame.t).sort_index().to_numpy()
    wrong = {}
    for name in SCHEMA.names[1:]:
        mine = rows[f"amounts.{name}"].to_numpy().astype(np.float64)[kept]
        other = found[name].to_numpy().astype(np.float64)[kept]
        if name.startswith(("count", "sum")):  # of nothing: 0 to some, null to others
            mine, other = np.nan_to_num(mine), np.nan_to_num(other)
        scale = np.maximum(np.abs(mine), np.abs(other))
        same = (np.isnan(mine) & np.isnan(other)) | (np.abs(mine - other) <= TOLERANCE * scale)
        if not same.all():
            wrong[name] = int((~same).sum())
    return int(kept.sum()), wrong


def freshness(folder: Path, rate: int, seconds: float, burst_s: float) -> dict[str, object]:
    """From the call of an append to the state's header showing its rows, in milliseconds; then the burst."""
    planned = definitions("int")
    state, rng = Path(tempfile.mkdtemp(dir=folder)), np.random.default_rng(1)
    with EmbeddedLog.open(state / "log", clock=WallClock()) as log:
        topic = log.create_topic(planned.relations["events"].name, planned.relations["events"].schema.arrow)
        job = LiveJob(planned, log, state / "state", WallClock(), options=Options(checkpoint_s=1.0, poll_s=0.02))
        runner = threading.Thread(target=job.run)
        runner.start()

        def append(rows: int) -> int:
            stamp = pa.array([time.time_ns() // 1_000] * rows).cast(pa.timestamp("us", tz="UTC"))  # noqa: TID251
            result = topic.append(
                pa.table({"user_id": rng.integers(0, 100_000, rows), "happened_at": stamp, "known_at": stamp,
                          "amount": rng.integers(1, 9_999, rows), "category": rng.integers(0, 50, rows),
                          EVENT_TIME: stamp.cast(pa.int64())})
            )  # fmt: skip
            assert result.known_time is not None
            return int(result.known_time)

        def paced(rows: int, for_s: float) -> list[float]:
            """Commits of so many rows, a hundred a second; seconds until each is seen, the last included.

            An append that is late is made up for, so that all rows come.
            """
            asked: list[tuple[float, int]] = []
            seen: list[float] = []
            next_s = time.perf_counter()
            left = round(100 * for_s)
            while left or asked:
                now_s = time.perf_counter()
                if left and next_s <= now_s:
                    left, next_s = left - 1, next_s + 0.01
                    asked.append((now_s, append(rows)))
                applied_us = int(job._arena.head.known_us)
                while asked and asked[0][1] <= applied_us:
                    seen.append(time.perf_counter() - asked.pop(0)[0])
                time.sleep(0.0005)
            return seen

        seen = paced(rate // 100, seconds)
        began_s = time.perf_counter()
        burst = paced(rate // 10, burst_s)
        took_s = time.perf_counter() - began_s
        job.stop()
        runner.join()
        checkpoints = job.metrics.checkpoints
    p50, p99 = (round(1e3 * float(np.percentile(seen, p)), 1) for p in (50, 99))
    return {
        "freshness_ms_p50": p50,
        "freshness_ms_p99": p99,
        "rate": rate,
        "checkpoints_meanwhile": checkpoints,
        "burst_10x": {
            "rows": len(burst) * (rate // 10),
            "due_in_s": burst_s,
            "caught_up_s": round(took_s, 3),
            "freshness_ms_max": round(1e3 * max(burst), 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=300_000)
    parser.add_argument("--keys", choices=("int", "string"), default="int")
    parser.add_argument("--ids", action="store_true", help="ids, and one row of a hundred a correction; no peers")
    parser.add_argument("--batch-rows", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--burst-s", type=float, default=3.0)
    parser.add_argument("--peers", default="bytewax,polars", help="names with commas between; empty for none")
    options = parser.parse_args()
    peers: dict[str, Peer] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, w, out = Path(name), Workload(options.n, 1, options.keys), Path(name) / "ours.parquet"
        state_only = throughput(folder, w, options.batch_rows, options.ids, None)
        with_rows = throughput(folder, w, options.batch_rows, options.ids, out)
        ours: dict[str, object] = {"state_only": state_only, "row_out_per_event": with_rows}
        print(ours, flush=True)
        if not options.ids:  # corrections and repeated ids are nothing that the peers offer
            events, _ = write(folder, w)
            rows = pq.read_table(out)
            peers = {each: peer(each, events, rows) for each in options.peers.split(",") if each}
        ours |= freshness(folder, options.rate, options.seconds, options.burst_s)
    ids = "ids and 1 % corrections" if options.ids else "no ids"
    mode = f"{options.keys} keys, {ids}; log synced, journal flushed per batch, checkpoint every 5 s and at the end"
    if "bytewax" in peers:
        mode += "; bytewax: recovery snapshots every 5 s and at the end, its output not synced"
    if "polars" in peers:
        mode += "; polars: in memory"
    figure = with_rows["events_per_cpu_s_with_checkpoint"]
    last_line("live", figure, "events per CPU-second, a row out for each", ours, peers, mode=mode)


if __name__ == "__main__":
    main()
