"""History on workload W: ours through the public API from Parquet files, beside Polars and DuckDB on the same work.

`python -m bench.history [--n 1000000] [--m 100000] [--keys int|string] [--threads 1] [--as-occurred]
[--limit-memory 2GiB] [--no-peers]`. The figure is events per CPU-second of the whole process, reading included.
Peers count rows as they occurred; answers are compared where no row of the query's past was known later than it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.report import Meter, Peer, last_line
from bench.workload import COLUMNS, WINDOWS, Workload, write
from penstock import define as ps
from penstock.define.project import Definitions
from penstock.engine.history import History, Progress
from penstock.plan.planner import plan

TOLERANCE = 1e-9
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def definitions(keys: str) -> Definitions:
    """Workload W as a user writes it: one view over two groups."""
    key = "int" if keys == "int" else "text"
    schema = {"user_id": key, "happened_at": "instant", "known_at": "instant", "amount": "int", "category": "int"}
    user = ps.entity("user_id")
    events = ps.stream("events", ps.files("events.parquet"), time="happened_at", known="known_at", schema=schema)
    measures: dict[str, Any] = {
        "count": ps.count(),
        "sum": ps.sum("amount"),
        "mean": ps.mean("amount"),
        "min": ps.min("amount"),
        "max": ps.max("amount"),
        "std": ps.std("amount"),
    }
    windows = [ps.window(name, hop="exact") for name in WINDOWS]
    wide = events.by(user).over(*windows).features("wide", **measures)
    newest = events.by(user).over(ps.lifetime()).features("newest", last=ps.last("amount"))
    daily = events.by(user).over(ps.window("1d", hop="exact")).features("daily", categories=ps.distinct("category"))
    view = ps.view("w", ps.inputs(user_id=key), wide, newest, daily)
    return Definitions.of(view)


def ours(args: argparse.Namespace, events: Path, queries: Path, out: Path) -> None:
    """Runs in a process of its own and prints one JSON object."""
    meter = Meter()
    limit = None if args.limit_memory is None else _bytes(args.limit_memory)
    shown = _show if args.progress else None
    history = History(
        plan(definitions(args.keys)), {"events": events}, memory_bytes=limit, threads=args.threads, progress=shown
    )
    rows = history.view("w", queries, q="asked_at", as_occurred=args.as_occurred).write_parquet(out)
    cost = meter.cost()
    print(json.dumps({"rows": rows, "cpu_s": cost.cpu_s, "wall_s": cost.wall_s, "peak_bytes": cost.peak_bytes}))


def _show(told: Progress) -> None:
    eta = "" if told.eta_s is None else f", {told.eta_s:.0f} s left"
    sys.stderr.write(f"\r{told.stage}: {told.fraction:.0%}{eta}    ")


def _bytes(text: str) -> int:
    for unit, size in UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * size)
    return int(text)


def _child(*command: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def our_column(name: str) -> str:
    group = {"last_lifetime": "newest", "categories_1d": "daily"}.get(name, "wide")
    return f"{group}.{name}"


def settled(events: Path, queries: Path) -> np.ndarray[Any, Any]:
    """Queries of which no row of the last 30 days was known later than they ask: answers with and without `k` agree."""
    import duckdb

    late = duckdb.sql(
        f"""select distinct q.number
        from read_parquet('{queries}') q
        join (select * from read_parquet('{events}') where known_at > happened_at) e
        on q.user_id = e.user_id and e.happened_at < q.asked_at and e.known_at > q.asked_at"""
    ).fetchnumpy()["number"]
    kept = np.ones(pq.read_metadata(queries).num_rows, np.bool_)
    kept[late] = False
    return kept


def compare(found: pa.Table, peer: pa.Table, kept: np.ndarray[Any, Any]) -> tuple[int, dict[str, float]]:
    """How many rows were compared, and by column the share that differs beyond the tolerance."""
    wrong = {}
    for name in COLUMNS:
        if name not in peer.column_names:
            continue
        mine = found.column(our_column(name)).to_numpy().astype(np.float64)[kept]
        other = peer.column(name).to_numpy().astype(np.float64)[kept]
        same = (np.isnan(mine) & np.isnan(other)) | (
            np.abs(mine - other) <= TOLERANCE * np.maximum(np.abs(mine), np.abs(other))
        )
        if name.startswith(("count", "categories")):
            same |= (mine == 0) & np.isnan(other)
        if name.startswith("sum"):
            same |= np.isnan(mine) & (other == 0)  # the sum of nothing is 0 to Polars, null to us
        if not same.all():
            wrong[name] = float((~same).mean())
    return int(kept.sum()), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--m", type=int, default=100_000)
    parser.add_argument("--keys", choices=("int", "string"), default="int")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--as-occurred", action="store_true")
    parser.add_argument("--limit-memory")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--ours", nargs=3, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        ours(args, *args.ours)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        events, queries = write(folder, Workload(args.n, args.m, args.keys))
        flags = [f for f in sys.argv[1:] if f not in ("--no-peers",)]
        out = Path(temporary) / "ours.parquet"
        mine = _child("bench.history", *flags, "--ours", str(events), str(queries), str(out))
        figure = args.n / mine["cpu_s"]
        peers: dict[str, Peer] = {}
        kept = None if args.no_peers else settled(events, queries)
        for name in () if args.no_peers else ("polars", "duckdb"):
            answers = Path(temporary) / f"{name}.parquet"
            cost = _child("bench.peers", name, str(events), str(queries), str(answers), "--threads", str(args.threads))
            assert kept is not None
            compared, wrong = compare(pq.read_table(out).sort_by("number"), pq.read_table(answers), kept)
            worst = ", ".join(f"{column} {share:.2%}" for column, share in sorted(wrong.items()))
            note = f"{cost['cpu_s']:.1f} CPU-s, peak {cost['peak_bytes'] >> 20} MiB" + (
                f"; differ: {worst}" if worst else ""
            )
            peers[name] = Peer(cost["version"], round(args.n / cost["cpu_s"]), compared, not wrong, note)
        shown = {
            "cpu_s": round(mine["cpu_s"], 3),
            "wall_s": round(mine["wall_s"], 3),
            "peak_mib": mine["peak_bytes"] >> 20,
            "n": args.n,
            "m": args.m,
            "columns": len(COLUMNS),
        }
        cut = "as occurred" if args.as_occurred else "a = q"
        mode = f"{args.keys} keys, {cut}, {args.threads} thread(s), from Parquet to Parquet; peers as occurred"
        last_line("history", round(figure), "events per CPU-second", shown, peers, mode=mode)


if __name__ == "__main__":
    main()
