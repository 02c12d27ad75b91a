from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

import penstock as ps
from penstock.errors import DataError, ExpressionError, Location, PlanError
from penstock.plan.expr import Schema, UserFunction, compile
from penstock.plan.expr.types import FLOAT, TEXT

SCHEMA = Schema.of(
    a="int?",
    b="float?",
    t="text?",
    at="instant?",
    d="date?",
    m="map<text, float>?",
    l="list<int>?",
    p="decimal(12,2)?",
    f="bool?",
    j="json?",
    st="struct<x: int, y: struct<z: text>>?",
    **{"by_origin.late_1h": "float?", "by_origin.late_3h": "float?"},
)
ROW: dict[str, Any] = {
    "a": 3,
    "b": 1.5,
    "t": "é%b",
    "at": dt.datetime(2013, 3, 10, 6, 30, tzinfo=dt.UTC),
    "d": dt.date(2013, 3, 10),
    "m": [("x", 1.0), ("y", 2.5)],
    "l": [10, None, 30],
    "p": Decimal("1.25"),
    "f": None,
    "j": '{"a": [1, {"b": "c"}]}',
    "st": {"x": 1, "y": {"z": "q"}},
    "by_origin.late_1h": 0.75,
    "by_origin.late_3h": 0.5,
}


def value_of(text: str, **changes: Any) -> Any:
    expression = compile(text, SCHEMA)
    found = expression.evaluate(pa.Table.from_pylist([ROW | changes], schema=SCHEMA.arrow))
    assert found.type == expression.type.arrow
    return found.to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("by_origin.late_1h - by_origin.late_3h", 0.25),
        ("at - 30d", dt.datetime(2013, 2, 8, 6, 30, tzinfo=dt.UTC)),
        ("d + 30h", dt.datetime(2013, 3, 11, 6, tzinfo=dt.UTC)),
        ("at - 60min", dt.datetime(2013, 3, 10, 5, 30, tzinfo=dt.UTC)),
        ("hour(at, 'America/New_York')", 1),
        ("hour(at + 1h, 'America/New_York')", 3),
        ("m[t]", None),
        ("m['y']", 2.5),
        ("l[1] + l[-1]", 40),
        ("l[2]", None),
        ("l[0]", None),
        ("st.y.z || '!'", "q!"),
        ("a / 2", 1.5),
        ("a / 0", None),
        ("a // 2", 1),
        ("-7 // 2", -3),
        ("-7 % a", -1),
        ("9223372036854775807 + a", None),
        ("p * 1.5", Decimal("1.875")),
        ("p > 1.249", True),
        ("3.14", 3.14),
        ("2 ^ 3 ^ 2", 64.0),
        ("1 || 2 + 3", "15"),
        ("round(2.5) + round(-2.5)", 0.0),
        ("t LIKE '_\\%b'", False),
        ("t LIKE '_%b'", True),
        ("f AND false", False),
        ("f OR a = 3", True),
        ("a IN (1, NULL)", None),
        ("a IN (3, NULL)", True),
        ("a NOT BETWEEN 1 AND 2", True),
        ("CASE a WHEN 3 THEN 'three' END", "three"),
        ("coalesce(f, a > 1)", True),
        ("CAST('12.5' AS int)", 13),
        ("CAST('x' AS int)", None),
        ("CAST(2.5 AS int)", 3),
        ("j ->> '$.a[1].b'", "c"),
        ("greatest(a, b, NULL)", 3.0),
        ("1e308 * 10 * b", None),
        ("-b * 0", 0.0),
    ],
)
def test_values(text: str, expected: Any) -> None:
    assert value_of(text) == expected


def test_nan_and_infinity_count_as_null() -> None:
    assert value_of("b IS NULL", b=float("nan")) is True
    assert value_of("coalesce(b, 7.0)", b=float("inf")) == 7.0
    assert value_of("ln(b)", b=-1.0) is None


def test_lineage_type_and_canonical_text() -> None:
    expression = compile(" by_origin.late_1h-(  a ) ", SCHEMA)
    assert expression.text == "by_origin.late_1h - a"
    assert expression.columns == {"by_origin.late_1h", "a"}
    assert (expression.type, expression.nullable) == (FLOAT, True)
    assert compile("coalesce(a, 0)", SCHEMA).nullable is False


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("dep_delay >= 15", "there is no column dep_delay"),
        ("uper(t)", "did you mean upper"),
        ("a + t", "+ does not take int and text"),
        ("sum(a)", "sum aggregates rows"),
        ("row_number() + 1", "window function"),
        ("SELECT 1", "subquery"),
        ("a; b", "another statement"),
        ("now()", "no function of the row"),
        ("hour(at, 'Mars')", "'Mars' is no zone"),
        ("at >= '2013-01-01'", "with Z or an offset"),
        ("NULL", "has no type"),
        ("a +", "ends where a value is expected"),
        ("30days", "durations are written"),
        ("st.q", "has no field q"),
        ("regexp_matches(t, '(')", "is no pattern"),
        ("CAST(at AS int)", "epoch_us"),
        ("(" * 300 + "1" + ")" * 300, "deep"),
        ("a" + " + 1" * 5_000, "deep"),
        ("NOT " * 5_000 + "f", "deep"),
    ],
)
def test_refusals_say_why_and_where(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile(text, SCHEMA, {}, Location("flights.py", 12))
    assert reason in str(caught.value)
    assert str(caught.value).startswith("flights.py:12: PS300")


def test_the_caret_stands_under_the_place() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile("a + uper(t)", SCHEMA)
    lines = str(caught.value).splitlines()
    assert lines[1].index("uper") == lines[2].index("^")


def test_one_by_one_is_the_batch_and_no_rows_are_none() -> None:
    rows = [ROW, ROW | {"a": None, "m": None, "l": []}, ROW | {"b": -0.0, "t": ""}]
    table = pa.Table.from_pylist(rows, schema=SCHEMA.arrow)
    for text in ("m[t]", "l[a]", "a * b", "upper(t)", "CASE WHEN a > 1 THEN b END", "1 + 1", "[a, 1]"):
        expression = compile(text, SCHEMA)
        whole = expression.evaluate(table)
        batch = table.to_batches()[0]
        assert pa.chunked_array([expression.evaluate(batch.slice(i, 1)) for i in range(3)]).equals(whole)
        assert len(expression.evaluate(table.slice(0, 0))) == 0
        assert expression.evaluate(batch).type == expression.type.arrow


def test_narrow_columns_widen_and_wrong_ones_are_refused() -> None:
    schema = Schema.of(n="int", t="text")
    batch = pa.record_batch({"n": pa.array([1], pa.int8()), "t": pa.array(["x"]).dictionary_encode()})
    assert compile("n + 1", schema).evaluate(batch).to_pylist() == [2]
    assert compile("t || t", schema).evaluate(batch).to_pylist() == ["xx"]
    with pytest.raises(DataError, match="column n"):
        compile("n", schema).evaluate(pa.record_batch({"n": pa.array(["x"])}))
    with pytest.raises(DataError, match="local times"):
        compile("at", Schema.of(at="instant")).evaluate(pa.record_batch({"at": pa.array([0], pa.timestamp("us"))}))
    with pytest.raises(DataError, match="not in the batch"):
        compile("n", schema).evaluate(pa.record_batch({"m": pa.array([1])}))


def tier(price: float | None) -> str:
    return "none" if price is None else "high" if price > 2 else "low"


def test_a_users_function_runs_row_by_row() -> None:
    function = UserFunction("tier", (FLOAT,), (True,), TEXT, False, tier)
    expression = compile("tier(a) || '!'", SCHEMA, {"tier": function})
    rows = pa.Table.from_pylist([ROW, ROW | {"a": None}, ROW | {"a": 1}], schema=SCHEMA.arrow)
    assert expression.evaluate(rows).to_pylist() == ["high!", "none!", "low!"]
    assert expression.nullable is False


def test_a_definition_becomes_a_users_function() -> None:
    function = UserFunction.of(ps.function(tier))
    assert function.signature == "tier(float?) -> text"
    assert function.source
    assert UserFunction.of(ps.function(spread)).signature == "spread(list<int>, map<text, float>) -> instant?"
    with pytest.raises(PlanError, match="x: the annotation is no value type"):
        UserFunction.of(ps.function(odd))


def spread(x: list[int], y: dict[str, float]) -> dt.datetime | None:
    return None


def odd(x: complex) -> int:
    return 1


def test_a_users_function_skips_null_and_names_its_failures() -> None:
    function = UserFunction("inverse", (FLOAT,), (False,), FLOAT, False, lambda x: 1 / x)
    expression = compile("inverse(b)", SCHEMA, {"inverse": function})
    rows = pa.Table.from_pylist([ROW | {"b": None}], schema=SCHEMA.arrow)
    assert expression.evaluate(rows).to_pylist() == [None]
    with pytest.raises(DataError, match=r"inverse failed") as caught:
        expression.evaluate(pa.Table.from_pylist([ROW | {"b": 0.0}], schema=SCHEMA.arrow))
    assert "ZeroDivisionError" in str(caught.value)
    assert "(0.0)" in str(caught.value)


def test_nan_within_lists_maps_and_structs_counts_as_null() -> None:
    schema = Schema.of(
        l="list<float>", m="map<text, float>", s="struct<x: float, n: int>", deep="list<struct<y: float>>"
    )
    nan = float("nan")
    row = {"l": [1.0, nan], "m": [("a", nan)], "s": {"x": nan, "n": 1}, "deep": [{"y": float("inf")}]}
    batch = pa.Table.from_pylist([row, row], schema=schema.arrow).to_batches()[0]
    for text in ("l[2]", "m['a']", "s.x", "deep[1].y", "list_sum(l) - 1.0 + l[2]"):
        assert compile(text, schema).evaluate(batch.slice(1)).to_pylist() == [None], text
    assert compile("list_sum(l)", schema).evaluate(batch).to_pylist() == [1.0, 1.0]
    assert compile("l", schema).evaluate(batch).to_pylist() == [[1.0, None]] * 2


def test_a_branch_of_case_calls_a_users_function_only_on_its_rows() -> None:
    function = UserFunction("inverse", (FLOAT,), (False,), FLOAT, False, lambda x: 1 / x)
    rows = pa.Table.from_pylist([ROW | {"b": b} for b in (0.0, 2.0, None, -4.0)], schema=SCHEMA.arrow)
    text = "CASE WHEN b = 0 THEN -1.0 WHEN b > 0 THEN CASE WHEN b > 1 THEN inverse(b) END ELSE inverse(b) + 1 END"
    expression = compile(text, SCHEMA, {"inverse": function})
    assert expression.evaluate(rows).to_pylist() == [-1.0, 0.5, None, 0.75]
    assert expression.columns == {"b"}
    assert len(expression.evaluate(rows.slice(0, 0))) == 0


def test_a_users_function_of_literals_runs_with_the_rows() -> None:
    calls: list[float] = []

    def seen(x: float) -> float:
        calls.append(x)
        return x

    function = UserFunction("seen", (FLOAT,), (False,), FLOAT, False, seen)
    expression = compile("seen(2) + b", SCHEMA, {"seen": function})
    assert calls == []
    rows = pa.Table.from_pylist([ROW, ROW], schema=SCHEMA.arrow)
    assert expression.evaluate(rows).to_pylist() == [3.5, 3.5]


@pytest.mark.parametrize("items", ["1, 2, 3, 4", "1, 2, NULL, 4, 9", "1.5, 2, 3, 4", "9, 8, 7, 6, b"])
def test_a_long_list_of_values_is_as_its_comparisons(items: str) -> None:
    rows = pa.Table.from_pylist([ROW | {"a": a} for a in (1, 3, None, 9)], schema=SCHEMA.arrow)
    spelled = " OR ".join(f"a = {item.strip()}" for item in items.split(","))
    found = compile(f"a IN ({items})", SCHEMA).evaluate(rows)
    assert found.to_pylist() == compile(spelled, SCHEMA).evaluate(rows).to_pylist()


def test_the_deepest_expression_runs() -> None:
    assert value_of("a" + " + 1" * 198) == 201
    assert value_of("(" * 190 + "a" + ")" * 190) == 3
