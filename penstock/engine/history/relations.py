"""Rows of every kind of relation, as streams of tables: sources, filters, computed columns, joins, enrichments, groups.

All rows are versions: `_known_until` says from when on one no longer counts, and a derived row ends when the next row
made from the same event begins, or when its event is deleted. Deletes themselves are left out, but for tables, where
the newest row decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from penstock.engine.history.entry import Entry
from penstock.engine.history.exchange import MemoryExchange
from penstock.engine.history.frame import drop_defaults
from penstock.engine.history.run import Run
from penstock.engine.history.sources import Rows
from penstock.engine.history.versions import decided, resolved
from penstock.names import fingerprint
from penstock.plan.ir import (
    ComputePlan,
    EnrichPlan,
    FilterPlan,
    GroupPlan,
    JoinPlan,
    RelationPlan,
    SourcePlan,
)
from penstock.semantics.columns import APPENDED_AT, ID, OP, OP_DELETE, is_system_column, system_schema

__all__ = ["Readers", "arrivals", "group_names", "needed_columns", "rows_of", "whole"]


class Readers(Protocol):
    """What joins and reads by key add to rows; kept apart so that relations do not know how queries are answered."""

    def joined(self, run: Run, plan: JoinPlan, wanted: frozenset[str]) -> Iterator[pa.Table]:
        """The rows of a join."""
        ...

    def enriched(self, run: Run, plan: EnrichPlan | GroupPlan, wanted: frozenset[str]) -> Iterator[pa.Table]:
        """Rows with what is read at their own instant and position."""
        ...


def rows_of(run: Run, readers: Readers, plan: RelationPlan, wanted: frozenset[str]) -> Iterator[pa.Table]:
    """The rows of a relation, with (at least) the wanted columns, in no certain order; at least an empty table."""
    match plan:
        case SourcePlan():
            yield from _source(run, plan, wanted)
        case FilterPlan():
            for table in rows_of(run, readers, plan.input, wanted | plan.condition.columns):
                yield _filtered(plan, table)
        case ComputePlan():
            for table in rows_of(run, readers, plan.input, needed_columns(plan, wanted)):
                yield _computed(plan, table, wanted)
        case JoinPlan():
            yield from readers.joined(run, plan, wanted)
        case EnrichPlan() | GroupPlan():
            yield from readers.enriched(run, plan, wanted)


def whole(run: Run, readers: Readers, plan: RelationPlan, wanted: frozenset[str]) -> Iterator[pa.Table]:
    """As `rows_of`; in a run that holds everything in memory a relation is made once for all who read it."""
    if run.parts > 1:
        for table in rows_of(run, readers, plan, wanted):
            yield table.select([n for n in table.column_names if is_system_column(n) or n in wanted])
        return
    columns, table = run.held.get(id(plan), (frozenset(), None))
    if table is None or not wanted <= columns:
        wanted = wanted | columns
        table = drop_defaults(MemoryExchange(rows_of(run, readers, plan, wanted), (), 1, run.rows).read(0))
        run.held[id(plan)] = (wanted, table)
    yield table


def needed_columns(plan: ComputePlan, wanted: frozenset[str]) -> frozenset[str]:
    """The columns of the input that the wanted ones rest on."""
    needed = set(wanted)
    for name, expression in reversed(plan.columns):
        if name in needed:
            needed.discard(name)
            needed |= expression.columns
    return frozenset(needed)


def group_names(plan: GroupPlan) -> dict[str, str]:
    """What a group's outputs are called in its rows."""
    prefixed = {name: f"{plan.name.name}.{name}" for name in plan.outputs.names}
    return {name: long if long in plan.schema else name for name, long in prefixed.items()}


def _filtered(plan: FilterPlan, table: pa.Table) -> pa.Table:
    kept = pc.fill_null(plan.condition.evaluate(table), False)
    if OP in table.column_names:
        kept = pc.or_(kept, pc.equal(table.column(OP), OP_DELETE))
    return table.filter(kept)


def _computed(plan: ComputePlan, table: pa.Table, wanted: frozenset[str]) -> pa.Table:
    needed = set(wanted)
    for name, expression in reversed(plan.columns):
        if name in needed:
            needed |= expression.columns
    for name, expression in plan.columns:
        if name in needed:
            table = table.append_column(name, expression.evaluate(table))
    return table


def _source(run: Run, plan: SourcePlan, wanted: frozenset[str]) -> Iterator[pa.Table]:
    rows = run.resolver(plan)
    stage = f"read-{plan.name.name}"
    told = run.told(_taken(run, plan, rows, wanted), stage, rows.rows())
    corrected = plan.op is not None and plan.kind == "stream"
    decides = plan.id is not None and plan.kind == "stream" and not rows.taken
    if not corrected and not decides:
        yield from (_without_deletes(plan, table) for table in told)
        return
    exchange = run.exchange(told, [ID], f"ids-{plan.name.name}-{fingerprint(sorted(wanted))[:8]}", rows.rows())
    for part in range(run.parts):
        table = exchange.read(part)
        if decides:
            table = decided(plan, table)
        yield resolved(plan, table) if corrected else table


def _without_deletes(plan: SourcePlan, table: pa.Table) -> pa.Table:
    if plan.kind == "table" or OP not in table.column_names:
        return table
    return table.filter(pc.not_equal(table.column(OP), OP_DELETE))


def arrivals(run: Run, plan: SourcePlan) -> Iterator[pa.Table]:
    """The system columns of all rows of a source as they arrived, deletes and duplicates included."""
    return _taken(run, plan, run.resolver(plan), frozenset())


def _taken(run: Run, plan: SourcePlan, rows: Rows, wanted: frozenset[str]) -> Iterator[pa.Table]:
    """Rows with their system columns, those of no use left out; at least an empty table."""
    names = [name for name in plan.schema.names if name in wanted]
    if rows.taken:
        yield _useful(plan, pa.schema([*system_schema(), *plan.schema.select(names).arrow]).empty_table(), names)
        for batch in rows.batches(names):
            yield _useful(plan, pa.Table.from_batches([batch]), names)
        return
    entry = Entry(plan, wanted)
    yield _useful(plan, pa.Table.from_batches([entry.take(entry.nothing())]), names)
    for batch in rows.batches(entry.reads):
        yield _useful(plan, pa.Table.from_batches([entry.take(batch)]), names)
    if entry.dead:
        run.dead[plan.name.name] = dict(entry.dead)


def _useful(plan: SourcePlan, table: pa.Table, names: list[str]) -> pa.Table:
    """The system columns that can say something of this source, and the named ones; any may hold nulls."""
    idle = {APPENDED_AT} | ({OP} if plan.op is None else set()) | ({ID} if plan.id is None else set())
    kept = [n for n in table.column_names if is_system_column(n) and n not in idle]
    table = table.select([*kept, *names])
    return table.cast(pa.schema([pa.field(f.name, f.type) for f in table.schema]))
