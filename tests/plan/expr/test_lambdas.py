"""Lambdas over lists: as in DuckDB, one by one as the batch, nested, with columns of the row and hidden ones."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import ExpressionError
from penstock.plan.expr import Schema, UserFunction, compile
from penstock.plan.expr.parser import parse
from penstock.plan.expr.syntax import write
from penstock.plan.expr.types import INT
from tests.plan.expr.duckdb_check import compare
from tests.plan.expr.expression_values import values

SCHEMA = Schema.of(n="int?", s="text?", x="list<int>?", y="list<text>?")
SCOPE = {"n": "int", "s": "text", "x": "ints", "y": "texts"}
OF = {"ints": "int", "texts": "text"}
ROW = st.fixed_dictionaries({c.name: values(c.type) for c in SCHEMA.columns})
EXAMPLES = 2000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 80


@st.composite
def expressions(draw: st.DrawFn, kind: str, scope: dict[str, str], depth: int = 3) -> str:
    """A value of a kind from the names in scope; lambdas bring names of their own, which may hide those outside."""
    leaves = [name for name, held in scope.items() if held == kind]
    leaves += {"int": ["0", "-2", "7"], "text": ["'a'", "''"], "bool": ["TRUE"]}.get(kind, [])
    if (depth == 0 and leaves) or (leaves and draw(st.integers(0, 4)) == 0):
        return str(draw(st.sampled_from(leaves)))

    def of(other: str, names: dict[str, str] | None = None) -> str:
        return str(draw(expressions(other, names or scope, max(depth - 1, 0))))

    def call(function: str, source: str, result: str) -> str:
        params = draw(st.lists(st.sampled_from(("v", "i", "n", "s")), min_size=1, max_size=2, unique=True))
        inside = {**scope, **dict(zip(params, (OF[source], "int"), strict=False))}
        head = draw(st.sampled_from((f"lambda {', '.join(params)}:", f"({', '.join(params)}) ->")))
        return f"{function}({of(source)}, {head} {of(result, inside)})"

    lists = st.sampled_from(("ints", "texts"))
    forms: dict[str, list[Any]] = {
        "int": [lambda: f"({of('int')} + {of('int')})", lambda: f"({of('int')} * {of('int')})",
                lambda: f"length({of('text')})", lambda: f"len({of(draw(lists))})",
                lambda: f"({of('ints')})[{of('int')}]"],
        "text": [lambda: f"({of('text')} || {of('text')})", lambda: f"upper({of('text')})"],
        "bool": [lambda: f"({of('int')} > {of('int')})", lambda: f"({of('text')} IS NULL)",
                 lambda: f"({of('bool')} OR {of('bool')})", lambda: f"list_contains({of('ints')}, {of('int')})"],
        "ints": [lambda: call("list_filter", "ints", "bool"), lambda: call("list_transform", draw(lists), "int")],
        "texts": [lambda: call("list_filter", "texts", "bool"), lambda: call("list_transform", draw(lists), "text")],
    }  # fmt: skip
    return str(draw(st.sampled_from(forms[kind]))())


TEXTS = st.sampled_from(("ints", "texts")).flatmap(lambda kind: expressions(kind, SCOPE))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, st.lists(ROW, min_size=2, max_size=6))
def test_lambdas_are_as_in_duckdb(text: str, rows: list[dict[str, Any]]) -> None:
    compare(text, SCHEMA, rows)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, st.lists(ROW, min_size=1, max_size=5))
def test_one_by_one_is_the_batch_and_the_written_text_the_tree(text: str, rows: list[dict[str, Any]]) -> None:
    expression = compile(text, SCHEMA)
    assert parse(write(parse(text))) == parse(text)
    table = pa.Table.from_pylist(rows, schema=SCHEMA.arrow)
    batch = table.to_batches()[0]
    each = [compile(expression.text, SCHEMA).evaluate(batch.slice(at, 1)) for at in range(len(rows))]
    assert pa.chunked_array(each, expression.type.arrow).equals(expression.evaluate(table))
    assert expression.evaluate(batch.slice(0, 0)).type == expression.type.arrow


def test_columns_that_a_lambda_takes_from_its_row_are_read_and_its_own_names_are_not() -> None:
    assert compile("list_transform(x, lambda n: n + 1)", SCHEMA).columns == {"x"}
    assert compile("list_transform(x, lambda v: list_filter(y, lambda u: u = s))", SCHEMA).columns == {"s", "x", "y"}


def test_fields_of_elements_hide_columns_of_their_name() -> None:
    columns = {"items": "list<struct<price float, n int>>?", "v.price": "text?", "k": "int?"}
    schema = Schema.of(**columns)
    table = pa.Table.from_pylist(
        [{"items": [{"price": 2.0, "n": 3}, {"price": 0.5, "n": 1}], "v.price": "no", "k": 2}], schema=schema.arrow
    )
    spent = compile("list_transform(list_filter(items, lambda v: v.n < k + 2), lambda v: v.price * v.n)", schema)
    assert spent.evaluate(table).to_pylist() == [[6.0, 0.5]]
    assert spent.columns == {"items", "k"}


def test_a_users_function_may_stand_in_a_lambda_and_runs_only_on_rows() -> None:
    calls: list[int] = []

    def twice(v: int) -> int:
        calls.append(v)
        return 2 * v

    expression = compile(
        "list_transform([1, 2], lambda v: twice(v))",
        Schema(),
        {"twice": UserFunction("twice", (INT,), (False,), INT, False, twice)},
    )
    assert calls == []
    assert expression.evaluate(pa.table({"k": [0, 0]})).to_pylist() == [[2, 4], [2, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("list_transform(x, 3)", r"does not take \(list<int>, int\)"),
        ("list_transform(n, lambda v: v)", "takes a list, not int"),
        ("list_transform(x, lambda v: u)", "there is no column u"),
        ("list_transform(x, lambda v, v: v)", "two parameters v"),
        ("list_transform(x, lambda v, i, j: v)", "an element and its position"),
        ("list_transform(x, lambda v: NULL)", "the lambda has no type"),
        ("list_filter(x, lambda v: v + 1)", "true or false, not int"),
        ("upper(lambda v: v)", "upper takes no lambda"),
        ("lambda v: v", "a lambda outside a call"),
        ("list_transform(x, lambda 3: v)", "out of place here"),
    ],
)
def test_what_is_no_lambda_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        compile(text, SCHEMA)
