"""Why a value is what it is: the rows that counted, and those that did not, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.algebra.layout import Output
from penstock.engine.history.arrange import time_order
from penstock.engine.history.entry import Entry
from penstock.engine.history.frame import column, full, system
from penstock.engine.history.lookups import read_columns
from penstock.engine.history.relations import Readers, rows_of
from penstock.engine.history.run import Run
from penstock.engine.history.versions import decisions_of
from penstock.errors import EngineError, nearest
from penstock.plan.ir import ComputePlan, EnrichPlan, FilterPlan, GroupPlan, RelationPlan, SourcePlan
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, KNOWN_UNTIL, is_system_column
from penstock.semantics.versions import DUPLICATE

__all__ = ["Explanation", "Reason", "explain"]

Int64 = NDArray[np.int64]


class Reason(StrEnum):
    """Why a row did not count."""

    COUNTED = "counted"
    EDGE = "at or after the right edge"
    EXPIRED = "before the left edge"
    LATER = "known later"
    SUPERSEDED = "superseded or deleted by then"
    DUPLICATE = "a duplicate, dropped at the door"
    WHERE = "where is not true"
    NULL = "its value is null"


@dataclass(frozen=True, eq=False)
class Explanation:
    """The rows of one key behind one value.

    Attributes:
        value, status: what the engine answers.
        left_us, right_us: the window's edges: rows with left <= t < right; `left_us` None: from the beginning.
        rows: newest first: `reason`, the two times, `_known_until`, `_id`, the key and the columns that are read.
        left_out: rows that did not count and are not listed, for want of room.
    """

    value: Any
    status: str
    left_us: int | None
    right_us: int
    rows: pa.Table
    left_out: int

    @property
    def counted(self) -> pa.Table:
        """The rows that counted."""
        return self.rows.filter(pc.equal(self.rows["reason"], Reason.COUNTED.value))


def explain(
    run: Run, readers: Readers, plan: GroupPlan, name: str, key: Mapping[str, Any], *, q: int, a: int, limit: int
) -> tuple[pa.Table, int, tuple[int | None, int]]:
    """The rows of a key with their reasons, how many are left out, and the window's edges.

    Raises:
        EngineError: the group has no such column.
    """
    output = next((o for o in plan.layout.outputs if o.name == name), None)
    if output is None:
        raise EngineError(
            f"{plan.name.name} has no such column",
            found=repr(name),
            remedy=nearest(name, [o.name for o in plan.layout.outputs]),
        )
    wanted = read_columns(plan, ())
    tables = [_of_key(plan, full(t), key) for t in rows_of(run, readers, plan.input, wanted)]
    rows = pa.concat_tables(tables, promote_options="permissive")
    reasons, edges = _reasons(plan, output, rows, q=q, a=a)
    duplicates = [_of_key(plan, t, key) for t in _duplicates(run, plan, key)]
    if duplicates:
        dropped = full(pa.concat_tables(duplicates))
        rows = pa.concat_tables([rows, dropped], promote_options="permissive")
        reasons = np.concatenate([reasons, np.full(dropped.num_rows, Reason.DUPLICATE.value, reasons.dtype)])
    return (*_listed(rows, reasons, wanted, limit), edges)


def _reasons(
    plan: GroupPlan, output: Output, rows: pa.Table, *, q: int, a: int
) -> tuple[NDArray[Any], tuple[int | None, int]]:
    window = plan.layout.windows[output.window]
    left, right = window.edges_us(np.array([q]))
    t, k, until = system(rows, EVENT_TIME), system(rows, KNOWN_TIME), system(rows, KNOWN_UNTIL)
    reasons = np.full(len(t), Reason.COUNTED.value, dtype="<U40")

    def say(reason: Reason, where: NDArray[np.bool_]) -> None:
        reasons[(reasons == Reason.COUNTED.value) & where] = reason.value

    say(Reason.EDGE, t >= right[0])
    say(Reason.EXPIRED, t < left[0])
    say(Reason.LATER, k > a)
    say(Reason.SUPERSEDED, until <= a)
    if window.kind == "rows":
        say(Reason.EXPIRED, _beyond(rows, reasons == Reason.COUNTED.value, window.n))
    measure = plan.layout.measures[output.measure]
    if measure.where is not None:
        say(Reason.WHERE, ~np.asarray(pc.fill_null(_slot(plan, rows, measure.where), False)))
    arguments = [s for s in (measure.slot, *measure.slots) if s is not None]
    if arguments:
        missing = np.ones(len(t), np.bool_)
        for slot in arguments:
            missing &= np.asarray(pc.is_null(_slot(plan, rows, slot)))
        say(Reason.NULL, missing)
    if measure.per is not None:
        say(Reason.NULL, np.asarray(pc.is_null(_slot(plan, rows, measure.per))))
    unbounded = window.kind in ("lifetime", "rows")
    return reasons, (None if unbounded else int(left[0]), int(right[0]))


def _slot(plan: GroupPlan, rows: pa.Table, slot: int) -> pa.Array:
    values = plan.slots[slot].evaluate(rows)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _beyond(rows: pa.Table, counted: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Rows that are not among the n newest that count."""
    order = time_order(rows)
    newest = order[counted[order]][-n:]
    beyond = counted.copy()
    beyond[newest] = False
    return beyond


def _of_key(plan: GroupPlan, table: pa.Table, key: Mapping[str, Any]) -> pa.Table:
    mask = np.ones(table.num_rows, np.bool_)
    for name, called in zip(plan.keys, plan.key_names, strict=True):
        value = pa.scalar(key.get(called, key.get(name)), table.schema.field(name).type)
        mask &= np.asarray(pc.fill_null(pc.equal(column(table, name), value), False))
    return table.filter(pa.array(mask))


def _duplicates(run: Run, plan: GroupPlan, key: Mapping[str, Any]) -> Iterator[pa.Table]:
    """Rows of the key that the door dropped, where the source still has them: a log keeps their number only."""
    source = _source_of(plan.input)
    if source is None or source.id is None or not set(plan.keys) <= set(source.schema.names):
        return
    rows = run.resolver(source)
    if rows.taken:
        return
    entry = Entry(source, read_columns(plan, ()) & frozenset(source.schema.names))
    taken = [pa.Table.from_batches([entry.take(batch)]) for batch in rows.batches(entry.reads)]
    if not taken:
        return
    table = pa.concat_tables(taken)
    ids = _of_key(plan, table, key).column(ID)
    table = table.filter(pc.is_in(table.column(ID), ids.unique()))
    table, decisions = decisions_of(source, table)
    dropped = table.filter(pa.array(decisions.kind == DUPLICATE))
    if dropped.num_rows:
        yield _made(plan.input, dropped)


def _made(relation: RelationPlan, rows: pa.Table) -> pa.Table:
    """Source rows with the columns computed over them; filters and reads are passed over."""
    if isinstance(relation, ComputePlan):
        rows = _made(relation.input, rows)
        for name, expression in relation.columns:
            if expression.columns <= set(rows.column_names):
                rows = rows.append_column(name, expression.evaluate(rows))
        return rows
    return _made(relation.input, rows) if isinstance(relation, FilterPlan | EnrichPlan) else rows


def _source_of(relation: RelationPlan) -> SourcePlan | None:
    while isinstance(relation, FilterPlan | ComputePlan | EnrichPlan):
        relation = relation.input
    return relation if isinstance(relation, SourcePlan) else None


def _listed(rows: pa.Table, reasons: NDArray[Any], wanted: frozenset[str], limit: int) -> tuple[pa.Table, int]:
    """The counted rows and the newest others, newest first."""
    newest = time_order(rows)[::-1]
    counts = reasons[newest] == Reason.COUNTED.value
    kept = newest[counts | (np.cumsum(~counts) <= limit)]
    shown = {"reason": pa.array(reasons[kept].tolist(), pa.string())}
    at = pa.array(kept)
    for name in rows.column_names:
        if name in (EVENT_TIME, KNOWN_TIME, KNOWN_UNTIL, ID) or (not is_system_column(name) and name in wanted):
            shown[name] = rows.column(name).take(at)
    return pa.table(shown), rows.num_rows - len(kept)
