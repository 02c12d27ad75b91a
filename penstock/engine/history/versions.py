"""Which raw rows are accepted, and until when each accepted version counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.engine.history.frame import EVENT, UNTIL_OFFSET, column, replace_column, system
from penstock.plan.ir import SourcePlan
from penstock.semantics.columns import (
    ID,
    KNOWN_TIME,
    KNOWN_UNTIL,
    NEVER_US,
    OFFSET,
    OP,
    OP_DELETE,
    PARTITION,
)
from penstock.semantics.versions import ACCEPTED, NO_ID, Decisions, accept

__all__ = ["decided", "decisions_of", "id_codes", "resolved"]

Int64 = NDArray[np.int64]


def id_codes(table: pa.Table) -> Int64:
    """A code per row, equal for equal (ordinal, id) and `NO_ID` where there is none."""
    encoded = column(table, ID).dictionary_encode().indices
    codes: Int64 = pc.fill_null(encoded, NO_ID).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def decided(plan: SourcePlan, table: pa.Table) -> pa.Table:
    """The rows that the door of a stream accepts, in order of arrival: no duplicates, no deletes of unknown ids."""
    table, decisions = decisions_of(plan, table)
    kept = decisions.kind == ACCEPTED
    if OP in table.column_names:
        table = replace_column(table, OP, pa.array(decisions.op))
    return table if kept.all() else table.filter(pa.array(kept))


def decisions_of(plan: SourcePlan, table: pa.Table) -> tuple[pa.Table, Decisions]:
    """The rows in order of arrival, and what the door decides of each."""
    known, offset = system(table, KNOWN_TIME), system(table, OFFSET)
    if bool((known[1:] < known[:-1]).any()):
        table = table.take(pa.array(np.lexsort((offset, known))))
        known = system(table, KNOWN_TIME)
    ops = system(table, OP).astype(np.int8)
    return table, accept(id_codes(table), ops, known, plan.dedup_us)


def resolved(plan: SourcePlan, table: pa.Table) -> pa.Table:
    """Accepted rows of a corrected stream as versions: deletes taken out; `_known_until`, `_until_offset`
    and `_event` added.

    Of one id, within one partition, a version is over when the next one is known; a correction further back than the
    stream's horizon begins a new event.
    """
    ids, known = id_codes(table), system(table, KNOWN_TIME)
    offset, partition = system(table, OFFSET), system(table, PARTITION)
    until, until_offset = np.full(len(ids), NEVER_US, np.int64), np.full(len(ids), NEVER_US, np.int64)
    order = np.lexsort((offset, known, partition, ids))
    this, after = order[:-1], order[1:]
    same = (ids[this] == ids[after]) & (partition[this] == partition[after]) & (ids[this] != NO_ID)
    if plan.corrected_us is not None:
        same &= known[after] - known[this] <= plan.corrected_us
    until[this[same]], until_offset[this[same]] = known[after[same]], offset[after[same]]
    table = replace_column(table, KNOWN_UNTIL, pa.array(until))
    table = replace_column(table, UNTIL_OFFSET, pa.array(until_offset))
    begins = np.concatenate([np.ones(min(1, len(order)), np.bool_), ~same])
    event = np.empty(len(order), np.int64)
    event[order] = offset[order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]]
    table = replace_column(table, EVENT, pa.array(event))
    return table.filter(pc.not_equal(table.column(OP), OP_DELETE))
