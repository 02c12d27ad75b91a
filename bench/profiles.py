"""A profile table larger than memory, read as of each query's instant: by default 50 M keys under 2 GiB.

`python -m bench.profiles [--n 50000000] [--m 1000000] [--limit-memory-mib 2048]`. Beside it DuckDB's ASOF JOIN
under the same memory limit, which knows one time only: every row is known when it happened.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.report import Meter, Peer, last_line
from penstock import define as ps
from penstock.define.project import Definitions
from penstock.engine.history import History
from penstock.plan.planner import plan

CHUNK = 1 << 20
SPAN_US = 30 * 86_400_000_000
STAMP = pa.timestamp("us", tz="UTC")


def write(folder: Path, n: int, m: int) -> tuple[Path, Path]:
    """One row for each of `n` keys, a tenth of them twice, in the order of time; queries of any key."""
    table, queries = folder / f"profiles_{n}.parquet", folder / f"asked_{n}_{m}.parquet"
    rng = np.random.default_rng(7)
    if not table.exists():
        partial = table.with_suffix(".partial")
        writer: pq.ParquetWriter | None = None
        total = n + n // 10
        for first in range(0, total, CHUNK):
            at = np.arange(first, min(first + CHUNK, total))
            key = np.where(at < n, at * 2_654_435_761 % n, rng.integers(0, n, len(at)))
            columns = {"user_id": key, "level": rng.integers(0, 100, len(at)), "score": rng.normal(size=len(at))}
            rows = pa.table({**columns, "updated_at": pa.array(at * (SPAN_US // total)).cast(STAMP)})
            writer = writer or pq.ParquetWriter(partial, rows.schema, compression="zstd")
            writer.write_table(rows)
        assert writer is not None
        writer.close()
        partial.rename(table)
    if not queries.exists():
        asked = {"user_id": rng.integers(0, n, m), "number": np.arange(m)}
        pq.write_table(pa.table({**asked, "q": pa.array(rng.integers(0, SPAN_US, m)).cast(STAMP)}), queries)
    return table, queries


def ours(table: Path, queries: Path, out: Path, limit: int) -> None:
    schema = {"user_id": "int", "level": "int", "score": "float", "updated_at": "instant"}
    profiles = ps.table("profiles", ps.files("profiles.parquet"), key="user_id", time="updated_at", known="updated_at",
                        schema=schema)  # fmt: skip
    view = ps.view("v", ps.inputs(user_id="int"), profiles["level", "score"])
    history = History(plan(Definitions.of(view)), {"profiles": table}, memory_bytes=limit)
    history.view("v", queries).write_parquet(out)


def duckdb(table: Path, queries: Path, out: Path, limit: int) -> None:
    import duckdb as db

    con = db.connect(config={"memory_limit": f"{limit >> 20}MiB", "threads": "1"})
    con.execute(
        f"""copy (select a.number, p.level, p.score from read_parquet('{queries}') a
        asof left join read_parquet('{table}') p on p.user_id = a.user_id and p.updated_at < a.q order by number)
        to '{out}' (format parquet)"""
    )


RUNS = {"ours": ours, "duckdb": duckdb}


def _child(who: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.profiles", "--run", who, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50_000_000)
    parser.add_argument("--m", type=int, default=1_000_000)
    parser.add_argument("--limit-memory-mib", type=int, default=2048)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        meter = Meter()
        RUNS[args.run[0]](Path(args.run[1]), Path(args.run[2]), Path(args.run[3]), int(args.run[4]))
        print(json.dumps(asdict(meter.cost())))
        return
    with tempfile.TemporaryDirectory() as temporary:
        table, queries = write(args.folder or Path(temporary), args.n, args.m)
        limit = args.limit_memory_mib << 20
        outs = {who: Path(temporary) / f"{who}.parquet" for who in RUNS}
        costs = {who: _child(who, table, queries, out, limit) for who, out in outs.items()}
        mine, other = (pq.read_table(outs[who]).sort_by("number") for who in RUNS)
        equal = all(mine[name].equals(other[name]) for name in ("level", "score"))
        figures = {who: round(args.n / cost["cpu_s"]) for who, cost in costs.items()}
        shown = {k: round(v, 2) for k, v in costs["ours"].items()}
        import duckdb as db

        note = f"{costs['duckdb']['cpu_s']:.1f} CPU-s, peak {costs['duckdb']['peak_bytes'] >> 20} MiB"
        peers = {"duckdb": Peer(str(db.__version__), figures["duckdb"], args.m, equal, note)}
        mode = f"{args.n} keys, {args.m} queries, limit {args.limit_memory_mib} MiB, from Parquet to Parquet"
        last_line("profiles", figures["ours"], "rows per CPU-second", shown, peers, mode=mode)


if __name__ == "__main__":
    main()
