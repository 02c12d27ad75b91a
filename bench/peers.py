"""The peers of the history benchmark, each in a process of its own: workload W as their users would write it.

`python -m bench.peers polars EVENTS QUERIES OUT [--threads 1]` writes the answers in the order of the queries to OUT
and prints one JSON object. They count rows as they occurred (no cut by known time), which is less work than ours.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bench.report import Meter
from bench.workload import WINDOWS

__all__ = ["PEERS"]


def duckdb(events: Path, queries: Path, out: Path, threads: int) -> str:
    """Window functions over events and queries together: RANGE frames that end just before the query."""
    import duckdb as db

    con = db.connect()
    con.execute(f"set threads = {threads}; set preserve_insertion_order = false")
    frames = ", ".join(
        f"w{name} as (partition by user_id order by t range between {us} preceding and 1 preceding)"
        for name, us in WINDOWS.items()
    )
    columns = [
        f"{op}({'is_event' if name == 'count' else 'amount'}) over w{w} as {name}_{w}"
        for w in WINDOWS
        for name, op in (
            ("count", "count"),
            ("sum", "sum"),
            ("mean", "avg"),
            ("min", "min"),
            ("max", "max"),
            ("std", "stddev_samp"),
        )
    ]
    last = "partition by user_id order by t range between unbounded preceding and 1 preceding"
    columns.append(f"last_value(amount ignore nulls) over ({last}) as last_lifetime")
    columns.append("count(distinct category) over w1d as categories_1d")
    con.execute(
        f"""copy (select * exclude (is_event) from (
        select number, is_event, {", ".join(columns)} from (
            select user_id, epoch_us(happened_at) as t, amount, category, true as is_event, null as number
            from read_parquet('{events}')
            union all
            select user_id, epoch_us(asked_at), null, null, null, number
            from read_parquet('{queries}'))
        window {frames}) where is_event is null order by number) to '{out}' (format parquet)"""
    )
    return str(db.__version__)


def polars(events: Path, queries: Path, out: Path, threads: int) -> str:
    """rolling_*_by over events and queries together, per user."""
    import os

    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars as pl

    seen = pl.read_parquet(events).select(
        "user_id", t=pl.col("happened_at"), amount="amount", category="category", number=pl.lit(None, pl.Int64)
    )
    asked = pl.read_parquet(queries)
    asked = asked.select(
        "user_id",
        t=pl.col("asked_at"),
        amount=pl.lit(None, pl.Int64),
        category=pl.lit(None, pl.Int64),
        number=pl.col("number"),
    )
    both = pl.concat([seen, asked]).sort("user_id", "t")
    columns = []
    for name in WINDOWS:
        size = name.replace("min", "m")
        amount = pl.col("amount")
        rolled = {
            "count": pl.col("amount").is_not_null().cast(pl.Int64).rolling_sum_by("t", size, closed="left"),
            "sum": amount.rolling_sum_by("t", size, closed="left"),
            "mean": amount.rolling_mean_by("t", size, closed="left"),
            "min": amount.rolling_min_by("t", size, closed="left"),
            "max": amount.rolling_max_by("t", size, closed="left"),
            "std": amount.rolling_std_by("t", size, closed="left"),
        }
        columns += [value.over("user_id").alias(f"{measure}_{name}") for measure, value in rolled.items()]
    columns.append(pl.col("amount").shift(1).forward_fill().over("user_id").alias("last_lifetime"))
    both = both.with_columns(columns).filter(pl.col("number").is_not_null()).sort("number")
    both.drop("user_id", "t", "amount", "category").write_parquet(out)
    return str(pl.__version__)


PEERS: dict[str, Callable[[Path, Path, Path, int], str]] = {"duckdb": duckdb, "polars": polars}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("events", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    meter = Meter()
    version = PEERS[args.peer](args.events, args.queries, args.out, args.threads)
    print(json.dumps({"version": version, **asdict(meter.cost())}))


if __name__ == "__main__":
    main()
