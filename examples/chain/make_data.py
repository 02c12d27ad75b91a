"""Makes the example's payments and charge-backs under `data/`: seeded, with late, corrected and withdrawn rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START_US = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
DAY_US, SECOND_US = 86_400_000_000, 1_000_000
INSTANT = pa.timestamp("us", "UTC")


def payments(rng: np.random.Generator, n: int, days: int) -> pa.Table:
    """`n` payments, 2 % seen up to 10 minutes late, 1 % corrected within a day, 0.5 % withdrawn."""
    paid = np.sort(rng.integers(START_US, START_US + days * DAY_US, n))
    late = np.where(rng.random(n) < 0.02, rng.integers(0, 600 * SECOND_US, n), 0)
    columns = {
        "payment_id": np.array([f"p{i}" for i in range(n)]),
        "paid_at": paid,
        "seen_at": paid + 20_000 + late,
        "op": np.full(n, "insert"),
        "card_id": (rng.pareto(1.2, n) * 20).astype(np.int64) % 500,
        "terminal_id": rng.integers(0, 60, n),
        "merchant_id": rng.integers(0, 25, n),
        "city": rng.choice(["Berlin", "Lima", "Oslo", ""], n),
        "cents": np.exp(rng.normal(7.5, 1.0, n)).astype(np.int64) + 1,
    }
    fixed, gone = _again(columns, rng.random(n) < 0.01, rng), _again(columns, rng.random(n) < 0.005, rng)
    fixed["op"][:], gone["op"][:] = "upsert", "delete"
    fixed["cents"] = fixed["cents"] // 2 + 1
    whole = {name: np.concatenate([columns[name], fixed[name], gone[name]]) for name in columns}
    order = np.lexsort((whole["payment_id"], whole["seen_at"]))
    return _table({name: values[order] for name, values in whole.items()})


def _again(columns: dict[str, np.ndarray], chosen: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    rows = {name: values[chosen].copy() for name, values in columns.items()}
    rows["op"] = rows["op"].astype("U6")
    rows["seen_at"] = rows["seen_at"] + rng.integers(1, DAY_US - 3600 * SECOND_US, len(rows["seen_at"]))
    return rows


def _table(columns: dict[str, np.ndarray]) -> pa.Table:
    city = pa.array(columns["city"])
    cents = pa.array(columns["cents"]).cast(pa.decimal128(19, 0))
    amount = pa.compute.multiply(cents, pa.scalar("0.01").cast(pa.decimal128(3, 2)))
    return pa.table(
        {
            "payment_id": pa.array(columns["payment_id"]),
            "paid_at": pa.array(columns["paid_at"]).cast(INSTANT),
            "seen_at": pa.array(columns["seen_at"]).cast(INSTANT),
            "op": pa.array(columns["op"]),
            "card_id": pa.array(columns["card_id"], pa.int64()),
            "terminal_id": pa.array(columns["terminal_id"], pa.int64()),
            "merchant_id": pa.array(columns["merchant_id"], pa.int64()),
            "city": pa.compute.if_else(pa.compute.equal(city, ""), None, city),
            "amount": amount.cast(pa.decimal128(12, 2)),
        }
    )


def chargebacks(rng: np.random.Generator, paid: pa.Table) -> pa.Table:
    """A charge-back for 3 % of the payments, up to five days later (those after three do not count)."""
    first = paid.filter(pa.compute.equal(paid["op"], "insert"))
    chosen = np.flatnonzero(rng.random(first.num_rows) < 0.03)
    at = first["paid_at"].cast(pa.int64()).to_numpy()[chosen] + rng.integers(1, 5 * DAY_US, len(chosen))
    order = np.argsort(at, kind="stable")
    return pa.table(
        {
            "chargeback_id": pa.array([f"c{i}" for i in range(len(chosen))]),
            "payment_id": first["payment_id"].take(pa.array(chosen[order])),
            "disputed_at": pa.array(at[order]).cast(INSTANT),
        }
    )


def write(data: Path, n: int = 20_000, days: int = 20, seed: int = 7) -> None:
    """Writes both files into a folder."""
    rng = np.random.default_rng(seed)
    data.mkdir(parents=True, exist_ok=True)
    table = payments(rng, n, days)
    pq.write_table(table, data / "payments.parquet")
    pq.write_table(chargebacks(rng, table), data / "chargebacks.parquet")


if __name__ == "__main__":
    write(Path(__file__).parent / "data", *map(int, sys.argv[1:]))
