"""Real purchase lines: null customers, cancellations as corrections, legitimate duplicates, ties, local time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from penstock import define as ps
from penstock.define.project import Definitions
from penstock.engine.history import History
from penstock.plan.planner import plan

COLUMNS = {"InvoiceNo": "text", "StockCode": "text", "Quantity": "int", "InvoiceDate": "instant", "UnitPrice": "float",
           "CustomerID": "int?"}  # fmt: skip
DAY_US = 86_400_000_000
LOCAL = "epoch_us(InvoiceDate at time zone 'Europe/London')"


def _lines(**options: Any) -> Any:
    return ps.stream("lines", ps.files("online_retail.parquet"), time="InvoiceDate", zone="Europe/London", **options)


def _customers(folder: Path, every: int) -> list[tuple[int, int]]:
    """Customers, each asked at the instant of one of their invoices and a little later."""
    rows = (
        duckdb.connect()
        .execute(
            f"""select CustomerID, {LOCAL} as t from read_parquet('{folder}/online_retail.parquet')
        where CustomerID is not null and CustomerID % {every} = 0 group by all order by all"""
        )
        .fetchall()
    )
    return [(customer, t + shift) for customer, t in rows for shift in (0, 1, 3_600_000_000)]


def test_lines_are_plain_sql(real: Callable[[str], Path]) -> None:
    """Every identical line counts: without an id nothing is a duplicate. Ties fall as the file has them."""
    folder = real("online-retail")
    group = _lines(schema=COLUMNS).by("CustomerID").over(ps.window("7d", hop="exact")).features(
        "spent", lines=ps.count(), items=ps.sum("Quantity"), sold=ps.sum("Quantity * UnitPrice"),
        newest=ps.last("StockCode"), returned=ps.count().where("Quantity < 0"),
    )  # fmt: skip
    asked = _customers(folder, 37)
    queries = pa.table({"CustomerID": [c for c, _ in asked], "q": [q for _, q in asked]})
    rows = {"lines": pq.read_table(folder / "online_retail.parquet")}
    found = History(plan(Definitions.of(group)), rows).group("spent", queries).table()
    con = duckdb.connect()
    con.register("asked", queries)
    expected = con.execute(
        f"""select a.CustomerID, q, count(t), sum(Quantity)::bigint, sum(Quantity * UnitPrice),
        max_by(StockCode, (t, number)), count(*) filter (Quantity < 0)
        from asked a left join (select *, {LOCAL} as t, file_row_number as number
            from read_parquet('{folder}/online_retail.parquet', file_row_number = true)) l
        on l.CustomerID = a.CustomerID and t < q and t >= q - {7 * DAY_US} group by all"""
    ).fetchall()
    wanted = {(row[0], row[1]): row[2:] for row in expected}
    assert found.num_rows == len(asked) > 500
    for row in found.to_pylist():
        lines, items, sold, newest, returned = wanted[row["CustomerID"], row["q"]]
        assert (row["lines_7d"], row["items_7d"], row["newest_7d"], row["returned_7d"]) == (
            lines,
            items,
            newest,
            returned,
        )
        assert (row["sold_7d"] is None) == (sold is None)
        assert sold is None or abs(row["sold_7d"] - sold) <= 1e-9 * 1e4 * max(1.0, abs(sold))


def test_lines_without_a_customer_are_no_ones(real: Callable[[str], Path]) -> None:
    folder = real("online-retail")
    group = _lines(schema=COLUMNS).by("CustomerID").features("all_lines", n=ps.count())
    table = pq.read_table(folder / "online_retail.parquet")
    history = History(plan(Definitions.of(group)), {"lines": table})
    end = 1_400_000_000_000_000
    found = history.all_keys("all_lines", end).table()
    known = table.num_rows - table["CustomerID"].null_count
    assert table["CustomerID"].null_count > 1_000
    assert sum(found["n"].to_pylist()) == known
    nobody = pa.table({"CustomerID": pa.array([None], pa.int64()), "q": [end]})
    answer = history.group("all_lines", nobody).table(statuses=True).to_pylist()
    assert answer == [{"CustomerID": None, "q": end, "n": 0, "n:status": "unseen"}]


def test_a_cancellation_takes_its_line_back(real: Callable[[str], Path]) -> None:
    """A cancelled line counts until its cancellation is known, and never after, at whatever instant it happened."""
    folder = real("online-retail")
    lines = duckdb.sql(
        f"""with lines as (select *, {LOCAL} as t, file_row_number as number
            from read_parquet('{folder}/online_retail.parquet', file_row_number = true) where CustomerID is not null),
        cancelled as (select c.number as by_number, c.t as gone, max(s.number) as number from lines c join lines s
            on c.InvoiceNo like 'C%' and s.InvoiceNo not like 'C%' and s.CustomerID = c.CustomerID
            and s.StockCode = c.StockCode and s.Quantity = -c.Quantity and s.t < c.t group by all),
        once as (select number, min(gone) as gone from cancelled group by number)
        select 'l' || number as id, 'insert' as op, t, t as k, CustomerID, Quantity, number as place from lines
            where InvoiceNo not like 'C%'
        union all
        select 'l' || once.number, 'delete', gone, gone, CustomerID, Quantity, 1000000 + once.number
            from once join lines using (number)
        order by k, place"""
    )
    assert lines is not None
    log: pa.Table = lines.to_arrow_table()
    schema = {"id": "text", "op": "text", "t": "int", "k": "int", "CustomerID": "int", "Quantity": "int"}
    stream = ps.stream(
        "orders",
        ps.files("orders.parquet"),
        time="instant_us(t)",
        known="instant_us(k)",
        id="id",
        op="op",
        schema=schema,
    )
    group = (
        stream.by("CustomerID").over(ps.window("30d", hop="exact")).features("kept", n=ps.count(), q=ps.sum("Quantity"))
    )
    asked = _customers(folder, 61)
    queries = pa.table(
        {
            "CustomerID": [c for c, _ in asked for _ in range(2)],
            "asked_at": [q for _, q in asked for _ in range(2)],
            "a": [q + later for _, q in asked for later in (0, 10 * DAY_US)],
        }
    )
    deletes = sum(op == "delete" for op in log["op"].to_pylist())
    assert deletes > 1_000
    found = History(plan(Definitions.of(group)), {"orders": log}).group("kept", queries, q="asked_at", a="a").table()
    con = duckdb.connect()
    con.register("log", log)
    con.register("asked", queries)
    expected = con.execute(
        f"""with ended as (select i.*, coalesce(d.k, 9e18::bigint) as until from log i left join log d
            on d.id = i.id and d.op = 'delete' where i.op = 'insert')
        select a.CustomerID, a.asked_at, a.a, count(t), sum(Quantity)::bigint from asked a left join ended e
        on e.CustomerID = a.CustomerID and t < a.asked_at and t >= a.asked_at - {30 * DAY_US}
            and k <= a.a and until > a.a group by all"""
    ).fetchall()
    wanted: dict[Any, Any] = {row[:3]: row[3:] for row in expected}
    for row in found.to_pylist():
        assert (row["n_30d"], row["q_30d"]) == wanted[row["CustomerID"], row["asked_at"], row["a"]]
