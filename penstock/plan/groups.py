"""Feature groups, checked and lowered to what the kernels take: slots, measures, windows, outputs."""

from __future__ import annotations

from typing import Any

from penstock.algebra.layout import Layout, Output, Window, WindowKind
from penstock.define.relation import Group
from penstock.define.values import format_duration
from penstock.define.window import Window as Written
from penstock.errors import PlanError
from penstock.plan.asking import source_of
from penstock.plan.expr.types import Column, Schema, Type
from penstock.plan.expr.zones import check_zone
from penstock.plan.hops import default_hop_us, may_look_ahead
from penstock.plan.ir import GroupPlan, RelationPlan
from penstock.plan.keeping import kept_for_ever
from penstock.plan.lowering import Lowering, Measured
from penstock.plan.scope import Scope, behind, key_column, not_negative, sealed

__all__ = ["plan_group"]


def plan_group(scope: Scope, group: Group, source: RelationPlan) -> GroupPlan:
    """A group over its planned input.

    Slots and measures come in the order of the aggregates' names, so that the state does not depend on the order in
    which they were written; outputs come as written.

    Raises:
        PlanError: a key, an argument or a window does not fit the input.
    """
    what, where = f"group {group.name}", group.at
    keys, key_names, key_types = _keys(scope, group, source.schema, what)
    windows = tuple(_window(window, source, f"{what}, window {window.name}") for window in group.windows)
    rows = source_of(source)
    if windows and rows.kind == "table" and rows.time is None:
        raise PlanError(
            f"{what}: windows are over event time",
            found=f"table {rows.name.name} has none",
            remedy='say it in the table: time="updated_at"',
            where=where,
        )
    not_negative({"observations_late": group.observations_late_us}, what, where)
    lowering = Lowering(scope, source.schema, what)
    measured = {name: lowering.measure(name, agg) for name, agg in sorted(group.aggs)}
    outputs, columns, lineage = _outputs(group, windows, measured, what)
    layout = Layout(
        slots=tuple(lowering.slots),
        measures=tuple(lowering.measures),
        windows=windows or (Window("lifetime", WindowKind.LIFETIME),),
        outputs=outputs,
        include_self=group.include_self,
    )
    parts = {
        "keys": list(keys),
        "aggregates": {name: made.parts for name, made in measured.items()},
        "windows": {w.name: _shown_window(w) for w in layout.windows},
        "include_self": group.include_self,
        "observations_late": format_duration(group.observations_late_us),
    }
    key_lineage = behind(source.lineage, keys)
    own = {
        f"{group.name}.{column}": tuple(sorted({*key_lineage, *behind(source.lineage, read)}))
        for column, read in lineage.items()
    }
    made = GroupPlan(
        name=scope.name(group.name, group.version),
        input=source,
        entities=tuple(entity.name for entity in group.entities),
        keys=keys,
        key_names=key_names,
        key_types=key_types,
        layout=layout,
        slots=tuple(lowering.expressions),
        outputs=columns,
        observations_late_us=group.observations_late_us,
        customs=lowering.customs,
        schema=source.schema.plus(columns.prefixed(group.name).columns),
        parts=parts,
        lineage={**source.lineage, **own},
        fingerprint=sealed("group", parts, source.fingerprint),
    )
    if reason := kept_for_ever(made):
        scope.warnings.append((group.name, f"live state keeps every row: {reason}"))
    return made


def _keys(
    scope: Scope, group: Group, schema: Schema, what: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Type, ...]]:
    keys: list[str] = []
    names: list[str] = []
    types: list[Type] = []
    for entity in group.entities:
        remedy = f'or say which column holds it: {entity.name}.on("column")' if not entity.columns else ""
        found = [key_column(schema, key, f"{what}, key", group.at, remedy).type for key in entity.key_columns]
        scope.use_entity(entity.name, tuple(found), what, group.at)
        keys += entity.key_columns
        names += entity.keys
        types += found
    if len(set(names)) != len(names):
        raise PlanError(
            f"{what}: the columns of a key are called differently",
            found=repr(tuple(names)),
            remedy='make another entity for the second: ps.entity("seller", "seller_id")',
            where=group.at,
        )
    return tuple(keys), tuple(names), tuple(types)


# windows


def _window(written: Written, source: RelationPlan, what: str) -> Window:
    if written.offset_us < 0 and not may_look_ahead(source):
        late = source_of(source).name.name
        raise PlanError(
            f"{what}: it looks ahead, which is safe only where rows are known before they happen",
            found=f"offset {format_duration(written.offset_us)}, and no row of {late} is known early",
            remedy='declare it where the future is known: known="scheduled_at - 30d"',
            where=written.at,
        )
    if written.zone and check_zone(written.zone):
        raise PlanError(
            f"{what}: there is no such zone",
            found=repr(written.zone),
            remedy=check_zone(written.zone),
            where=written.at,
        )
    hop_us = 0
    if written.kind == "time":
        hop_us = default_hop_us(written.width_us) if written.hop_us is None else written.hop_us
    return Window(
        name=written.name,
        kind=WindowKind(written.kind),
        width_us=written.width_us,
        hop_us=hop_us,
        offset_us=written.offset_us,
        closed=written.closed,
        unit=written.unit,
        zone=written.zone,
        n=written.n,
    )


def _shown_window(window: Window) -> dict[str, Any]:
    shown: dict[str, Any] = {"kind": str(window.kind), "closed": window.closed}
    if window.kind is WindowKind.TIME:
        shown |= {
            "width": format_duration(window.width_us),
            "hop": format_duration(window.hop_us) if window.hop_us else "exact",
        }
    if window.offset_us:
        shown["offset"] = format_duration(window.offset_us)
    if window.kind is WindowKind.CALENDAR:
        shown |= {"unit": window.unit, "zone": window.zone}
    if window.kind is WindowKind.ROWS:
        shown["n"] = window.n
    return shown


def _outputs(
    group: Group, windows: tuple[Window, ...], measured: dict[str, Measured], what: str
) -> tuple[tuple[Output, ...], Schema, dict[str, frozenset[str]]]:
    outputs, columns, read = [], {}, {}
    for name, _ in group.aggs:
        made = measured[name]
        for at, window in enumerate(windows or (None,)):
            column = name if window is None else f"{name}_{window.name}"
            if column in columns:
                raise PlanError(
                    f"{what}: two of its columns are called {column}", found=f"{name} over {window and window.name}",
                    remedy="rename an aggregate or a window", where=group.at,
                )  # fmt: skip
            outputs.append(Output(column, made.index, at, str(made.type)))
            columns[column] = Column(column, made.type, made.nullable)
            read[column] = made.read
    return tuple(outputs), Schema(columns.values()), read
