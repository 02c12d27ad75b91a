"""Fraud data: what users of such data ask for first is said in a few lines, and is plain SQL's answer for every row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock import define as ps
from penstock.define.project import Definitions
from penstock.define.relation import Group
from penstock.engine.history import History
from penstock.plan.planner import plan
from penstock.testing.conformance import END_US, Case, RowsQuery
from penstock.testing.oracle import Row
from penstock.testing.oracle.rows import instant_us
from tests.engine.live.tempo import LiveTempo

DAY_US = 86_400_000_000
DAYS = (1, 7, 30)


def _payments() -> Any:
    schema = {"EVENT_ID": "text", "EVENT_TIMESTAMP": "text", "EVENT_LABEL": "text", "ENTITY_ID": "text",
              "merchant": "text", "order_price": "text"}  # fmt: skip
    stream = ps.stream("payments", ps.files("transaction_2k.parquet"), time="cast(EVENT_TIMESTAMP as instant)",
                       schema=schema)  # fmt: skip
    return stream.with_columns(amount="cast(order_price as float)")


def _edge(days: int) -> str:
    """The left edge of a window of some days with its default hop: an hour, six hours, a day."""
    step = {1: DAY_US // 24, 7: DAY_US // 4, 30: DAY_US}[days]
    return f"(e - {days * DAY_US}) - (e - {days * DAY_US}) % {step}"


def _compare(found: pa.Table, expected: list[tuple[Any, ...]], columns: list[str]) -> None:
    wanted = {row[0]: row[1:] for row in expected}
    assert found.num_rows == len(wanted) > 1_000
    for row in found.select(["EVENT_ID", *columns]).to_pylist():
        for name, value in zip(columns, wanted[row["EVENT_ID"]], strict=True):
            same = (
                row[name] == value
                if value is None or isinstance(value, int)
                else abs(row[name] - value) < 1e-9 * max(1, value)
            )
            assert same, (row["EVENT_ID"], name, row[name], value)


def _history(group: Group, table: pa.Table) -> pa.Table:
    return History(plan(Definitions.of(group)), {"payments": table}).relation(group.name)


def _live(group: Group, table: pa.Table) -> pa.Table:
    """What a live job puts out for the same rows."""
    rows = []
    for offset, values in enumerate(table.to_pylist()):
        t = instant_us(datetime.fromisoformat(values["EVENT_TIMESTAMP"]))
        rows.append(Row(t, t, values, offset=offset))
    case = Case(Definitions.of(group), {"payments": rows}, [RowsQuery(group.name, END_US)])
    (found,) = LiveTempo(max_rows=700).answer(case, case.queries)
    return pa.Table.from_pylist([dict(row.values) for row in found])  # type: ignore[union-attr]


TEMPOS = pytest.mark.parametrize("rows_of", [_history, _live], ids=["history", "live"])


@TEMPOS
def test_share_of_frauds_at_a_terminal_ending_a_week_ago(
    real: Callable[[str], Path], rows_of: Callable[[Group, pa.Table], pa.Table]
) -> None:
    file = real("registration-fraud") / "transaction_2k.parquet"
    terminal = _payments().by("merchant").over("1d", "7d", "30d", offset="7d")
    risk = terminal.features("risk", n=ps.count(), fraud=ps.share("EVENT_LABEL = '1'"))
    found = rows_of(risk, pq.read_table(file))
    columns, selects = [], []
    for days in DAYS:
        columns += [f"risk.n_{days}d_ago_7d", f"risk.fraud_{days}d_ago_7d"]
        inside = f"filter (o.t < e and o.t >= {_edge(days)})"
        selects += [f"count(o.t) {inside}", f"avg((o.EVENT_LABEL = '1')::int) {inside}"]
    expected = (
        duckdb.connect()
        .execute(
            f"""with p as (select *, epoch_us(EVENT_TIMESTAMP::timestamptz) as t from read_parquet('{file}')),
        asked as (select EVENT_ID, merchant, t - {7 * DAY_US} as e from p)
        select a.EVENT_ID, {", ".join(selects)} from asked a left join p o on o.merchant = a.merchant group by 1"""
        )
        .fetchall()
    )
    _compare(found, expected, columns)


@TEMPOS
def test_count_and_mean_of_a_cards_payments_this_one_included(
    real: Callable[[str], Path], rows_of: Callable[[Group, pa.Table], pa.Table]
) -> None:
    file = real("registration-fraud") / "transaction_2k.parquet"
    card = _payments().by("ENTITY_ID").over("1d", "7d", "30d", include_self=True)
    spent = card.features("spent", n=ps.count(), mean=ps.mean("amount"))
    found = rows_of(spent, pq.read_table(file))
    columns, selects = [], []
    for days in DAYS:
        columns += [f"spent.n_{days}d", f"spent.mean_{days}d"]
        inside = f"filter (o.EVENT_ID = a.EVENT_ID or (o.t < e and o.t >= {_edge(days)}))"
        selects += [f"count(o.t) {inside}", f"avg(o.order_price::double) {inside}"]
    expected = (
        duckdb.connect()
        .execute(
            f"""with p as (select *, epoch_us(EVENT_TIMESTAMP::timestamptz) as t from read_parquet('{file}')),
        asked as (select EVENT_ID, ENTITY_ID, t as e from p)
        select a.EVENT_ID, {", ".join(selects)} from asked a left join p o on o.ENTITY_ID = a.ENTITY_ID group by 1"""
        )
        .fetchall()
    )
    _compare(found, expected, columns)


def test_registrations_with_labels_missing(real: Callable[[str], Path]) -> None:
    """A missing label is null: it is counted as a registration, and left out of the share."""
    file = real("registration-fraud") / "registration_2k.parquet"
    stream = ps.stream(
        "registrations", ps.files("registration_2k.parquet"), time="cast(EVENT_TIMESTAMP as instant)",
        schema={"EVENT_TIMESTAMP": "text", "billing_state": "text", "EVENT_LABEL": "text"},
    )  # fmt: skip
    group = stream.by("billing_state").over(ps.window("30d", hop="exact")).features(
        "state", n=ps.count(), labelled=ps.count("nullif(EVENT_LABEL, '')"),
        fraud=ps.share("nullif(EVENT_LABEL, '') = 'fraud'"),
    )  # fmt: skip
    table = pq.read_table(file)
    history = History(plan(Definitions.of(group)), {"registrations": table})
    instants = (
        duckdb.connect()
        .execute(f"select epoch_us(EVENT_TIMESTAMP::timestamptz) q from read_parquet('{file}')")
        .fetchnumpy()["q"]
    )
    asked = pa.table({"billing_state": table["billing_state"], "q": pa.array(instants)})
    found = history.group("state", asked).table()
    con = duckdb.connect()
    con.register("asked", asked.append_column("number", pa.array(range(asked.num_rows))))
    expected = con.execute(
        f"""select number, count(t), count(nullif(EVENT_LABEL, '')), avg((nullif(EVENT_LABEL, '') = 'fraud')::int)
        from asked a left join (select *, epoch_us(EVENT_TIMESTAMP::timestamptz) t from read_parquet('{file}')) r
        on r.billing_state = a.billing_state and t < q and t >= q - {30 * DAY_US} group by 1 order by 1"""
    ).fetchall()
    assert any(labelled < n for _, n, labelled, _ in expected)
    for row, (_, n, labelled, fraud) in zip(found.to_pylist(), expected, strict=True):
        assert (row["n_30d"], row["labelled_30d"]) == (n, labelled)
        assert row["fraud_30d"] == fraud or abs(row["fraud_30d"] - fraud) < 1e-12
