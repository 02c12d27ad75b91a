"""The grammar: the precedence of DuckDB, and nothing but ExpressionError for what is no expression."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ExpressionError
from penstock.plan.expr import Schema, compile
from penstock.plan.expr.lexer import KEYWORDS
from penstock.plan.expr.parser import parse
from penstock.plan.expr.syntax import Call, Name, walk, write

CONNECTION = duckdb.connect(config={"threads": 1})
CONNECTION.execute("SET error_on_division_by_zero = false")
ONE_ROW = pa.table({"n": [0]})

_INT_OPS = ["+", "-", "*", "//", "%", "&", "|"]
_numbers = st.sampled_from(["0", "1", "2", "3", "7", "-4", "- 2"])


@st.composite
def flat_ints(draw: st.DrawFn) -> str:
    """Ints joined by operators, without a parenthesis."""
    text = draw(_numbers)
    for _ in range(draw(st.integers(0, 4))):
        text += f" {draw(st.sampled_from(_INT_OPS))} {draw(_numbers)}"
    return text


@st.composite
def flat_bools(draw: st.DrawFn) -> str:
    """Comparisons joined by AND and OR, without a parenthesis."""

    def one() -> str:
        value = draw(flat_ints())
        forms = [
            f"{value} {draw(st.sampled_from(['=', '<>', '<', '>=']))} {draw(flat_ints())}",
            f"{value} BETWEEN {draw(flat_ints())} AND {draw(flat_ints())}",
            f"{value} NOT IN ({draw(flat_ints())}, NULL)",
            f"{value} IS NULL",
            f"NOT {value} < {draw(flat_ints())} IS NOT NULL",
            f"{value} = {draw(flat_ints())} IS TRUE",
            f"'a' || {draw(_numbers)} + {draw(_numbers)} * {draw(_numbers)} LIKE 'a%'",
        ]
        return draw(st.sampled_from(["", "NOT "])) + draw(st.sampled_from(forms))

    text = one()
    for _ in range(draw(st.integers(0, 3))):
        text += f" {draw(st.sampled_from(['AND', 'OR']))} {one()}"
    return text


@given(st.one_of(flat_ints(), flat_bools()))
def test_operators_bind_as_in_duckdb(text: str) -> None:
    try:
        theirs = CONNECTION.execute(f"SELECT {text}").fetchone()
    except (duckdb.OutOfRangeException, duckdb.InvalidInputException):
        theirs = (None,)  # where DuckDB finds overflow
    assert theirs is not None
    assert compile(text, Schema()).evaluate(ONE_ROW).to_pylist() == [theirs[0]]


@given(
    st.lists(
        st.sampled_from(
            [*sorted(KEYWORDS), *"+-*/%()[],.:;'\"<>=|&~^", "->", "a", "f", "filter", "1", "2.5", "3d", "'t'", "::"]
        )
    )
)
def test_any_words_parse_or_are_refused(words: list[str]) -> None:
    text = " ".join(words)
    try:
        tree = parse(text)
    except ExpressionError as error:
        assert "^" in str(error)
    else:
        assert parse(write(tree)) == tree


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        tree = parse(text)
    except ExpressionError:
        return
    assert parse(write(tree)) == tree


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("case x when 1 then 'a' end", "CASE WHEN x = 1 THEN 'a' ELSE NULL END"),
        ("x::decimal(12, 2)", "CAST(x AS decimal(12,2))"),
        ("x::list<map<text,int>>[1]", "CAST(x AS list<map<text, int>>)[1]"),
        ('"select".y', '"select".y'),
        ("u_ctr.cat_7d[category]", "u_ctr.cat_7d[category]"),
        ("x isnull or y notnull", "x IS NULL OR NOT y IS NULL"),
        ("interval 2 hours + 1h30min", "2h + 90min"),
        ("extract(HOUR from t)", "date_part('hour', t)"),
        ("UPPER(s)", "upper(s)"),
        ("a - (b - c) - (d * e)", "a - (b - c) - d * e"),
        ("NOT (a AND b)", "NOT (a AND b)"),
        ("(a IS NULL) = b", "(a IS NULL) = b"),
        ("list_transform(x, v -> v > 1)", "list_transform(x, lambda v: v > 1)"),
        ("LIST_FILTER(x, (v, i) -> v -> 'a' = i)", "list_filter(x, lambda v, i: v -> 'a' = i)"),
        ("f(LAMBDA a: a, b)", "f(lambda a: a, b)"),
        ('filter(x, "V w" -> a)', 'filter(x, lambda "V w": a)'),
        ("list_concat(x -> 'a', y)", "list_concat(x -> 'a', y)"),
    ],
)
def test_canonical_text(text: str, written: str) -> None:
    assert write(parse(text)) == written
    assert parse(written) == parse(text)


def test_walk_meets_every_node() -> None:
    tree = parse("CASE WHEN f(a) IN (b, 1) THEN x[i] BETWEEN l AND -h ELSE CAST(s.t AS bool) END")
    names = [".".join(node.parts) for node in walk(tree) if isinstance(node, Name)]
    assert names == ["a", "b", "x", "i", "l", "h", "s.t"]
    assert any(isinstance(node, Call) and node.name == "f" for node in walk(tree))
