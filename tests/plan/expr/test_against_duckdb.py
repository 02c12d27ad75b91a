"""Every function that DuckDB has gives what DuckDB gives, through the text that `Expression.sql` writes."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.plan.expr.registry import Function, Overload
from tests.plan.expr.duckdb_check import compare
from tests.plan.expr.expression_values import values
from tests.plan.expr.function_calls import calls, cases

EXAMPLES = 60 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 3
# DuckDB and Arrow or NumPy take these from different mathematical libraries; the last digits differ.
NEAR = frozenset(
    {"expm1", "ln", "log1p", "log10", "log2", "pow", "cbrt", "sin", "cos", "tan", "asin", "acos", "atan", "atan2"}
    | {"sinh", "cosh", "tanh", "cot", "degrees", "radians", "sigmoid", "logit", "list_avg", "list_sum", "haversine"}
    | {"list_stddev_samp", "exp"}
    | {"list_product", "list_dot_product", "list_distance", "list_cosine_similarity", "map_sum", "epoch", "list_median"}
)  # fmt: skip


@pytest.mark.parametrize(("function", "overload", "variables"), list(cases(only_in_duckdb=True)))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_function(function: Function, overload: Overload, variables: dict[str, str], data: st.DataObject) -> None:
    for text, schema in calls(function, overload, variables):
        row = st.fixed_dictionaries({c.name: values(c.type) for c in schema.columns})
        compare(text, schema, data.draw(st.lists(row, min_size=4, max_size=16)), function.name in NEAR)
