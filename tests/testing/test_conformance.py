"""The suite itself: the grid has no hole, and a wrong engine is found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from penstock.testing.conformance import MATRIX, Case, Found, FoundCell, Matrix, OracleTempo, Query, check_grid
from penstock.testing.conformance.cases import answer
from penstock.testing.conformance.suite import as_found


def test_the_grid_covers_every_cell() -> None:
    assert check_grid(OracleTempo()) > 100
    assert [cell for cell in MATRIX.empty() if cell[0] == "oracle"] == []


class OffByOne(OracleTempo):
    """Counts one row too many."""

    name = "off by one"

    def answer(self, case: Case, queries: Sequence[Query]) -> Sequence[Found]:
        return [_more(as_found(answer(case, query))) for query in queries]


def _more(found: Found) -> Found:
    if not isinstance(found, Mapping):
        return found
    return {
        name: FoundCell(cell.value + 1 if type(cell.value) is int else cell.value, cell.status)
        for name, cell in found.items()
    }


def test_a_wrong_engine_is_found_out() -> None:
    with pytest.raises(AssertionError, match="off by one differs from"):
        check_grid(OffByOne(), Matrix())


def test_counts_travel_between_processes() -> None:
    matrix, other = Matrix(), Matrix()
    matrix.counts["history", ("sum", "none", "exact")] = 3
    matrix.require("history")
    matrix.declare("history", "not asked", [("any", "none", "exact")])
    other.load(matrix.dump())
    assert (other.counts, other.required, other.declared) == (matrix.counts, matrix.required, matrix.declared)
