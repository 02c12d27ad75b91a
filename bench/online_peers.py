"""The peers of the online benchmark, each in a process of its own: the 30 values of a key, and of 100 keys at once.

`python -m bench.online_peers feast VALUES EVENTS KEYS OUT` writes what it answers for all keys to OUT, times its reads
and prints one JSON object. Redis and Feast hold VALUES, made by us beforehand, and do no windows; DuckDB holds EVENTS
and makes the values by SQL when asked. Feast's runs inside an environment that has no more than the peer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.workload import WINDOWS

__all__ = ["FEAST", "PEERS", "Task", "timed"]

FEAST = ("feast", ("feast>=0.60,<0.70",))
KEY = "user_id"
AT_ONCE = 100
Rows = list[Sequence[float | None]]


@dataclass(frozen=True)
class Task:
    """What a peer is given.

    Attributes:
        values: Parquet of the key and the 30 columns. events: Parquet of workload W.
        now_us: the instant to answer at. folder: for its files.
    """

    values: Path
    events: Path
    now_us: int
    folder: Path

    @property
    def names(self) -> list[str]:
        """Of the 30 columns."""
        return [name for name in pq.read_schema(self.values).names if name != KEY]


Get = Callable[[Sequence[int]], Rows]


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


@contextmanager
def redis(task: Task) -> Iterator[tuple[str, Get]]:
    """A key's values packed into one string (hashes took six times as long for 100 keys), by MGET on a unix socket."""
    server = shutil.which("redis-server")
    if server is None:
        raise FileNotFoundError("redis-server is not installed")
    path = task.folder / "redis.sock"
    command = [server, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(task.folder)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + 10
        while not path.exists() and time.monotonic() < until_s:
            time.sleep(0.05)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            yield _redis(connection, task)
    finally:
        running.terminate()
        running.wait()


def _redis(connection: socket.socket, task: Task) -> tuple[str, Get]:
    file, packed = connection.makefile("rb"), struct.Struct(f"{len(task.names)}d")

    def ask(*parts: bytes) -> Any:
        sent = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        connection.sendall(b"*%d\r\n%s" % (len(parts), sent))
        kind = file.read(1)
        if kind == b"*":
            return [file.read(int(file.readline()[1:]) + 2) for _ in range(int(file.readline()))]
        return file.read(int(file.readline()) + 2) if kind == b"$" else file.readline()

    def get(keys: Sequence[int]) -> Rows:
        return [packed.unpack_from(data) for data in ask(b"MGET", *(b"u%d" % key for key in keys))]

    for row in pq.read_table(task.values).to_pylist():
        data = packed.pack(*(math.nan if row[name] is None else row[name] for name in task.names))
        ask(b"SET", b"u%d" % row[KEY], data)
    about = ask(b"INFO", b"server").decode().split()
    return next(x for x in about if x.startswith("redis_version")).partition(":")[2], get


@contextmanager
def duckdb(task: Task) -> Iterator[tuple[str, Get]]:
    """Aggregates with a filter per window over a table in memory, indexed by key; a prepared statement."""
    import duckdb as db

    with db.connect() as con:
        con.execute("set threads = 1")
        con.execute(
            f"""create table events as select user_id, epoch_us(happened_at) as t, amount
            from read_parquet('{task.events}') where epoch_us(known_at) <= {task.now_us} order by user_id, t"""
        )
        con.execute("create index by_user on events (user_id)")
        inside = {name: f"filter (where t >= {task.now_us - us})" for name, us in WINDOWS.items()}
        measures = {"count": "count(*)", "sum": "sum(amount)", "mean": "avg(amount)", "min": "min(amount)",
                    "max": "max(amount)", "std": "stddev_samp(amount)"}  # fmt: skip
        columns = [name.rsplit("_", 1) for name in task.names]
        wanted = ", ".join(f"{measures[measure]} {inside[window]}" for measure, window in columns)
        one = f"select {wanted} from events where user_id = ? and t < {task.now_us}"
        many = f"""select user_id, {wanted} from events where user_id in (select unnest(?)) and t < {task.now_us}
                   group by user_id"""

        def get(keys: Sequence[int]) -> Rows:
            if len(keys) == 1:
                return con.execute(one, [keys[0]]).fetchall()
            found = {row[0]: row[1:] for row in con.execute(many, [list(keys)]).fetchall()}
            return [found[key] for key in keys]

        yield str(db.__version__), get


@contextmanager
def feast(task: Task) -> Iterator[tuple[str, Get]]:
    """Its client's `get_online_features` over the SQLite online store, the default, in one process with it."""
    os.environ["FEAST_USAGE"] = "False"
    import feast as fs
    from feast.types import Float64, Int64

    folder, names = task.folder, task.names
    online = {"type": "sqlite", "path": str(folder / "online.db")}
    registry = str(folder / "registry.db")
    store = fs.FeatureStore(
        config=fs.RepoConfig(
            project="bench", registry=registry, provider="local", online_store=online,
            offline_store={"type": "file"}, entity_key_serialization_version=3,
        )
    )  # fmt: skip
    user = fs.Entity(name="user", join_keys=[KEY], value_type=fs.ValueType.INT64)
    kinds = {
        field.name: Float64 if pa.types.is_floating(field.type) else Int64 for field in pq.read_schema(task.values)
    }
    source = fs.FileSource(path=str(task.values), timestamp_field="at")
    fields = [fs.Field(name=name, dtype=kind) for name, kind in kinds.items()]
    store.apply([user, fs.FeatureView(name="wide", entities=[user], ttl=timedelta(0), schema=fields, source=source)])
    frame = pq.read_table(task.values).to_pandas(integer_object_nulls=True)
    store.write_to_online_store("wide", frame.assign(at=np.datetime64(task.now_us, "us")))
    features = [f"wide:{name}" for name in names]

    def get(keys: Sequence[int]) -> Rows:
        found = store.get_online_features(features=features, entity_rows=[{KEY: key} for key in keys]).to_dict()
        return list(zip(*(found[name] for name in names), strict=True))

    yield str(fs.__version__), get


PEERS: dict[str, Callable[[Task], Any]] = {"redis": redis, "duckdb": duckdb, "feast": feast}


def measure(name: str, task: Task, keys: Sequence[int], out: Path) -> dict[str, Any]:
    """Answers for every key, written to `out`; then the times of one key at a time and of 100."""
    with PEERS[name](task) as (version, get):
        every = sorted(set(keys))
        rows = [row for i in range(0, len(every), AT_ONCE) for row in get(every[i : i + AT_ONCE])]
        columns = [pa.array(column, pa.float64()) for column in zip(*rows, strict=True)]
        pq.write_table(pa.table([pa.array(every), *columns], names=[KEY, *task.names]), out)
        many = [list(keys[i : i + AT_ONCE]) for i in range(0, len(keys) - AT_ONCE + 1, AT_ONCE)]
        return {"version": version, "one": timed(lambda key: get((key,)), keys), "hundred": timed(get, many)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=sorted(PEERS))
    for name in ("values", "events", "keys", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--now-us", type=int, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task = Task(args.values, args.events, args.now_us, Path(folder))
        print(json.dumps(measure(args.peer, task, json.loads(args.keys.read_text()), args.out)))


if __name__ == "__main__":
    main()
