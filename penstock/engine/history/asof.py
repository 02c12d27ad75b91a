"""As-of reads: for each query the newest row of its key before an instant, known at `a`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.algebra.history import sweep
from penstock.algebra.layout import Layout, Measure, Op, Output, Slot, SlotKind, Window, WindowKind
from penstock.algebra.table import Queries, Rows
from penstock.engine.history.answers import Answer, Status
from penstock.engine.history.arrange import KeyedRows
from penstock.engine.history.frame import column, system
from penstock.engine.history.groups import Asked
from penstock.engine.history.knowledge import ranks
from penstock.plan.ir import AsOfPlan
from penstock.semantics.columns import EVENT_TIME, OP, OP_DELETE

__all__ = ["answer_asof", "newest_rows"]

Int64 = NDArray[np.int64]


def answer_asof(plan: AsOfPlan, keyed: KeyedRows, asked: Asked, columns: Sequence[str], *, threads: int = 1) -> Answer:
    """The columns of each query's row; null where there is none, with the reason as status.

    Args:
        keyed: rows of the relation, with its keys and `columns`; of a table with its deletes.
    """
    rows = keyed.table
    at = newest_rows(plan, keyed, asked, threads=threads)
    status = np.where(at >= 0, Status.OK, Status.UNSEEN).astype(np.uint8)
    safe = np.maximum(at, 0)
    if rows.num_rows:
        if plan.within_us is not None:
            age = asked.q - system(rows, EVENT_TIME)[safe]
            status[(at >= 0) & (age > plan.within_us)] = Status.STALE
        if OP in rows.column_names:
            status[(at >= 0) & (system(rows, OP)[safe] == OP_DELETE)] = Status.DELETED
    taken = pa.array(safe, mask=status != Status.OK)
    found = {name: column(rows, name).take(taken) for name in columns}
    return Answer(found, dict.fromkeys(columns, status))


def newest_rows(plan: AsOfPlan, keyed: KeyedRows, asked: Asked, *, threads: int = 1) -> Int64:
    """The index of each query's newest row, however old and be it a delete; -1 where there is none."""
    found = np.full(len(asked), -1, np.int64)
    rows = keyed.table
    if not rows.num_rows or not len(asked):
        return found
    query_codes, arranged = keyed.asked(asked.keys), keyed.arranged
    t = keyed.t
    layout = _layout(plan.closed)
    for ranked in ranks(asked.knowledge, rows, plan.relation, len(asked)):
        mine = np.arange(len(asked)) if ranked.queries is None else ranked.queries
        kernel_rows = Rows(
            key=arranged.codes,
            t=t,
            known_from=keyed.ordered_ranks(ranked.known_from),
            values=[np.arange(len(t), dtype=np.int64)],
            valid=[None],
            known_until=None if ranked.until is None else keyed.ordered_ranks(ranked.until),
        )
        answer = sweep(layout, kernel_rows, Queries(query_codes[mine], asked.q[mine], ranked.a), threads=threads)
        newest = answer["row"]
        there = newest.valid
        found[mine[there]] = arranged.rows[newest.values[there]]
    return found


def _layout(closed: str) -> Layout:
    window = Window("all", WindowKind.LIFETIME, closed=closed)
    last = Measure(Op.LAST, slot=0)
    return Layout((Slot("row", SlotKind.INT, "int"),), (last,), (window,), (Output("row", 0, 0, "int"),))
