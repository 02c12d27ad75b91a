"""Workload W of the budgets: zipf-like users over 30 days, 1 % late events, queries uniform in time; seeded.

`python -m bench.workload DIR --n 1000000 --m 100000 --keys int` writes `events.parquet` and `queries.parquet`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

__all__ = ["COLUMNS", "DAY_US", "START_US", "WINDOWS", "Workload", "write"]

DAY_US = 86_400_000_000
START_US = 1_767_225_600_000_000  # 2026-01-01T00:00Z
SPAN_US = 30 * DAY_US
WINDOWS = {"10min": 600_000_000, "1h": 3_600_000_000, "1d": DAY_US, "7d": 7 * DAY_US, "30d": 30 * DAY_US}
MEASURES = ("count", "sum", "mean", "min", "max", "std")
COLUMNS = (*(f"{m}_{w}" for w in WINDOWS for m in MEASURES), "last_lifetime", "categories_1d")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Workload:
    """How much of W: `n` events, `m` queries, keys as integers or text.

    Events are written in the order of their known time, as a log would have taken them.
    """

    n: int
    m: int
    keys: str = "int"
    users: int = 100_000
    categories: int = 50
    late: float = 0.01
    seed: int = 20261101

    def name(self) -> str:
        return f"w_{self.n}_{self.m}_{self.keys}_{self.users}_{self.seed}"


def _users(rng: np.random.Generator, n: int, users: int) -> NDArray[np.int64]:
    weight = np.arange(1, users + 1, dtype=np.float64) ** -0.8
    edges = np.cumsum(weight) / weight.sum()
    return np.searchsorted(edges, rng.random(n), side="right").clip(max=users - 1).astype(np.int64)


def _keys(codes: NDArray[np.int64], keys: str) -> pa.Array:
    scattered = codes * 2_654_435_761 % 4_294_967_296  # so that hot users are not neighbours
    if keys == "int":
        return pa.array(scattered)
    return pa.array(np.char.add("u", scattered.astype(str)), pa.string())


def _events(w: Workload, rng: np.random.Generator, first: int, n: int) -> pa.Table:
    step = SPAN_US / w.n
    happened = START_US + ((first + np.arange(n) + rng.random(n)) * step).astype(np.int64)
    delay = np.where(rng.random(n) < w.late, rng.integers(1, 600_000_000, n), 0)
    known = happened + delay
    order = np.argsort(known, kind="stable")
    codes = _users(rng, n, w.users)
    amount = np.maximum(1, rng.lognormal(7.5, 1.0, n)).astype(np.int64)
    category = rng.integers(0, w.categories, n)
    stamp = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "user_id": _keys(codes[order], w.keys),
            "happened_at": pa.array(happened[order]).cast(stamp),
            "known_at": pa.array(known[order]).cast(stamp),
            "amount": pa.array(amount[order]),
            "category": pa.array(category[order]),
        }
    )


def write(folder: Path, w: Workload) -> tuple[Path, Path]:
    """Writes events and queries as Parquet, unless they are there already; returns both paths."""
    target = folder / w.name()
    events, queries = target / "events.parquet", target / "queries.parquet"
    if queries.exists():
        return events, queries
    target.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(w.seed)
    writer: pq.ParquetWriter | None = None
    for first in range(0, w.n, CHUNK):
        table = _events(w, rng, first, min(CHUNK, w.n - first))
        if writer is None:
            writer = pq.ParquetWriter(events, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=CHUNK)
    if writer is not None:
        writer.close()
    asked = START_US + np.sort(rng.integers(0, SPAN_US, w.m))
    table = pa.table(
        {
            "user_id": _keys(_users(rng, w.m, w.users), w.keys),
            "number": pa.array(np.arange(w.m)),
            "asked_at": pa.array(asked).cast(pa.timestamp("us", tz="UTC")),
        }
    )
    partial = queries.with_suffix(".partial")
    pq.write_table(table, partial, compression="zstd", row_group_size=CHUNK)
    partial.rename(queries)
    return events, queries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--m", type=int, default=100_000)
    parser.add_argument("--keys", choices=("int", "string"), default="int")
    args = parser.parse_args()
    for path in write(args.folder, Workload(args.n, args.m, args.keys)):
        print(path)


if __name__ == "__main__":
    main()
