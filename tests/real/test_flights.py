"""The flights example: every value of its views against plain SQL, on a sample of its real schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.define.project import load
from penstock.engine.history import History
from penstock.plan.expr.types import Schema
from penstock.plan.ir import Plan
from penstock.plan.planner import plan

SAMPLE = 3_000
WINDOWS = {  # column: (key, width, step of the left edge), microseconds
    "by_origin": ("origin", {"1h": (3_600_000_000, 60_000_000), "3h": (10_800_000_000, 300_000_000)}),
    "by_carrier": ("carrier", {"6h": (21_600_000_000, 900_000_000)}),
    "by_tail": ("tailnum", {"12h": (43_200_000_000, 900_000_000)}),
}


def _plan(root: Path, folder: Path) -> Plan:
    definitions = load(root / "examples" / "flights")
    schemas = {}
    for name in ("schedule", "departures", "weather"):
        schema = Schema.from_arrow(pq.read_schema(folder / f"{name}.parquet"))
        schemas[name] = {c.name: f"{c.type}?" for c in schema.columns}
    return plan(replace(definitions, schemas=schemas))


def _sample(folder: Path) -> pa.Table:
    schedule = pq.read_table(folder / "schedule.parquet")
    chosen = np.sort(np.random.default_rng(3).choice(schedule.num_rows, SAMPLE, replace=False))
    asked = schedule.take(pa.array(chosen))
    instants = asked["scheduled_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy() - 3_600_000_000
    return asked.append_column("q", pa.array(instants))


def _sql(folder: Path, asked: pa.Table) -> dict[int, dict[str, Any]]:
    con = duckdb.connect()
    con.register("asked", asked.select(["flight_id", "origin", "carrier", "tailnum", "q"]))
    con.execute(f"create table d as select *, epoch_us(departed_at) t from read_parquet('{folder}/departures.parquet')")
    con.execute(f"create table w as select *, epoch_us(observed_at) t from read_parquet('{folder}/weather.parquet')")
    found: dict[int, dict[str, Any]] = {flight: {} for flight in asked["flight_id"].to_pylist()}
    for group, (key, windows) in WINDOWS.items():
        for name, (width, step) in windows.items():
            newest = "max_by(dep_delay, (t, d.rowid))" if group == "by_tail" else "null"
            edge = f"(q - {width}) - (q - {width}) % {step}"
            rows = con.execute(
                f"""select asked_id, count(d.t), avg(dep_delay), avg((dep_delay >= 15)::int), {newest}
                from (select flight_id as asked_id, {key} as key, q from asked) a
                left join d on d.{key} = key and d.t < q and d.t >= {edge} group by 1"""
            ).fetchall()
            for flight, n, mean, late, last in rows:
                values = {"n": n, "mean": mean, "late": late, **({"last": last} if group == "by_tail" else {})}
                found[flight] |= {f"{group}.{measure}_{name}": value for measure, value in values.items()}
    rows = con.execute(
        """select asked.flight_id, max_by(struct_pack(a := wind_speed, b := visib), w.t) from asked left join w
        on w.origin = asked.origin and w.t < q and q - w.t <= 10800000000 group by 1"""
    ).fetchall()
    for flight, weather in rows:
        found[flight] |= {"wind_speed": weather and weather["a"], "visib": weather and weather["b"]}
    hours = con.execute(
        f"""select flight_id, hour(scheduled_at at time zone 'America/New_York')
        from read_parquet('{folder}/schedule.parquet')"""
    ).fetchall()
    for flight, hour in hours:
        if flight in found:
            found[flight]["hour"] = hour
    return found


def test_every_value_is_plain_sql(real: Callable[[str], Path], root: Path) -> None:
    folder = real("flights")
    asked = _sample(folder)
    rows = {name: folder / f"{name}.parquet" for name in ("schedule", "departures", "weather")}
    found = History(_plan(root, folder), rows).view("rich", asked).table()
    expected = _sql(folder, asked)
    compared = 0
    for row in found.to_pylist():
        wanted = expected[row["flight_id"]]
        late_1h, late_3h = wanted["by_origin.late_1h"], wanted["by_origin.late_3h"]
        wanted["surge"] = None if late_1h is None or late_3h is None else late_1h - late_3h
        for name, value in wanted.items():
            assert _same(row[name], value), (row["flight_id"], name, row[name], value)
            compared += 1
    assert compared == SAMPLE * 17


def _same(found: Any, expected: Any) -> bool:
    if found is None or expected is None or isinstance(expected, int):
        return bool(found == expected)
    return bool(abs(found - expected) <= 1e-9 * max(1.0, abs(expected)))
