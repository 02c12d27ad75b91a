"""Every row of a key is accounted for: counted, or not, with the reason."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from penstock import define as ps
from penstock.define.project import Definitions
from penstock.engine.history import History, Reason
from penstock.errors import EngineError
from penstock.plan.planner import plan

SCHEMA = {"id": "text", "op": "text", "t": "int", "k": "int", "user": "int?", "x": "int?", "kind": "text"}


def _history(*rows: tuple[Any, ...]) -> History:
    stream = ps.stream(
        "events",
        ps.files("events.parquet"),
        time="instant_us(t)",
        known="instant_us(k)",
        id="id",
        op="op",
        schema=SCHEMA,
    )
    window = ps.window("100us", hop="exact", name="w")
    group = stream.by("user").over(window, ps.rows(1)).features(
        "g", n=ps.count(), s=ps.sum("x").where("kind = 'a'")
    )  # fmt: skip
    columns = zip(*rows, strict=True)
    arrow = {"text": pa.string(), "int": pa.int64()}
    table = {n: pa.array(v, arrow[t.rstrip("?")]) for (n, t), v in zip(SCHEMA.items(), columns, strict=True)}
    return History(plan(Definitions.of(group)), {"events": pa.table(table)})


def test_each_reason_is_told() -> None:
    history = _history(
        ("old", "insert", 50, 50, 1, 1, "a"),
        ("in", "insert", 150, 150, 1, 2, "a"),
        ("in", "insert", 151, 151, 1, 9, "a"),
        ("gone", "insert", 160, 160, 1, 3, "a"),
        ("gone", "delete", 160, 170, 1, 3, "a"),
        ("late", "insert", 165, 900, 1, 4, "a"),
        ("other", "insert", 166, 166, 1, 5, "b"),
        ("null", "insert", 167, 167, 1, None, "a"),
        ("at", "insert", 200, 200, 1, 6, "a"),
        ("theirs", "insert", 150, 150, 2, 7, "a"),
    )
    found = history.explain("g.s_w", {"user": 1}, 200)
    told = {(row["_id"], row["_event_time"]): row["reason"] for row in found.rows.to_pylist()}
    assert told == {
        ("old", 50): Reason.EXPIRED,
        ("in", 150): Reason.COUNTED,
        ("in", 151): Reason.DUPLICATE,
        ("gone", 160): Reason.SUPERSEDED,
        ("late", 165): Reason.LATER,
        ("other", 166): Reason.WHERE,
        ("null", 167): Reason.NULL,
        ("at", 200): Reason.EDGE,
    }
    assert (found.value, found.status, found.left_us, found.right_us) == (2, "ok", 100, 200)
    assert found.counted.num_rows == 1


def test_a_window_of_rows_counts_the_newest() -> None:
    history = _history(("a", "insert", 10, 10, 1, 1, "a"), ("b", "insert", 20, 20, 1, 2, "a"))
    found = history.explain("g.n_last1", {"user": 1}, 200)
    assert [(row["_id"], row["reason"]) for row in found.rows.to_pylist()] == [
        ("b", Reason.COUNTED),
        ("a", Reason.EXPIRED),
    ]
    assert found.value == 1


def test_the_list_is_bounded_but_counted_rows_are_all_there() -> None:
    rows = [(f"e{i}", "insert", i, i, 1, i, "a") for i in range(200)]
    found = _history(*rows).explain("g.n_w", {"user": 1}, 150, limit=10)
    assert found.counted.num_rows == found.value == 100
    assert (found.rows.num_rows, found.left_out) == (110, 90)


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(EngineError, match="did you mean n_w"):
        _history(("a", "insert", 10, 10, 1, 1, "a")).explain("g.n_v", {"user": 1}, 200)
