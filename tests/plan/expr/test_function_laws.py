"""Laws of every function: one by one as the batch, null only where said, never NaN, an infinity or -0.0."""

from __future__ import annotations

import math
import os
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.plan.expr import Schema, Type, compile
from penstock.plan.expr.registry import Function, Overload
from tests.plan.expr.expression_values import plain_values, values
from tests.plan.expr.function_calls import calls, cases

EXAMPLES = 60 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 2
ODD = [math.nan, math.inf, -math.inf, -0.0, 1.5]
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def rows_of(schema: Schema, nulls: bool) -> st.SearchStrategy[list[dict[str, Any]]]:
    draw = values if nulls else plain_values
    row = st.fixed_dictionaries({c.name: with_odd(c.type, draw(c.type)) for c in schema.columns})
    return st.lists(row, min_size=1, max_size=6)


def with_odd(kind: Type, held: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(held, st.sampled_from(ODD)) if kind.name == "float" else held


def floats_in(value: Any) -> list[float]:
    if isinstance(value, list | tuple):
        return [found for item in value for found in floats_in(item)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize(("function", "overload", "variables"), list(cases(only_in_duckdb=False)))
@SETTINGS
@given(data=st.data())
def test_laws(function: Function, overload: Overload, variables: dict[str, str], data: st.DataObject) -> None:
    for text, schema in calls(function, overload, variables):
        rows = data.draw(rows_of(schema, nulls=True)) if schema else [{}]
        expression = compile(text, schema)
        table = pa.Table.from_pylist(rows, schema=schema.arrow) if schema else pa.table({"n": [0]})
        whole = expression.evaluate(table)
        assert whole.type == expression.type.arrow
        (batch,) = table.to_batches()
        each = [expression.evaluate(batch.slice(at, 1)) for at in range(batch.num_rows)]
        assert pa.chunked_array(each, expression.type.arrow).equals(whole)
        assert len(expression.evaluate(batch.slice(0, 0))) == 0
        if "timestamp" not in str(whole.type):
            found = floats_in(whole.to_pylist())
            assert all(math.isfinite(value) for value in found)
            assert not any(value == 0 and math.copysign(1, value) < 0 for value in found)


@pytest.mark.parametrize(("function", "overload", "variables"), list(cases(only_in_duckdb=False)))
@SETTINGS
@given(data=st.data())
def test_null_only_where_said(
    function: Function, overload: Overload, variables: dict[str, str], data: st.DataObject
) -> None:
    for text, schema in calls(function, overload, variables, nullable=False):
        if schema and not compile(text, schema).nullable:
            row = st.fixed_dictionaries({c.name: plain_values(c.type) for c in schema.columns})
            rows = data.draw(st.lists(row, min_size=1, max_size=6))
            found = compile(text, schema).evaluate(pa.Table.from_pylist(rows, schema=schema.arrow))
            assert found.null_count == 0, (text, rows)
