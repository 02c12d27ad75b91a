"""Answers to single rows of a relation, for those who have forgotten what they rest on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.engine.history.frame import column, int64, replace_column
from penstock.engine.history.joins import outcomes_of
from penstock.engine.history.lookups import NUMBER, OwnPosition, read_lookup
from penstock.engine.history.readers import KeyedReads
from penstock.engine.history.run import Run
from penstock.plan.ir import JoinPlan, LookupPlan, Reducer

__all__ = ["bygone_columns", "bygone_outcomes"]

Int64 = NDArray[np.int64]


def bygone_columns(run: Run, lookup: LookupPlan, rows: pa.Table, sight: OwnPosition) -> dict[str, pa.Array]:
    """What a lookup says to rows at (q = t, a = own position, inclusive), by the reader's names, in their order.

    Args:
        rows: with the reader's columns and the system's.
    """
    names = lookup.outputs.names
    rows = _numbered(rows.drop_columns([name for name in names if name in rows.column_names]))
    found = pa.concat_tables(read_lookup(run, KeyedReads(), [lookup], [rows], sight))
    return _in_order(found, names)


def bygone_outcomes(
    run: Run, plan: JoinPlan, reducers: Sequence[Reducer], rows: pa.Table, a: Int64
) -> dict[str, pa.Array]:
    """Folds of the outcomes of observations, known at `a`, in the order of the rows."""
    rows = replace_column(_numbered(rows), _KNOWN_BY, pa.array(a))
    found = pa.concat_tables(outcomes_of(run, KeyedReads(), plan, reducers, observed=rows, known_by=_KNOWN_BY))
    return _in_order(found, [reducer.name for reducer in reducers])


_KNOWN_BY = "_known_by"


def _numbered(rows: pa.Table) -> pa.Table:
    return replace_column(rows, NUMBER, pa.array(np.arange(rows.num_rows, dtype=np.int64)))


def _in_order(found: pa.Table, names: Sequence[str]) -> dict[str, pa.Array]:
    order = pa.array(np.argsort(int64(found.column(NUMBER)), kind="stable"))
    return {name: column(found, name).take(order) for name in names}
