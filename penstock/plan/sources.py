"""Streams and tables, checked: their columns, their two times, ids and keys."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.define.stream import Stream, Table
from penstock.define.values import format_duration
from penstock.errors import Location, PlanError
from penstock.plan.expr import Expression
from penstock.plan.expr.types import DATE, INSTANT, INT, TEXT, Column, Schema, Type
from penstock.plan.ir import SourcePlan
from penstock.plan.scope import Scope, column_of, key_column, not_negative, sealed, shown_type
from penstock.semantics.columns import is_system_column

__all__ = ["plan_stream", "plan_table", "read_schema"]

_UNREAD = ("kafka", "hive")  # kinds that no door reads yet
REPLAYED = ("files", "hive")  # kinds whose rows happened before they are read


def plan_stream(scope: Scope, stream: Stream) -> SourcePlan:
    """A stream, checked.

    Raises:
        PlanError: no schema, a column that is missing or of a wrong type, a time that is no instant.
    """
    where, what = stream.at, f"stream {stream.name}"
    schema = _schema_of(scope, stream, what)
    durations_us = {"late": stream.late_us, "dedup": stream.dedup_us, "corrected": stream.corrected_us}
    not_negative({**durations_us, "max_ahead": stream.max_ahead_us}, what, where)
    time = _instant(scope, stream.time, schema, zone=stream.zone, what=f"{what}, time", where=where)
    known = None
    if stream.known is not None:
        known = _instant(scope, stream.known, schema, zone=stream.zone, what=f"{what}, known", where=where)
    elif stream.clock == "source" and stream.source.kind not in REPLAYED:
        raise PlanError(
            f'{what}: clock="source" takes the known time from the row',
            found="no known",
            remedy='write known="received_at"',
            where=where,
        )
    elif stream.source.kind in REPLAYED and stream.source.option("arrivals") != "watch":
        scope.warnings.append(
            (stream.name, "no known time is declared: a row counts as known at its event time, as if nothing were late")
        )
    _warn_unread(scope, stream)
    if stream.op is not None and stream.id is None:
        raise PlanError(
            f"{what}: corrections find their row by its id",
            found=f"op={stream.op!r} and no id",
            remedy='write id="event_id"',
            where=where,
        )
    _check_columns(schema, {"id": stream.id, "op": stream.op}, what, where)
    corrected_us = stream.corrected_us
    parts = {
        "schema": {c.name: shown_type(c) for c in schema.columns},
        "source": [stream.source.kind, dict(stream.source.options)],
        "time": scope.code(time),
        "known": scope.code(known),
        "id": stream.id,
        "op": stream.op,
        "zone": stream.zone,
        "clock": stream.clock,
        "dedup": format_duration(stream.dedup_us),
        "corrected": None if corrected_us is None else format_duration(corrected_us),
        "max_ahead": None if stream.max_ahead_us is None else format_duration(stream.max_ahead_us),
    }
    return SourcePlan(
        name=scope.name(stream.name),
        kind="stream",
        schema=schema,
        time=time,
        known=known,
        id=stream.id,
        op=stream.op,
        key=(),
        late_us=stream.late_us,
        dedup_us=stream.dedup_us,
        corrected_us=corrected_us,
        max_ahead_us=stream.max_ahead_us,
        zone=stream.zone,
        clock=stream.clock,
        source=stream.source,
        parts=parts,
        lineage={name: (f"{stream.name}.{name}",) for name in schema},
        fingerprint=sealed("stream", {"name": stream.name, **parts}),
    )


def plan_table(scope: Scope, table: Table) -> SourcePlan:
    """A table, checked.

    Raises:
        PlanError: as for a stream; also a table from files or partitions whose known time is not declared.
    """
    where, what = table.at, f"table {table.name}"
    schema = _schema_of(scope, table, what)
    time = (
        None
        if table.time is None
        else _instant(scope, table.time, schema, zone=table.zone, what=f"{what}, time", where=where)
    )
    if table.known is not None:
        known = _instant(scope, table.known, schema, zone=table.zone, what=f"{what}, known", where=where)
    elif table.source.kind in REPLAYED and table.source.option("arrivals") != "watch":
        raise PlanError(
            f"{what}: when a row of an imported table became known must be declared, there is no default",
            found=f"a table from {table.source.kind} without known",
            remedy='write known="loaded_at", or the delay: known="dt + 30h"',
            where=where,
        )
    else:
        known = None
    _warn_unread(scope, table)
    keys = table.key.key_columns
    types = tuple(key_column(schema, key, f"{what}, key", where).type for key in keys)
    scope.use_entity(table.key.name, types, what, where)
    _check_columns(schema, {"op": table.op}, what, where)
    parts = {
        "schema": {c.name: shown_type(c) for c in schema.columns},
        "source": [table.source.kind, dict(table.source.options)],
        "time": scope.code(time),
        "known": scope.code(known),
        "key": list(keys),
        "op": table.op,
        "zone": table.zone,
    }
    return SourcePlan(
        name=scope.name(table.name),
        kind="table",
        schema=schema,
        time=time,
        known=known,
        id=None,
        op=table.op,
        key=keys,
        late_us=0,
        dedup_us=0,
        corrected_us=None,
        max_ahead_us=None,
        zone=table.zone,
        clock="live" if known is None else "source",
        source=table.source,
        parts=parts,
        lineage={name: (f"{table.name}.{name}",) for name in schema},
        fingerprint=sealed("table", {"name": table.name, **parts}),
    )


def _warn_unread(scope: Scope, source: Stream | Table) -> None:
    if source.source.kind in _UNREAD:
        scope.warnings.append(
            (source.name, f"{source.source.kind} is not read yet: append its rows by POST /v1/streams/{source.name}")
        )


def _schema_of(scope: Scope, source: Stream | Table, what: str) -> Schema:
    if source.schema is not None:
        columns = dict(source.schema)
    elif source.name in scope.definitions.schemas:
        columns = dict(scope.definitions.schemas[source.name])
    else:
        raise PlanError(
            f"{what}: its columns are pinned in penstock.lock, or said in schema=",
            found="neither",
            remedy='run `penstock add` on a sample of it, or write schema={"amount": "decimal(12,2)", "note": "text?"}',
            where=source.at,
        )
    return read_schema(columns, what, source.at)


def read_schema(columns: Mapping[str, str], what: str, where: Location | None) -> Schema:
    """The schema of (column -> type as text; a `?` behind it: null may occur).

    Raises:
        PlanError: there is none, a name is reserved, or a text is no type.
    """
    found = []
    for name, text in columns.items():
        if is_system_column(name) or "." in name or not name:
            raise PlanError(
                f"{what}: names of columns have no dot and do not start with _, which are ours",
                found=repr(name),
                remedy="rename the column where it enters",
                where=where,
            )
        try:
            found.append(Column(name, Type.parse(text.rstrip("?")), text.endswith("?")))
        except PlanError as error:
            raise PlanError(
                f"{what}, column {name}: {error.asked}", found=error.found, remedy=error.remedy, where=where
            ) from None
    if not found:
        raise PlanError(f"{what}: it has no columns", found="an empty schema", remedy="name some", where=where)
    return Schema(found)


def _instant(
    scope: Scope, text: str, schema: Schema, *, zone: str | None, what: str, where: Location | None
) -> Expression:
    """An instant per row; a date of a source with a zone is its local midnight."""
    found = scope.expression(text, schema, what, where, zone or "UTC")
    dates = [name for name in sorted(found.columns) if schema[name].type == DATE]
    if dates and zone is None:
        raise PlanError(
            f"{what}: a date is an instant only in a zone",
            found=f"{dates[0]} is date, and no zone",
            remedy='write zone="America/New_York" (or "UTC")',
            where=where,
        )
    if found.type == DATE:
        found = scope.expression(f"CAST({text} AS instant)", schema, what, where, zone or "UTC")
    if found.type != INSTANT:
        remedies = {
            "text": f"read it as an instant: CAST({text} AS instant) where it carries an offset",
            "int": f"say its unit, as in instant_ms({text})",
        }
        raise PlanError(
            f"{what}: event time and known time are instants",
            found=f"{text} is {found.type}",
            remedy=remedies.get(found.type.name, "name a column of instants, or an expression that makes one"),
            where=where,
        )
    return found


def _check_columns(schema: Schema, roles: Mapping[str, str | None], what: str, where: Location | None) -> None:
    legal = {"id": (TEXT, INT), "op": (TEXT,)}
    for role, name in roles.items():
        if name is None:
            continue
        column = column_of(schema, name, f"{what}, {role}", where)
        if column.type not in legal[role]:
            raise PlanError(
                f"{what}, {role}: it is {' or '.join(map(str, legal[role]))}",
                found=f"{name} is {column.type}",
                remedy="name another column",
                where=where,
            )
