"""Laws of random expressions: as DuckDB, one by one as the batch, the written text as the tree."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.plan.expr import Schema, compile
from penstock.plan.expr.parser import parse
from penstock.plan.expr.syntax import write
from tests.plan.expr.duckdb_check import compare
from tests.plan.expr.expression_values import values

SCHEMA = Schema.of(
    b="bool?", i="int?", j="int?", f="float?", g="float?", s="text?", u="text?", d="date?", at="instant?",
    w="duration?", p="decimal(12,2)?", q="decimal(38,4)?",
)  # fmt: skip
COLUMNS = {"bool": "b", "int": "ij", "float": "fg", "text": "su", "date": "d", "duration": "w", "decimal": "pq"}
LITERALS = {
    "bool": ["TRUE", "NULL IS NULL"],
    "int": ["0", "1", "-3", "9223372036854775807", "2"],
    "float": ["0.5", "-2.5", "1e300", "3.0"],
    "text": ["''", "'a'", "'é%'", "'12'"],
    "date": ["DATE '2012-02-29'"],
    "instant": ["TIMESTAMP '2013-03-10 07:00:00Z'"],
    "duration": ["30d", "-90min", "1us"],
    "decimal": ["CAST(1.25 AS decimal(5,2))", "CAST(-7 AS decimal(3,1))"],
}
ROW = st.fixed_dictionaries({c.name: values(c.type) for c in SCHEMA.columns})


def leaf(kind: str) -> st.SearchStrategy[str]:
    columns = ["at"] if kind == "instant" else list(COLUMNS[kind])
    return st.sampled_from(columns * 2 + LITERALS[kind])


@st.composite
def expressions(draw: st.DrawFn, kind: str, depth: int = 3) -> str:
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return str(draw(leaf(kind)))

    def of(other: str) -> str:
        return str(draw(expressions(other, depth - 1)))

    general = [
        lambda: f"CASE WHEN {of('bool')} THEN {of(kind)} ELSE {of(kind)} END",
        lambda: f"coalesce({of(kind)}, {of(kind)})",
        lambda: f"CASE WHEN {of('bool')} THEN {of(kind)} WHEN {of('bool')} THEN {of(kind)} END",
        lambda: f"nullif({of(kind)}, {of(kind)})",
    ]
    other = str(draw(st.sampled_from(["int", "float", "text", "date", "instant", "duration", "decimal"])))
    sign = str(draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="])))
    own: dict[str, list[Any]] = {
        "bool": [
            lambda: f"({of(other)} {sign} {of(other)})",
            lambda: f"({of('bool')} AND {of('bool')})",
            lambda: f"({of('bool')} OR {of('bool')})",
            lambda: f"(NOT {of('bool')})",
            lambda: f"({of(other)} IS NULL)",
            lambda: f"({of(other)} IS DISTINCT FROM {of(other)})",
            lambda: f"({of('bool')} IS NOT FALSE)",
            lambda: f"({of(other)} IN ({of(other)}, {of(other)}, NULL))",
            lambda: f"({of(other)} NOT BETWEEN {of(other)} AND {of(other)})",
            lambda: f"({of('text')} LIKE '%a_')",
            lambda: f"({of('text')} NOT LIKE {of('text')})",
            lambda: f"CAST({of('int')} AS bool)",
            lambda: f"({of('int')} {sign} {of('float')})",
        ],
        "int": [
            lambda: f"({of('int')} {draw(st.sampled_from(['+', '-', '*', '//', '%', '&', '|']))} {of('int')})",
            lambda: f"(- {of('int')})",
            lambda: f"(~{of('int')})",
            lambda: f"({of('int')} >> 3)",
            lambda: f"CAST({of(draw(st.sampled_from(['float', 'text', 'bool', 'decimal'])))} AS int)",
            lambda: f"({of('date')} - {of('date')})",
            lambda: f"length({of('text')})",
        ],
        "float": [
            lambda: f"({of('float')} {draw(st.sampled_from(['+', '-', '*', '/', '%']))} {of('float')})",
            lambda: f"({of('int')} / {of('int')})",
            lambda: f"({of('int')} * {of('float')})",
            lambda: f"(- {of('float')})",
            lambda: f"CAST({of('int')} AS float)",
            lambda: f"CAST({of('text')} AS float)",
        ],
        "text": [
            lambda: f"({of('text')} || {of('text')})",
            lambda: f"upper({of('text')})",
            lambda: f"CAST({of(draw(st.sampled_from(['int', 'bool', 'date', 'decimal', 'float'])))} AS text)",
        ],
        "date": [lambda: f"({of('date')} + 31)", lambda: f"CAST({of('instant')} AS date)"],
        "instant": [
            lambda: f"({of('instant')} {draw(st.sampled_from('+-'))} {draw(leaf('duration'))})",
            lambda: f"({of('date')} + 30h)",
            lambda: f"CAST({of('date')} AS instant)",
        ],
        "duration": [
            lambda: f"({draw(leaf('instant'))} - {draw(leaf('instant'))})",
            lambda: f"({of('duration')} + {of('duration')})",
            lambda: f"(- {of('duration')})",
        ],
        "decimal": [
            lambda: (
                f"(p {draw(st.sampled_from(['+', '-', '*', '%']))} {draw(st.sampled_from(['p', '1.5', '2', 'i']))})"
            ),
            lambda: f"CAST({of('int')} AS decimal(12,2))",
            lambda: f"CAST({of('text')} AS decimal(12,2))",
            lambda: f"(- {of('decimal')})",
        ],
    }
    return str(draw(st.sampled_from(general + own[kind] * 2))())


KINDS = st.sampled_from(list(LITERALS))
TEXTS = KINDS.flatmap(expressions)
EXAMPLES = 2000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 60


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, st.lists(ROW, min_size=2, max_size=6))
def test_random_expressions_are_as_in_duckdb(text: str, rows: list[dict[str, Any]]) -> None:
    compare(text, SCHEMA, rows)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, st.lists(ROW, min_size=1, max_size=5))
def test_one_by_one_is_the_batch(text: str, rows: list[dict[str, Any]]) -> None:
    expression = compile(text, SCHEMA)
    table = pa.Table.from_pylist(rows, schema=SCHEMA.arrow)
    whole = expression.evaluate(table)
    batch = table.to_batches()[0]
    each = [expression.evaluate(batch.slice(at, 1)) for at in range(len(rows))]
    assert pa.chunked_array(each, expression.type.arrow).equals(whole)
    assert expression.evaluate(batch.slice(0, 0)).type == expression.type.arrow


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS)
def test_the_written_text_is_the_tree(text: str) -> None:
    tree = parse(text)
    assert parse(write(tree)) == tree
    expression = compile(text, SCHEMA)
    assert compile(expression.text, SCHEMA).type == expression.type
    assert compile(expression.text, SCHEMA).text == expression.text
