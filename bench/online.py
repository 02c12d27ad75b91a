"""Online reads of 30 numbers by one key and by 100, in the live job's process and from another, beside three peers.

`python -m bench.online [--n 100000] [--reads 3000] [--at-once 1|100] [--peers redis,duckdb,feast]`. State: workload W's
30 windows of one measure each, read back over the public API. The peers (`bench.online_peers`) answer the same values
for the same keys; all are compared. The figure is the median of microseconds of one read, of one key or of 100, from
another process than the live job's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.environments import ROOT, python_with, why_not
from bench.online_peers import AT_ONCE, FEAST, KEY, timed
from bench.report import Peer, last_line
from bench.workload import WINDOWS, Workload, write
from penstock import define as ps
from penstock.clock import ReplayClock
from penstock.define.project import Definitions
from penstock.engine.live.job import LiveJob, Options
from penstock.engine.online import Online
from penstock.plan import plan
from penstock.plan.ir import Plan, SourcePlan
from penstock.store.log import Log, TopicConfig

TOLERANCE = 1e-9
SHOWN = {1: "one", AT_ONCE: "hundred"}
SCHEMA = {"user_id": "int", "happened_at": "instant", "known_at": "instant", "amount": "int", "category": "int"}


def definitions() -> Plan:
    """Six measures over five exact windows: 30 numbers; a view of them with two expressions."""
    events = ps.stream("events", time="happened_at", known="known_at", clock="source", schema=SCHEMA)
    windows = [ps.window(name, hop="exact") for name in WINDOWS]
    wide = events.by("user_id").over(*windows).features(
        "wide", count=ps.count(), sum=ps.sum("amount"), mean=ps.mean("amount"), min=ps.min("amount"),
        max=ps.max("amount"), std=ps.std("amount"),
    )  # fmt: skip
    view = ps.view("v", ps.inputs(user_id="int", price="float"), wide,
                   surge="wide.count_1h - wide.count_1d", dear="price / wide.mean_30d")  # fmt: skip
    return plan(Definitions.of(view))


def fill(folder: Path, planned: Plan, n: int) -> tuple[LiveJob, Any, int, Path]:
    """Runs workload W into a live job; the job, its log, the last known time, and the file of the events."""
    events, _ = write(folder, Workload(n, 1, "int", users=min(100_000, n // 10)))
    table = pq.read_table(events)
    source = next(s for s in planned.relations.values() if isinstance(s, SourcePlan))
    t, k = (table.column(name).cast(pa.int64()) for name in ("happened_at", "known_at"))
    rows = table.append_column("_event_time", t).append_column("_known_time", k)
    log = Log.open(folder / "log", clock=ReplayClock(0), durability="process")
    topic = log.create_topic(source.name, source.schema.arrow, TopicConfig(clock="source"))
    for batch in rows.combine_chunks().to_batches(max_chunksize=20_000):
        topic.append(batch)
    job = LiveJob(planned, log, folder / "state", ReplayClock(0), options=Options(memory_dir=folder))
    job.drain()
    return job, log, int(k.to_numpy().max()), events


def measure(folder: Path, keys: Sequence[int], now_us: int) -> dict[str, dict[str, float]]:
    """Reads one key and 100 keys."""
    online = Online(definitions(), folder / "state", ReplayClock(now_us))
    prepared, view = online.prepare("wide"), online.prepare_view("v")
    many = [list(keys[i : i + 100]) for i in range(0, len(keys) - 100, 100)]
    found = {
        "one": timed(prepared.get_one, keys),
        "one_of_view": timed(lambda key: view.get_one({"user_id": key, "price": 9.5}), keys[:1000]),
        "one_with_statuses": timed(lambda key: online.group("wide", key), keys[:500]),
        "hundred": timed(lambda some: online.group("wide", some), many),
    }
    one, other = prepared.get_one(keys[0]), online.group("wide", keys[0]).table().to_pylist()[0]
    assert list(one) == [other[name] for name in prepared.names], "prepared and plain reads differ"
    online.close()
    return found


def answers(folder: Path, keys: Sequence[int], now_us: int) -> pa.Table:
    """The values of the keys, for the peers to hold and to be compared with."""
    online = Online(definitions(), folder / "state", ReplayClock(now_us))
    table = online.group("wide", keys).table()
    online.close()
    return table.add_column(0, KEY, pa.array(keys))


def peer(name: str, paths: dict[str, Path], now_us: int, at_once: int) -> Peer:
    """A peer's reads, in a process of its own, its answers beside ours; or why it could not run."""
    out = paths["values"].with_name(f"{name}.parquet")
    try:
        python = str(python_with(*FEAST)) if name == "feast" else sys.executable
        given = [str(paths[what]) for what in ("values", "events", "keys")]
        command = [python, "-W", "ignore", "-m", "bench.online_peers", name, *given, str(out), "--now-us", str(now_us)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as failure:
        return Peer(" ".join(FEAST[1]) if name == "feast" else "not known", None, note=why_not(failure))
    found = json.loads(done.stdout.strip().splitlines()[-1])
    compared, wrong = compare(pq.read_table(paths["values"]), pq.read_table(out))
    note = ", ".join(
        f"{what} {found[what]['p50_us']:.1f} us (p99 {found[what]['p99_us']:.1f})" for what in SHOWN.values()
    )
    figure = round(found[SHOWN[at_once]]["p50_us"], 1)
    return Peer(found["version"], figure, compared, not wrong, note + "".join(f"; {name} differs" for name in wrong))


def compare(values: pa.Table, found: pa.Table) -> tuple[int, list[str]]:
    """How many keys were compared, and the columns of which some answer differs beyond the tolerance."""
    mine = values.join(found.select([KEY]), KEY, join_type="inner").sort_by(KEY)
    other, wrong = found.sort_by(KEY), []
    for name in found.column_names:
        a, b = (table[name].to_numpy().astype(np.float64) for table in (mine, other))
        same = (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= TOLERANCE * np.maximum(np.abs(a), np.abs(b)))
        wrong += [] if same.all() else [name]
    return mine.num_rows, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--reads", type=int, default=3_000)
    parser.add_argument("--at-once", type=int, choices=tuple(SHOWN), default=1, help="the figure's keys in one read")
    parser.add_argument("--peers", default="redis,duckdb,feast", help="names with commas between; empty for none")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "NOW"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        keys = json.loads(sys.stdin.read())
        print(json.dumps(measure(Path(args.child[0]), keys, int(args.child[1]))))
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        job, log, now_us, events = fill(folder, definitions(), args.n)
        all_keys = pq.read_table(events, columns=[KEY])[KEY].to_numpy()
        keys = np.random.default_rng(1).choice(all_keys, args.reads).tolist()
        same = measure(folder, keys, now_us)
        command = [sys.executable, "-m", "bench.online", "--child", str(folder), str(now_us)]
        done = subprocess.run(command, input=json.dumps(keys), capture_output=True, text=True, check=True)
        other = json.loads(done.stdout.splitlines()[-1])
        paths = {"values": folder / "values.parquet", "events": events, "keys": folder / "keys.json"}
        pq.write_table(answers(folder, sorted(set(keys)), now_us), paths["values"])
        paths["keys"].write_text(json.dumps(keys))
        peers = {each: peer(each, paths, now_us, args.at_once) for each in args.peers.split(",") if each}
        job.close()
        log.close()
    ours = {"same_process": same, "other_process": other, "events": args.n, "values": 30}
    figure, unit = round(other[SHOWN[args.at_once]]["p50_us"], 1), f"us of a read of {args.at_once} x 30 values"
    mode = "live state in shared memory, checkpoints on disk; redis: in memory, not saved; duckdb: in memory; "
    mode += "feast: its default SQLite online store"
    last_line("online", figure, unit, ours, peers, mode=mode, more_is_better=False)


if __name__ == "__main__":
    main()
