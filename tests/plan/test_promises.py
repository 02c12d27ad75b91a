"""What a plan promises of columns holds for the oracle's answers: names in order, types, and where null may occur."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.plan import Plan, plan
from penstock.plan.expr.types import Column, Schema, Type
from penstock.testing.conformance.cases import Case, GroupQuery, RowsQuery, answer
from penstock.testing.oracle.answers import plain_value
from penstock.testing.oracle.folds import Cell
from penstock.testing.strategies import cases, chains, views

PLAIN: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int": (int,), "float": (float,), "decimal": (Decimal, int), "text": (str,), "date": (date,),
    "instant": (int, datetime), "duration": (int, timedelta), "bytes": (bytes,), "json": (str,),
}  # fmt: skip


def fits(value: Any, kind: Type) -> bool:
    """Whether a plain value is of a type; nulls inside lists and structs are."""
    if value is None:
        return True
    match kind.name:
        case "list":
            return isinstance(value, list) and all(fits(item, kind.element) for item in value)
        case "map":
            return isinstance(value, Mapping) and all(
                fits(k, kind.args[0]) and fits(v, kind.element) for k, v in value.items()
            )
        case "struct":
            named = value if isinstance(value, Mapping) else dict(zip(dict(kind.args), value, strict=True))
            return list(named) == list(dict(kind.args)) and all(fits(named[name], t) for name, t in kind.args)
    exact = isinstance(value, PLAIN[kind.name])
    return exact and (kind.name == "bool" or not isinstance(value, bool))


def check(found: Mapping[str, Any], schema: Schema) -> None:
    assert list(found) == list(schema)
    for name, value in found.items():
        column: Column = schema[name]
        plain = plain_value(value) if isinstance(value, Cell) else value
        assert plain is not None or column.nullable, f"{column} is null"
        assert fits(plain, column.type), f"{column} is {plain!r}"


def check_case(case: Case) -> None:
    made: Plan = plan(case.definitions)
    for query in case.queries:
        found = answer(case, query)
        if isinstance(query, GroupQuery):
            assert isinstance(found, dict)
            check(found, made.groups[query.group].outputs)
        elif isinstance(query, RowsQuery):
            for row in found:
                schema = made.relations[query.relation].schema
                check({name: row.values[name] for name in schema}, schema)  # type: ignore[union-attr]
        else:
            assert isinstance(found, dict)
            outputs = made.views[query.view].outputs
            check({name: found[name] for name in outputs}, outputs)
            assert set(found) == set(outputs)


@pytest.mark.parametrize("strategy", [cases(), chains(), views()], ids=["groups", "chains", "views"])
def test_answers_have_the_columns_types_and_nulls_that_the_plan_says(strategy: st.SearchStrategy[Case]) -> None:
    @settings(max_examples=40)
    @given(strategy)
    def hold(case: Case) -> None:
        check_case(case)

    hold()
