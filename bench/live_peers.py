"""The peers of the live benchmark, each in a process of its own: the windows of workload W, a row out per event.

`python -m bench.live_peers bytewax EVENTS OUT` reads the events in batches of 10,000, writes the features of each to
OUT with the event's number, and prints one JSON object. A row counts what was read before it, in windows [t - w, t).
The module is also run inside an environment that has no more than the peer and pyarrow.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.report import Meter
from bench.workload import WINDOWS

__all__ = ["BATCH_ROWS", "BYTEWAX", "PEERS", "SCHEMA", "Windows", "flow"]

BYTEWAX = ("bytewax", ("bytewax==0.21.1", f"pyarrow=={pa.__version__}", "numpy"))
BATCH_ROWS = 10_000
MEASURES = ("count", "sum", "mean", "min", "max", "std")
SCHEMA = pa.schema(
    [("number", pa.int64())]
    + [(f"{m}_{w}", pa.float64() if m in ("mean", "std") else pa.int64()) for w in WINDOWS for m in MEASURES]
)


class Windows:
    """One user's events by time with running sums, so that a window costs two searches, and a scan for min and max."""

    def __init__(self) -> None:
        self.t: list[int] = []
        self.amount: list[int] = []
        self.sums: list[int] = [0]
        self.squares: list[int] = [0]

    def answer(self, t: int) -> list[float | int | None]:
        """Of each window [t - w, t) the six measures; exact sums, since they are integers."""
        found: list[float | int | None] = []
        end = bisect_left(self.t, t)
        for width in WINDOWS.values():
            first = bisect_left(self.t, t - width, 0, end)
            n = end - first
            if n == 0:
                found += (0, None, None, None, None, None)
                continue
            total, squares = self.sums[end] - self.sums[first], self.squares[end] - self.squares[first]
            std = math.sqrt((squares * n - total * total) / (n * (n - 1))) if n > 1 else None
            inside = self.amount[first:end]
            found += (n, total, total / n, min(inside), max(inside), std)
        return found

    def add(self, t: int, amount: int) -> None:
        """Takes an event; a late one moves the sums behind it."""
        at = bisect_right(self.t, t)
        self.t.insert(at, t)
        self.amount.insert(at, amount)
        del self.sums[at + 1 :], self.squares[at + 1 :]
        for value in self.amount[at:]:
            self.sums.append(self.sums[-1] + value)
            self.squares.append(self.squares[-1] + value * value)


def flow(events: Path, sink: Any) -> Any:
    """A Bytewax flow: the events in batches, a stateful step per user, its rows (number, values) to a sink."""
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

    class Part(StatefulSourcePartition[Any, int]):  # type: ignore[misc]
        def __init__(self, done: int) -> None:
            self.number = done
            self.batches: Iterator[Any] = pq.ParquetFile(events).iter_batches(BATCH_ROWS)
            for _ in range(done // BATCH_ROWS):
                next(self.batches)

        def next_batch(self) -> list[tuple[str, tuple[int, int, int]]]:
            batch = next(self.batches)  # its end is the partition's end
            users = batch["user_id"].cast(pa.string()).to_pylist()
            times = batch["happened_at"].cast(pa.int64()).to_pylist()
            first, self.number = self.number, self.number + batch.num_rows
            values = zip(range(first, self.number), times, batch["amount"].to_pylist(), strict=True)
            return list(zip(users, values, strict=True))

        def snapshot(self) -> int:
            return self.number

    class Source(FixedPartitionedSource[Any, int]):  # type: ignore[misc]
        def list_parts(self) -> list[str]:
            return ["events"]

        def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Part:
            return Part(resume_state or 0)

    def step(state: Windows | None, event: tuple[int, int, int]) -> tuple[Windows, list[Any]]:
        state = state or Windows()
        number, t, amount = event
        row = [number, *state.answer(t)]
        state.add(t, amount)
        return state, row

    made = Dataflow("live")
    op.output("out", op.stateful_map("features", op.input("events", made, Source()), step), sink)
    return made


def bytewax(events: Path, out: Path) -> str:
    """The flow with recovery on (snapshots every 5 s), rows to a file of Arrow batches."""
    from importlib.metadata import version

    from bytewax.outputs import DynamicSink, StatelessSinkPartition
    from bytewax.recovery import RecoveryConfig, init_db_dir
    from bytewax.testing import run_main

    class Writer(StatelessSinkPartition[Any]):  # type: ignore[misc]
        def __init__(self) -> None:
            self.file = pa.ipc.new_file(out, SCHEMA)

        def write_batch(self, items: list[Any]) -> None:
            columns = zip(*(row for _, row in items), strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
            self.file.write_batch(pa.record_batch(arrays, schema=SCHEMA))

        def close(self) -> None:
            self.file.close()

    class Sink(DynamicSink[Any]):  # type: ignore[misc]
        def build(self, step_id: str, worker_index: int, worker_count: int) -> Writer:
            return Writer()

    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        init_db_dir(Path(folder), 1)
        run_main(flow(events, Sink()), epoch_interval=timedelta(seconds=5), recovery_config=RecoveryConfig(folder))
    return version("bytewax")


def polars(events: Path, out: Path) -> str:
    """Micro-batches: each with the past of its users, sorted and rolled over; the state is a frame of all rows."""
    import polars as pl

    seen: Any = None
    answers, first = [], 0
    for batch in pq.ParquetFile(events).iter_batches(BATCH_ROWS):
        rows = pl.DataFrame(pa.table(batch)).select("user_id", "amount", t="happened_at")
        rows = rows.with_columns(number=pl.int_range(first, first + len(rows), dtype=pl.Int64))
        first += len(rows)
        seen = rows if seen is None else pl.concat([seen, rows], rechunk=False)
        users = rows.select("user_id").unique()
        both = seen.join(users, on="user_id", how="semi").sort("user_id", "t")
        columns = []
        for name in WINDOWS:
            size, amount = name.replace("min", "m"), pl.col("amount")
            rolled = {
                "count": amount * 0 + 1,
                "sum": amount, "mean": amount, "min": amount, "max": amount, "std": amount,
            }  # fmt: skip
            for measure, value in rolled.items():
                kind = "sum" if measure == "count" else measure
                by = getattr(value, f"rolling_{kind}_by")("t", size, closed="left")
                columns.append(by.over("user_id").alias(f"{measure}_{name}"))
        both = both.with_columns(columns).filter(pl.col("number") >= first - len(rows))
        answers.append(both.drop("user_id", "t", "amount").sort("number"))
    pq.write_table(pl.concat(answers).to_arrow(), out)
    return str(pl.__version__)


PEERS: dict[str, Callable[[Path, Path], str]] = {"bytewax": bytewax, "polars": polars}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("events", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    meter = Meter()
    version = PEERS[args.peer](args.events, args.out)
    print(json.dumps({"version": version, **asdict(meter.cost())}))


if __name__ == "__main__":
    main()
