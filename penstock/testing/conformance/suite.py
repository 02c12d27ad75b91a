"""Runs a tempo over cases and compares it with the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from penstock.define.relation import Group
from penstock.testing.conformance.cases import Case, Found, FoundCell, GroupQuery, Query, Tempo, ViewQuery, answer
from penstock.testing.conformance.compare import differences
from penstock.testing.conformance.matrix import MATRIX, Matrix
from penstock.testing.oracle import Answer, Cell, Row
from penstock.testing.oracle.answers import plain_value
from penstock.testing.oracle.windows import LIFETIME, names

__all__ = ["OracleTempo", "check"]


class OracleTempo:
    """The oracle as a tempo: shows the protocol, and that the cases cover the matrix."""

    name = "oracle"

    def takes(self, case: Case, query: Query) -> bool:
        """Everything."""
        return True

    def answer(self, case: Case, queries: Sequence[Query]) -> Sequence[Found]:
        """Its own answers, as an engine would give them."""
        return [as_found(answer(case, query)) for query in queries]


def as_found(expected: Answer | Sequence[Row]) -> Found:
    """The oracle's answer as an engine would give it."""
    if isinstance(expected, Mapping):
        return {name: FoundCell(plain_value(cell), cell.status) for name, cell in expected.items()}
    return [
        replace(row, values={n: plain_value(v) if isinstance(v, Cell) else v for n, v in row.values.items()})
        for row in expected
    ]


def check(case: Case, tempo: Tempo, matrix: Matrix = MATRIX) -> int:
    """Compares a tempo with the oracle on one case; the number of queries it took.

    Raises:
        AssertionError: an answer differs; all differences of the first differing query are listed.
    """
    queries = [query for query in case.queries if tempo.takes(case, query)]
    if not queries:
        return 0
    found = tempo.answer(case, queries)
    assert len(found) == len(queries), f"{tempo.name} answered {len(found)} of {len(queries)} queries"
    for query, one in zip(queries, found, strict=True):
        expected = answer(case, query)
        words = differences(expected, one)
        assert not words, _report(case, tempo, query, words)
        _count(case, tempo, query, expected, matrix)
    return len(queries)


def _report(case: Case, tempo: Tempo, query: Query, words: list[str]) -> str:
    shown = "\n  ".join(words[:20])
    return f"{tempo.name} differs from time.md{case.title and ' in ' + repr(case.title)}\n at {query}\n  {shown}"


def _count(case: Case, tempo: Tempo, query: Query, expected: Answer | Sequence[Row], matrix: Matrix) -> None:
    """Counts the values of a group's columns that were compared and are not null."""
    if isinstance(query, ViewQuery):
        return
    group = case.definitions[query.group if isinstance(query, GroupQuery) else query.relation]
    if not isinstance(group, Group):
        return
    rows: list[Mapping[str, Any]] = [expected] if isinstance(expected, Mapping) else [row.values for row in expected]
    prefix = "" if isinstance(expected, Mapping) else f"{group.name}."
    for values in rows:
        for window in group.windows or (LIFETIME,):
            for name, agg in group.aggs:
                if values[prefix + names(name, window)].value is not None:
                    matrix.add(tempo.name, group, window, agg)
