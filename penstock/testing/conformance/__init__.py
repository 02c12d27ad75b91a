"""One suite for every engine: cases, the comparison with the oracle, and the matrix of what was covered.

An engine writes a `Tempo` of about fifty lines and calls `check(case, tempo)` on the cases of
`penstock.testing.strategies` and on the grid.
"""

from __future__ import annotations

from penstock.testing.conformance.cases import (
    Case,
    Found,
    FoundCell,
    GroupQuery,
    Query,
    RowsQuery,
    Tempo,
    ViewQuery,
    is_present,
)
from penstock.testing.conformance.compare import FLOAT_BOUND, SKETCH_BOUND, differences
from penstock.testing.conformance.grid import END_US, check_grid, grid
from penstock.testing.conformance.matrix import MATRIX, Matrix
from penstock.testing.conformance.suite import OracleTempo, check

__all__ = [
    "END_US",
    "FLOAT_BOUND",
    "MATRIX",
    "SKETCH_BOUND",
    "Case",
    "Found",
    "FoundCell",
    "GroupQuery",
    "Matrix",
    "OracleTempo",
    "Query",
    "RowsQuery",
    "Tempo",
    "ViewQuery",
    "check",
    "check_grid",
    "differences",
    "grid",
    "is_present",
]
