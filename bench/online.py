"""Online reads of 30 numbers by one key and by 100, in the live job's process and from another, beside Redis.

`python -m bench.online [--n 100000] [--reads 3000]`. State: workload W's 30 windows of one measure each, read back over
the public API. Redis holds the same values, made by us beforehand, as hashes read by HMGET over a unix socket: it does
no windows. The figure is the median of microseconds of one read of one key from another process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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

SCHEMA = {"user_id": "int", "happened_at": "instant", "known_at": "instant", "amount": "int", "category": "int"}


def definitions() -> Plan:
    """Six measures over five exact windows: 30 numbers."""
    events = ps.stream("events", time="happened_at", known="known_at", clock="source", schema=SCHEMA)
    windows = [ps.window(name, hop="exact") for name in WINDOWS]
    wide = events.by("user_id").over(*windows).features(
        "wide", count=ps.count(), sum=ps.sum("amount"), mean=ps.mean("amount"), min=ps.min("amount"),
        max=ps.max("amount"), std=ps.std("amount"),
    )  # fmt: skip
    return plan(Definitions.of(wide))


def fill(folder: Path, planned: Plan, n: int) -> tuple[LiveJob, Any, int, np.ndarray[Any, Any]]:
    """Runs workload W into a live job; the job, its log, the last known time, and the keys by how often they come."""
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
    keys = table.column("user_id").to_numpy()
    return job, log, int(k.to_numpy().max()), keys


def timed(call: Callable[[Any], Any], arguments: Sequence[Any]) -> dict[str, float]:
    """Median and 99th percentile of microseconds."""
    for argument in arguments[:100]:
        call(argument)
    took = []
    for argument in arguments:
        began = time.perf_counter_ns()
        call(argument)
        took.append(time.perf_counter_ns() - began)
    return {"p50_us": float(np.percentile(took, 50)) / 1e3, "p99_us": float(np.percentile(took, 99)) / 1e3}


def measure(folder: Path, keys: Sequence[int], now_us: int) -> dict[str, dict[str, float]]:
    """Reads one key and 100 keys."""
    online = Online(definitions(), folder / "state", ReplayClock(now_us))
    prepared = online.prepare("wide")
    many = [list(keys[i : i + 100]) for i in range(0, len(keys) - 100, 100)]
    found = {
        "one": timed(prepared.get_one, keys),
        "one_with_statuses": timed(lambda key: online.group("wide", key), keys[:500]),
        "hundred": timed(lambda some: online.group("wide", some), many),
    }
    one, other = prepared.get_one(keys[0]), online.group("wide", keys[0]).table().to_pylist()[0]
    assert list(one) == [other[name] for name in prepared.names], "prepared and plain reads differ"
    online.close()
    return found


def redis(folder: Path, keys: Sequence[int], now_us: int) -> Peer | str:
    """The same values out of Redis, or why not."""
    server = shutil.which("redis-server")
    if server is None:
        return "redis-server is not installed"
    path = str(folder / "redis.sock")
    command = [server, "--port", "0", "--unixsocket", path, "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        try:
            return _redis(path, folder, keys, now_us)
        finally:
            running.terminate()


def _redis(path: str, folder: Path, keys: Sequence[int], now_us: int) -> Peer:
    until = time.monotonic() + 10
    while not Path(path).exists() and time.monotonic() < until:
        time.sleep(0.05)
    online = Online(definitions(), folder / "state", ReplayClock(now_us))
    table = online.group("wide", sorted(set(keys)))
    rows = dict(zip(sorted(set(keys)), table.rows(), strict=True))
    online.close()
    names = list(table.columns)
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        file = server.makefile("rb")

        def reply() -> Any:
            line = file.readline()
            kind, rest = line[:1], line[1:-2]
            if kind == b"*":
                return [reply() for _ in range(int(rest))]
            if kind == b"$":
                return None if rest == b"-1" else file.read(int(rest) + 2)[:-2]
            return rest

        def ask(*parts: str) -> Any:
            data = b"".join(b"$%d\r\n%s\r\n" % (len(p.encode()), p.encode()) for p in parts)
            server.sendall(b"*%d\r\n" % len(parts) + data)
            return reply()

        version = next(x for x in ask("INFO", "server").decode().split() if x.startswith("redis_version"))
        for key, row in rows.items():
            ask("HSET", f"u{key}", *(text for n in names for text in (n, "" if row[n] is None else repr(row[n]))))

        def get(key: int) -> list[float | None]:
            return [float(v) if v else None for v in ask("HMGET", f"u{key}", *names)]

        equal = all(
            get(key) == [None if v is None else float(v) for v in rows[key].values()] for key in list(rows)[:200]
        )
        took = timed(get, keys)
    return Peer(version.partition(":")[2], took["p50_us"], min(len(rows), 200), equal, note=json.dumps(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--reads", type=int, default=3_000)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "NOW"))
    args = parser.parse_args()
    if args.child:
        keys = json.loads(sys.stdin.read())
        print(json.dumps(measure(Path(args.child[0]), keys, int(args.child[1]))))
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        job, log, now_us, all_keys = fill(folder, definitions(), args.n)
        keys = np.random.default_rng(1).choice(all_keys, args.reads).tolist()
        same = measure(folder, keys, now_us)
        command = [sys.executable, "-m", "bench.online", "--child", str(folder), str(now_us)]
        done = subprocess.run(command, input=json.dumps(keys), capture_output=True, text=True, check=True)
        other = json.loads(done.stdout.splitlines()[-1])
        peer = redis(folder, keys[:1_000], now_us)
        job.close()
        log.close()
    peers = {"redis": peer} if isinstance(peer, Peer) else {}
    ours = {"same_process": same, "other_process": other, "events": args.n, "values": 30}
    if not peers:
        ours["redis"] = peer
    last_line("online", ours, peers, other["one"]["p50_us"], "state in shared memory", more_is_better=False)


if __name__ == "__main__":
    main()
