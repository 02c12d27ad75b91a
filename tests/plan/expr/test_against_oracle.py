"""Kernels against the oracle's walk over the tree of another parser, row by row."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.plan.expr import Schema, compile
from penstock.testing.oracle.rows import plain
from penstock.testing.oracle.sql import evaluate
from tests.plan.expr.expression_values import values

SCHEMA = Schema.of(b="bool?", i="int?", j="int?", f="float?", g="float?", s="text?", u="text?")
LEAVES = {
    "bool": ["b", "TRUE"],
    "int": ["i", "j", "0", "-3", "7"],
    "float": ["f", "g", "-2.5e0", "1e300"],
    "text": ["s", "u", "''", "'a'"],
}
ROW = st.fixed_dictionaries({c.name: values(c.type) for c in SCHEMA.columns})
EXAMPLES = 1000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 60


@st.composite
def expressions(draw: st.DrawFn, kind: str, depth: int = 3) -> str:
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return str(draw(st.sampled_from(LEAVES[kind])))

    def of(other: str) -> str:
        return str(draw(expressions(other, depth - 1)))

    other = str(draw(st.sampled_from(["int", "float", "text"])))
    sign = str(draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="])))
    no = str(draw(st.sampled_from(["", "NOT "])))
    forms = {
        "bool": [
            lambda: f"({of(other)} {sign} {of(other)})",
            lambda: f"({of('bool')} AND {of('bool')})",
            lambda: f"({of('bool')} OR NOT {of('bool')})",
            lambda: f"({of(other)} IS {no}NULL)",
            lambda: f"({of(other)} {no}IN ({of(other)}, {of(other)}, NULL))",
            lambda: f"({of(other)} {no}BETWEEN {of(other)} AND {of(other)})",
            lambda: f"({of('text')} {no}LIKE '%a_')",
        ],
        "int": [
            lambda: f"({of('int')} {draw(st.sampled_from(['+', '-', '*', '//', '%']))} {of('int')})",
            lambda: f"abs({of('int')})",
            lambda: f"length({of('text')})",
        ],
        "float": [
            lambda: f"({of('float')} {draw(st.sampled_from(['+', '-', '*', '/', '%']))} {of('float')})",
            lambda: f"({of('int')} / {of('int')})",
            lambda: f"({of('int')} * {of('float')})",
            lambda: f"CAST({of('int')} AS double)",
        ],
        "text": [lambda: f"({of('text')} || {of('text')})", lambda: f"CAST({of('int')} AS text)"],
    }
    general = [
        lambda: f"CASE WHEN {of('bool')} THEN {of(kind)} ELSE {of(kind)} END",
        lambda: f"coalesce({of(kind)}, {of(kind)})",
        lambda: f"nullif({of(kind)}, {of(kind)})",
    ]
    return str(draw(st.sampled_from(forms[kind] * 2 + general))())


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(LEAVES)).flatmap(expressions), st.lists(ROW, min_size=1, max_size=6))
def test_random_expressions_are_as_the_oracle_says(text: str, rows: list[dict[str, Any]]) -> None:
    found = compile(text, SCHEMA).evaluate(pa.Table.from_pylist(rows, schema=SCHEMA.arrow)).to_pylist()
    assert found == [evaluate(text, {name: plain(value) for name, value in row.items()}) for row in rows]
