"""Kills of a live job: how long until it makes progress again, and whether a row was lost or doubled.

Workload W with a row of 30 columns out per event is killed with -9 at a quarter, a half and three quarters and started
again, ours and Bytewax; the figure is the median time from the start of a process to the first row beyond those that
were out at the kill, and the rows of each are compared with brute force. `--state-mb` does the same once to a job of
ours with state of that size; `--kills` runs the kill test of tests/engine/live so many times.
Run: python -m bench.recovery [--n 300000] [--peers bytewax] [--state-mb 1000] [--kills 1000]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.environments import ROOT, python_with, why_not
from bench.live import definitions, emitted_rows, feed
from bench.live_peers import BYTEWAX, SCHEMA, Windows
from bench.recovery_peer import CHECKPOINT_S, OUT
from bench.report import Peer, last_line
from bench.workload import Workload, write
from penstock.clock import WallClock
from penstock.engine.live.job import LiveJob, Options
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME, OFFSET
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import Append, TopicConfig

START_US = 1_767_225_600_000_000
STEP_ROWS = 50_000
TOLERANCE = 1e-9

Rows = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Killed:
    """A run that was killed: what it said first, seconds to progress after each kill, and what became of its rows."""

    version: str
    restart_s: list[float]
    lost: int
    doubled: int
    wrong: int

    def shown(self) -> dict[str, object]:
        restarts = [round(each, 3) for each in self.restart_s]
        return {"restart_s": restarts, "lost": self.lost, "doubled": self.doubled, "wrong": self.wrong}


def expected(events: Path) -> Rows:
    """The rows by brute force: the event's number, then its windows over what was read before it."""
    table = pq.read_table(events)
    users, times = table["user_id"].to_pylist(), table["happened_at"].cast(pa.int64()).to_pylist()
    states: dict[Any, Windows] = {}
    rows = []
    for number, (user, t, amount) in enumerate(zip(users, times, table["amount"].to_pylist(), strict=True)):
        state = states.setdefault(user, Windows())
        rows.append([number, *state.answer(t)])
        state.add(t, amount)
    return np.array(rows, np.float64)


def compare(wanted: Rows, found: Rows) -> tuple[int, int, int]:
    """Rows lost, doubled, and wrong in a value."""
    numbers, first = np.unique(found[:, 0], return_index=True)
    right = wanted[numbers.astype(np.int64)]
    mine = found[first]
    scale = TOLERANCE * np.maximum(np.abs(right), np.abs(mine))
    same = (np.abs(right - mine) <= scale) | (np.nan_to_num(right) == np.nan_to_num(mine))
    return len(wanted) - len(numbers), len(found) - len(numbers), int((~same.all(axis=1)).sum())


def run_killed(command: list[str], n: int) -> tuple[str, list[float]]:
    """Runs a command that prints its version, then how many rows are out; kills it three times, lets it finish."""
    took, out = [], 0
    for until in (n // 4, n // 2, 3 * n // 4, None):
        began_s, at_kill, known = time.perf_counter(), out, False
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            version = process.stdout.readline().strip()
            for line in process.stdout:
                out = int(line)
                if until != n // 4 and not known and out > at_kill:
                    took.append(time.perf_counter() - began_s)
                    known = True
                if until is not None and out >= until:
                    process.send_signal(signal.SIGKILL)
                    break
            else:
                if process.wait() != 0:
                    raise subprocess.CalledProcessError(process.returncode, command)
    return version, took


def ours_killed(folder: Path, events: Path, wanted: Rows) -> Killed:
    """Our job on a log that holds the events."""
    with EmbeddedLog.open(folder / "log", clock=WallClock()) as log:
        feed(log, definitions("int"), pq.read_table(events))
    command = [sys.executable, "-m", "bench.recovery", "--worker", str(folder)]
    version, took = run_killed(command, len(wanted))
    with EmbeddedLog.open(folder / "log", clock=WallClock()) as log:
        rows = emitted_rows(log)
    columns = [rows[OFFSET], *(rows[f"amounts.{name}"] for name in SCHEMA.names[1:])]
    found = np.stack([column.to_numpy().astype(np.float64) for column in columns], axis=1)
    return Killed(version, took, *compare(wanted, found))


def worker(folder: Path) -> None:
    """The live job until all rows are out; prints how many are after each batch."""
    print("penstock", flush=True)
    with EmbeddedLog.open(folder / "log", clock=WallClock()) as log:
        options = Options(checkpoint_s=CHECKPOINT_S)
        job = LiveJob(definitions("int"), log, folder / "state", WallClock(), emit=("amounts",), options=options)
        while job.step():
            print(log.topic("amounts").end().offsets[0], flush=True)
        print(log.topic("amounts").end().offsets[0], flush=True)
        job.close()


def bytewax_killed(folder: Path, events: Path, wanted: Rows) -> Peer:
    """Bytewax on the same events; or why it could not run."""
    folder.mkdir()
    try:
        command = [str(python_with(*BYTEWAX)), "-m", "bench.recovery_peer", str(events), str(folder)]
        version, took = run_killed(command, len(wanted))
    except (OSError, subprocess.SubprocessError) as failure:
        return Peer(BYTEWAX[1][0], None, note=why_not(failure))
    found = np.fromfile(folder / OUT, np.float64).reshape(-1, len(SCHEMA))
    killed = Killed(version, took, *compare(wanted, found))
    equal = killed.lost == killed.doubled == killed.wrong == 0
    return Peer(version, round(statistics.median(took), 3), len(found), equal, note=json.dumps(killed.shown()))


def append_rows(log: EmbeddedLog, first: int, n: int) -> None:
    """Events of a million users, one each 10 us."""
    planned = definitions("int")
    relation = planned.relations["events"]
    log.create_topic(relation.name, relation.schema.arrow, TopicConfig(clock="source"))
    t = START_US + (first + np.arange(n)) * 10
    stamp = pa.array(t).cast(pa.timestamp("us", tz="UTC"))
    users = (first + np.arange(n)) * 2_654_435_761 % 1_000_003
    table = pa.table({"user_id": users, "happened_at": stamp, "known_at": stamp, "amount": users % 997,
                      "category": users % 50, EVENT_TIME: t, KNOWN_TIME: t})  # fmt: skip
    log.append_all([Append(str(relation.name), table, frontier_us=int(t[-1]))])


def child(folder: Path, state_bytes: int) -> None:
    """Runs until the state is big enough and a checkpoint stands, then a little more, and waits to be killed."""
    began_s = time.perf_counter()
    with EmbeddedLog.open(folder / "log", clock=WallClock(), durability="process") as log:
        job = LiveJob(definitions("int"), log, folder / "state", WallClock(),
                      options=Options(max_rows=STEP_ROWS, checkpoint_rows=10**12, checkpoint_s=1e9))  # fmt: skip
        job.step()
        ready_s = time.perf_counter() - began_s
        print(json.dumps({"ready_s": round(ready_s, 3), "replayed": job.metrics.replayed,
                          "state_mb": round(job.metrics.state_bytes / 1e6)}), flush=True)  # fmt: skip
        if job.metrics.state_bytes < state_bytes:
            first = 1
            while job.metrics.state_bytes < state_bytes:
                append_rows(log, first, STEP_ROWS)
                first += STEP_ROWS
                job.drain()
            job.checkpoint(wait=True)
            for _ in range(10):
                append_rows(log, first, STEP_ROWS)
                first += STEP_ROWS
                job.drain()
            append_rows(log, first, STEP_ROWS)  # work for the first batch after the restart
            print("full", flush=True)
        signal.pause()


def restart(folder: Path, state_mb: int) -> dict[str, object]:
    """Builds state, kills, starts again; what the second process said, and seconds from its start to progress."""
    found: dict[str, object] = {}
    with EmbeddedLog.open(folder / "log", clock=WallClock(), durability="process") as log:
        append_rows(log, 0, 1)
    for turn in range(2):
        began_s = time.perf_counter()
        command = [sys.executable, "-m", "bench.recovery", "--child", str(folder), "--state-mb", str(state_mb)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
            found["process_s"] = round(time.perf_counter() - began_s, 3)
            if turn == 0:
                assert process.stdout.readline().strip() == "full"
            process.send_signal(signal.SIGKILL)
    return found


def kills(n: int) -> bool:
    environment = {**os.environ, "PENSTOCK_KILLS": str(n)}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/engine/live/test_kills.py"]
    return subprocess.run(command, env=environment, check=False).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=300_000)
    parser.add_argument("--peers", choices=("bytewax", ""), default="bytewax", help="empty for none")
    parser.add_argument("--state-mb", type=int, default=1_000, help="0 for none")
    parser.add_argument("--kills", type=int, default=1_000, help="0 for none")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.state_mb * 1_000_000)
        return
    if options.worker:
        worker(options.worker)
        return
    ours: dict[str, object] = {"n": options.n}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events, _ = write(folder, Workload(options.n, 1, "int"))
        wanted = expected(events)
        killed = ours_killed(folder / "ours", events, wanted)
        peers = {each: bytewax_killed(folder / each, events, wanted) for each in [options.peers] if each}
        ours |= killed.shown()
        if options.state_mb:
            ours["with_state"] = restart(folder / "big", options.state_mb)
    if options.kills:
        ours |= {"kills": options.kills, "nothing_lost_or_doubled": kills(options.kills)}
    mode = (
        "kill -9; ours: log synced, journal flushed per batch; bytewax: rows synced per batch; checkpoints or snapshots"
    )
    mode += f" every {CHECKPOINT_S:g} s. Log in process durability while the large state is built"
    figure = round(statistics.median(killed.restart_s), 3)
    last_line("recovery", figure, "s from start to progress", ours, peers, mode=mode, more_is_better=False)


if __name__ == "__main__":
    main()
