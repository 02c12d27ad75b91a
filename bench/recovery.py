"""Kills of a live job: how long until it makes progress again, and whether a row was lost or doubled.

`--state-mb` builds state of that size, kills the process with -9 and measures the restart: from the start of a process
to its first batch after the replay. `--kills` runs the kill test of tests/engine/live so many times.
Run: python -m bench.recovery [--state-mb 1000] [--kills 1000]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.live import definitions
from bench.report import last_line
from penstock.clock import WallClock
from penstock.engine.live.job import LiveJob, Options
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import Append, TopicConfig

START_US = 1_767_225_600_000_000
STEP_ROWS = 50_000


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-mb", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.state_mb * 1_000_000)
        return
    with tempfile.TemporaryDirectory() as folder:
        ours = restart(Path(folder), options.state_mb)
    ours |= {"kills": options.kills, "nothing_lost_or_doubled": kills(options.kills) if options.kills else None}
    mode = "kill -9; log in process durability while state is built, synced in the kills"
    last_line("recovery", ours["process_s"], "s from start to progress", ours, {}, mode=mode, more_is_better=False)


if __name__ == "__main__":
    main()
