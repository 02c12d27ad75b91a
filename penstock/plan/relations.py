"""Relations over sources, checked: filters, computed columns, joins, reads by key."""

from __future__ import annotations

from penstock.define.aggregate import Agg
from penstock.define.relation import AsOf, Computed, Enriched, Filtered, Group, Joined, Lookup, Relation
from penstock.define.stream import Stream, Table
from penstock.define.values import format_duration
from penstock.errors import ExpressionError, Location, PlanError, nearest
from penstock.plan.asking import source_of
from penstock.plan.expr.types import BOOL, INT, Column, Schema
from penstock.plan.groups import plan_group
from penstock.plan.ir import (
    AsOfPlan,
    ComputePlan,
    EnrichPlan,
    FilterPlan,
    GroupPlan,
    JoinPlan,
    Lineage,
    LookupPlan,
    Reducer,
    RelationPlan,
)
from penstock.plan.keeping import versions_kept
from penstock.plan.order import refuse_order
from penstock.plan.results import fold_type
from penstock.plan.scope import Scope, behind, column_of, key_column, sealed
from penstock.plan.sources import plan_stream, plan_table
from penstock.semantics.columns import is_system_column

__all__ = ["plan_lookup", "plan_relation"]

REDUCERS = ("any", "count", "sum", "min", "max", "first", "last", "mean", "share")


def plan_relation(scope: Scope, relation: Relation) -> RelationPlan:
    """A relation, checked, made once per definition however often it is used.

    Raises:
        PlanError: it does not fit what it is made from.
    """
    made = scope.planned.get(id(relation))
    if made is None:
        with scope.building(relation):
            made = scope.planned[id(relation)] = _plan(scope, relation)
    return made


def _plan(scope: Scope, relation: Relation) -> RelationPlan:
    match relation:
        case Stream():
            return plan_stream(scope, relation)
        case Table():
            return plan_table(scope, relation)
        case Filtered():
            return _plan_filter(scope, relation)
        case Computed():
            return _plan_computed(scope, relation)
        case Joined():
            return _plan_join(scope, relation)
        case Enriched():
            return _plan_enriched(scope, relation)
        case Group():
            return plan_group(scope, relation, plan_relation(scope, relation.input))
    raise PlanError(
        "a relation is a stream, a table, or made from one",
        found=type(relation).__name__,
        remedy="use stream(), table(), where(), with_columns(), join(), >> or a group",
        where=relation.at,
    )


def _plan_filter(scope: Scope, filtered: Filtered) -> FilterPlan:
    source = plan_relation(scope, filtered.input)
    condition = scope.condition(filtered.condition, source.schema, f"{filtered.name}.where", filtered.at)
    parts = {"where": scope.code(condition)}
    return FilterPlan(
        source, condition, source.schema, parts, source.lineage, sealed("filter", parts, source.fingerprint)
    )


def _plan_computed(scope: Scope, computed: Computed) -> ComputePlan:
    source = plan_relation(scope, computed.input)
    schema, lineage = source.schema, dict(source.lineage)
    columns = []
    for name, text in computed.columns:
        what = f"{computed.name}.with_columns, {name}"
        _check_new(schema, [name], what, computed.at)
        try:
            made = scope.expression(text, schema, what, computed.at)
        except ExpressionError:
            refuse_order(computed.columns, name, set(schema), f"{computed.name}.with_columns", computed.at)
            raise
        columns.append((name, made))
        schema = schema.plus([Column(name, made.type, made.nullable)])
        lineage[name] = behind(lineage, made.columns)
    parts = {"columns": {name: scope.code(made) for name, made in columns}}
    return ComputePlan(source, tuple(columns), schema, parts, lineage, sealed("compute", parts, source.fingerprint))


def _check_new(schema: Schema, names: list[str], what: str, where: Location | None) -> None:
    for name in names:
        if name in schema:
            raise PlanError(
                f"{what}: the rows have such a column already",
                found=repr(name),
                remedy="choose another name, or read fewer columns",
                where=where,
            )
        if is_system_column(name):
            raise PlanError(
                f"{what}: names that start with _ are ours", found=repr(name), remedy="rename it", where=where
            )


# joins


def _plan_join(scope: Scope, joined: Joined) -> JoinPlan:
    what, where = f"join {joined.name}", joined.at
    observation = plan_relation(scope, joined.observation)
    outcome = plan_relation(scope, joined.outcome)
    for side, plan in (("observations", observation), ("outcomes", outcome)):
        _check_events(plan, f"{what}, {side}", where)
    _check_durations(joined, what)
    for column in joined.on:
        left = key_column(observation.schema, column, f"{what}, on, observations", where)
        right = key_column(outcome.schema, column, f"{what}, on, outcomes", where)
        if left.type != right.type:
            raise PlanError(
                f"{what}, on: both sides have the column under one type",
                found=f"{column} is {left.type} and {right.type}",
                remedy="cast it where it enters, with with_columns()",
                where=where,
            )
    _check_new(observation.schema, [name for name, _ in joined.reducers], what, where)
    reducers = tuple(_reducer(scope, name, agg, outcome.schema, what) for name, agg in joined.reducers)
    parts = {
        "on": list(joined.on),
        "within": format_duration(joined.within_us),
        "grace": format_duration(joined.grace_us),
        "emit": joined.emit,
        "columns": {r.name: [r.op, scope.code(r.argument), scope.code(r.where)] for r in reducers},
    }
    matched = {*behind(observation.lineage, joined.on), *behind(outcome.lineage, joined.on)}
    lineage = dict(observation.lineage)
    for reducer in reducers:
        read = {c for e in (reducer.argument, reducer.where) if e is not None for c in e.columns}
        lineage[reducer.name] = tuple(sorted({*matched, *behind(outcome.lineage, read)}))
    return JoinPlan(
        name=scope.name(joined.name),
        observation=observation,
        outcome=outcome,
        on=joined.on,
        within_us=joined.within_us,
        grace_us=joined.grace_us,
        reducers=reducers,
        emit=joined.emit,
        schema=observation.schema.plus([Column(r.name, r.type, r.op not in ("any", "count")) for r in reducers]),
        parts=parts,
        lineage=lineage,
        fingerprint=sealed("join", parts, observation.fingerprint, outcome.fingerprint),
    )


def _check_events(plan: RelationPlan, what: str, where: Location | None) -> None:
    source = source_of(plan)
    if source.kind == "table":
        raise PlanError(
            f"{what}: a join is of events",
            found=f"table {source.name.name}",
            remedy='read a table by key: stream >> table["column"]',
            where=where,
        )


def _check_durations(joined: Joined, what: str) -> None:
    if joined.within_us <= 0 or joined.grace_us < 0:
        raise PlanError(
            f"{what}: outcomes come within a time after the observation, with a grace of nothing or more",
            found=f"within {format_duration(joined.within_us)}, grace {format_duration(joined.grace_us)}",
            remedy='write within="30min"',
            where=joined.at,
        )
    if joined.emit not in ("final", "match"):
        raise PlanError(
            f"{what}: emit says when a row is made", found=repr(joined.emit), remedy='write "final" or "match"',
            where=joined.at,
        )  # fmt: skip


def _reducer(scope: Scope, name: str, agg: Agg, outcome: Schema, what: str) -> Reducer:
    what, where = f"{what}, {name}", agg.at
    if agg.op not in REDUCERS or agg.bucket is not None:
        found = f"{agg.op}.per(...)" if agg.bucket is not None else agg.op
        raise PlanError(
            f"{what}: a join folds outcomes by {', '.join(REDUCERS)}",
            found=found,
            remedy="fold by one of these, and aggregate the joined rows in a group",
            where=where,
        )
    if not agg.args and agg.op not in ("any", "count"):
        raise PlanError(
            f"{what}: {agg.op} needs a column of the outcomes", found="none", remedy=nearest("", outcome), where=where
        )
    argument = scope.expression(agg.args[0], outcome, what, where) if agg.args else None
    condition = None if agg.condition is None else scope.condition(agg.condition, outcome, f"{what}, where", where)
    match agg.op:
        case "any":
            kind = BOOL
        case "count":
            kind = INT
        case _:
            assert argument is not None
            kind = fold_type(agg.op, argument.type, what, where)
    return Reducer(name, agg.op, argument, condition, kind)


# reads by key


def _plan_enriched(scope: Scope, enriched: Enriched) -> EnrichPlan:
    source = plan_relation(scope, enriched.input)
    what = f"{enriched.name} >> {enriched.lookup.source.name}"
    lookup = plan_lookup(scope, enriched.lookup, source.schema, source.lineage, what=what)
    if isinstance(lookup.source, AsOfPlan):
        scope.warnings.append((source_of(source).name.name, versions_kept(lookup.source)))
    _check_new(source.schema, list(lookup.outputs), what, enriched.at)
    return EnrichPlan(
        source,
        lookup,
        source.schema.plus(lookup.outputs.columns),
        {"lookup": lookup.parts},
        {**source.lineage, **lookup.lineage},
        sealed("enrich", {}, source.fingerprint, lookup.fingerprint),
    )


def plan_lookup(
    scope: Scope,
    lookup: Lookup,
    reader: Schema | None,
    lineage: Lineage,
    *,
    what: str,
    name: str | None = None,
) -> LookupPlan:
    """Columns read by key, checked against the reader's columns.

    Args:
        reader: None where the key does not come from columns of the reader (the far side of two hops).
        lineage: of the reader's columns.
        name: what the read is called in a view; stands before its columns.

    Raises:
        PlanError: a column or a key is missing, or a key has another type than in the source.
    """
    where = lookup.at
    source = _plan_read(scope, lookup.source)
    if isinstance(source, GroupPlan):
        available, plain = source.outputs, False
        behind_source = {column: source.lineage[f"{source.name.name}.{column}"] for column in source.outputs}
    else:
        hidden = set(source.keys)
        available, plain = source.relation.schema, True
        behind_source = dict(source.relation.lineage)
    columns = lookup.columns
    if columns is None:
        columns = tuple(available) if not plain else tuple(c for c in available if c not in hidden)
    found = [column_of(available, column, what, where) for column in columns]
    keys = () if reader is None else _reader_keys(lookup, source, reader, what)
    prefix = name or lookup.alias or (source.name.name if isinstance(source, GroupPlan) else "")
    names = [f"{prefix}.{c.name}" if prefix else c.name for c in found]
    outputs = Schema(Column(shown, c.type, plain or c.nullable) for shown, c in zip(names, found, strict=True))
    parts = {"columns": dict(zip(names, columns, strict=True)), "keys": list(keys)}
    key_lineage = behind(lineage, keys)
    return LookupPlan(
        source=source,
        keys=keys,
        columns=columns,
        outputs=outputs,
        self_columns=None,
        parts=parts,
        lineage={
            shown: tuple(sorted({*behind_source[c], *key_lineage})) for shown, c in zip(names, columns, strict=True)
        },
        fingerprint=sealed("lookup", parts, source.fingerprint),
    )


def _plan_read(scope: Scope, source: AsOf | Group) -> AsOfPlan | GroupPlan:
    if isinstance(source, Group):
        found = plan_relation(scope, source)
        assert isinstance(found, GroupPlan)
        return found
    return _plan_asof(scope, source)


def _plan_asof(scope: Scope, asof: AsOf) -> AsOfPlan:
    relation = plan_relation(scope, asof.relation)
    what = f"{asof.name}.asof({asof.entity.name})"
    keys = asof.entity.key_columns
    types = tuple(key_column(relation.schema, key, what, asof.at).type for key in keys)
    scope.use_entity(asof.entity.name, types, what, asof.at)
    if asof.within_us is not None and asof.within_us <= 0:
        raise PlanError(
            f"{what}: a row may be of some age",
            found=f"within {format_duration(asof.within_us)}",
            remedy='write within="3h"',
            where=asof.at,
        )
    parts = {
        "keys": list(keys),
        "within": None if asof.within_us is None else format_duration(asof.within_us),
        "closed": asof.closed,
    }
    return AsOfPlan(
        relation=relation,
        keys=keys,
        key_names=asof.entity.keys,
        key_types=types,
        within_us=asof.within_us,
        closed=asof.closed,
        parts=parts,
        fingerprint=sealed("asof", parts, relation.fingerprint),
    )


def _reader_keys(lookup: Lookup, source: AsOfPlan | GroupPlan, reader: Schema, what: str) -> tuple[str, ...]:
    keys = lookup.keys or source.key_names
    if len(keys) != len(source.keys):
        raise PlanError(
            f"{what}: the key has {len(source.keys)} column(s): {', '.join(source.key_names)}",
            found=repr(keys),
            remedy="name one column for each",
            where=lookup.at,
        )
    for key, wanted in zip(keys, source.key_types, strict=True):
        remedy = f'or say which column holds it: .on("column") for {key}' if lookup.keys is None else ""
        column = column_of(reader, key, f"{what}, key", lookup.at, remedy)
        if column.type != wanted:
            raise PlanError(
                f"{what}: it is read by a key of {', '.join(map(str, source.key_types))}",
                found=f"{key} is {column.type}",
                remedy="cast it where it enters, or read by another column with .on()",
                where=lookup.at,
            )
    return keys
