"""The row that Chronon publishes for its quickstart tables (its document "Join", sample output of the training set)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pc

from penstock import define as ps
from penstock.define.project import Definitions
from penstock.engine.history import History
from penstock.plan.planner import plan

USER, AT_MS = 24, 1_701_320_475_364
EXPECTED = {
    "purchases.sum_3d": 331, "purchases.sum_14d": 1574, "purchases.sum_30d": 1934,
    "purchases.count_3d": 1, "purchases.count_14d": 4, "purchases.count_30d": 5,
    "purchases.average_3d": 331.0, "purchases.average_14d": 393.5, "purchases.average_30d": 386.8,
    "last_purchases.last10": [331, 474, 497, 272, 360],
    "returns.sum_3d": None, "returns.sum_14d": 76, "returns.sum_30d": 645,
    "returns.count_3d": 0, "returns.count_14d": 1, "returns.count_30d": 3,
    "returns.average_3d": None, "returns.average_14d": 76.0, "returns.average_30d": 215.0,
    "last_returns.last2": [76, 388],
    "account_created_ds": "2023-07-01", "email_verified": 0,
}  # fmt: skip
"""As published, but for the count of nothing, which is null there and 0 here."""


def _events(name: str, value: str) -> Any:
    schema = {"ts": "int", "user_id": "int", value: "int"}
    return ps.stream(name, ps.files(f"{name}.csv"), time="instant_ms(ts)", known="instant_ms(ts)", schema=schema)


def _definitions() -> Definitions:
    user = ps.entity("user_id")
    parts = []
    for name, value, last, n in (
        ("purchases", "purchase_price", "last10", 10),
        ("returns", "refund_amt", "last2", 2),
    ):
        stream = _events(f"{name}_log", value)
        measures = {"sum": ps.sum(value), "count": ps.count(), "average": ps.mean(value)}
        parts.append(stream.by(user).over("3d", "14d", "30d", hop="1h").features(name, **measures))
        parts.append(stream.by(user).features(f"last_{name}", **{last: ps.last_n(n, value)}))
    users = ps.table(
        "users", ps.files("users.csv"), key=user, known="ds", time="ds", zone="UTC",
        schema={"ds": "date", "user_id": "int", "account_created_ds": "text", "email_verified": "int"},
    )  # fmt: skip
    return Definitions.of(
        ps.view("v1", ps.inputs(user_id="int"), *parts, users["account_created_ds", "email_verified"])
    )


def _csv(path: Path) -> pa.Table:
    return pc.read_csv(path, convert_options=pc.ConvertOptions(column_types={"account_created_ds": pa.string()}))


def test_the_published_row(real: Callable[[str], Path]) -> None:
    folder = real("chronon-quickstart")
    rows = {
        "purchases_log": _csv(folder / "purchases.csv"),
        "returns_log": _csv(folder / "returns.csv"),
        "users": _csv(folder / "users.csv"),
    }
    asked = pa.table({"user_id": [USER], "q": [AT_MS * 1000]})
    found = History(plan(_definitions()), rows).view("v1", asked).table().to_pylist()[0]
    assert {name: found[name] for name in EXPECTED} == EXPECTED


def test_every_checkout_is_plain_sql(real: Callable[[str], Path]) -> None:
    folder = real("chronon-quickstart")
    checkouts = _csv(folder / "checkouts.csv")
    rows = {
        name: _csv(folder / file) for name, file in (("purchases_log", "purchases.csv"), ("returns_log", "returns.csv"))
    }
    rows["users"] = _csv(folder / "users.csv")
    asked = pa.table({"user_id": checkouts["user_id"], "q": pa.array([t * 1000 for t in checkouts["ts"].to_pylist()])})
    found = History(plan(_definitions()), rows).view("v1", asked).table()
    expected = (
        duckdb.connect()
        .execute(
            f"""select c.ts, c.user_id, sum(p.purchase_price)::bigint s, count(p.ts) n
        from read_csv('{folder}/checkouts.csv') c left join read_csv('{folder}/purchases.csv') p
        on p.user_id = c.user_id and p.ts < c.ts and p.ts >= c.ts - 14 * 86400000 - (c.ts - 14 * 86400000) % 3600000
        group by all"""
        )
        .fetchall()
    )
    wanted = {(ts * 1000, user): (s, n) for ts, user, s, n in expected}
    got = found.select(["q", "user_id", "purchases.sum_14d", "purchases.count_14d"]).to_pylist()
    assert len(got) == checkouts.num_rows
    for row in got:
        assert (row["purchases.sum_14d"], row["purchases.count_14d"]) == wanted[row["q"], row["user_id"]]
