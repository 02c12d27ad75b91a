"""Feature groups, checked and lowered to what the kernels take: slots, measures, windows, outputs."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from penstock.algebra.layout import Layout, Measure, Op, Output, Slot, SlotKind, Window, WindowKind
from penstock.define.aggregate import Agg, Aggregate
from penstock.define.relation import Group
from penstock.define.values import format_duration
from penstock.define.window import Window as Written
from penstock.errors import Location, PlanError
from penstock.plan.expr import Expression
from penstock.plan.expr.annotations import annotated_type
from penstock.plan.expr.syntax import Name as Reference
from penstock.plan.expr.types import BOOL, FLOAT, Column, Schema, Type, list_of, map_of, struct_of
from penstock.plan.hops import default_hop_us, may_look_ahead
from penstock.plan.ir import GroupPlan, RelationPlan, SourcePlan
from penstock.plan.results import BUCKET_TYPES, counts, fold_type
from penstock.plan.scope import Scope, behind, key_column, sealed

__all__ = ["plan_group"]

_OPS = frozenset(Op)
_KINDS = {
    "int": SlotKind.INT,
    "instant": SlotKind.INT,
    "duration": SlotKind.INT,
    "date": SlotKind.INT,
    "float": SlotKind.FLOAT,
    "decimal": SlotKind.DECIMAL,
    "bool": SlotKind.BOOL,
}


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
    if windows and isinstance(source, SourcePlan) and source.kind == "table" and source.time is None:
        raise PlanError(
            f"{what}: windows are over event time",
            found=f"table {source.name.name} has none",
            remedy='say it in the table: time="updated_at"',
            where=where,
        )
    lowering = _Lowering(scope, source.schema, what)
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
    return GroupPlan(
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


def _keys(
    scope: Scope, group: Group, schema: Schema, what: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Type, ...]]:
    keys: list[str] = []
    names: list[str] = []
    types: list[Type] = []
    for entity in group.entities:
        where = entity.at or group.at
        remedy = f'or say which column holds it: {entity.name}.on("column")' if not entity.columns else ""
        found = [key_column(schema, key, f"{what}, key", group.at, remedy).type for key in entity.key_columns]
        scope.use_entity(entity.name, tuple(found), what, where)
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
        raise PlanError(
            f"{what}: it looks ahead, which is safe only where rows are known before they happen",
            found=f"offset {format_duration(written.offset_us)}, and no row of {source_name(source)} is known early",
            remedy='declare it where the future is known: known="scheduled_at - 30d"',
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


def source_name(relation: RelationPlan) -> str:
    """The plain name of the nearest named relation."""
    while not hasattr(relation, "name"):
        relation = relation.input
    return str(relation.name.name)


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


# aggregates


@dataclass(frozen=True)
class _Measured:
    """One aggregate, lowered: its measure's index, its type, the columns it reads, its parts."""

    index: int
    type: Type
    nullable: bool
    read: frozenset[str]
    parts: dict[str, Any]


@dataclass
class _Lowering:
    """Slots and measures of one group while they are found; equal ones are made once."""

    scope: Scope
    schema: Schema
    what: str
    slots: list[Slot] = field(default_factory=list)
    expressions: list[Expression] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    customs: dict[str, Aggregate] = field(default_factory=dict)

    def measure(self, name: str, agg: Agg) -> _Measured:
        what, where = f"{self.what}, {name}", agg.at
        if agg.op not in _OPS:
            raise PlanError(
                f"{what}: {agg.op} folds outcomes of a join", found=agg.op, remedy="use count() or share()", where=where
            )
        if not agg.args and agg.op not in ("count", "decayed_count"):
            raise PlanError(
                f"{what}: {agg.op} needs an argument", found="none", remedy=f'write {agg.op}("amount")', where=where
            )
        arguments = [self._argument(agg, text, what) for text in agg.args]
        condition = (
            None if agg.condition is None else self.scope.condition(agg.condition, self.schema, f"{what}, where", where)
        )
        bucket = None if agg.bucket is None else self._bucket(agg.bucket, what, where)
        kind = self._result(agg, arguments, what)
        if bucket is not None:
            kind = map_of(bucket.type, kind)
        positions = [self._slot(e) for e in arguments]
        made = Measure(
            op=Op(agg.op),
            slot=positions[0] if positions else None,
            slot2=positions[1] if agg.op == "ratio" else None,
            slots=tuple(positions[1:]) if agg.op in ("last_n", "custom") else (),
            where=None if condition is None else self._slot(condition),
            per=None if bucket is None else self._slot(bucket),
            n=agg.n,
            limit=agg.limit,
            half_life_us=agg.half_life_us,
            custom=agg.custom.__name__ if agg.custom is not None else "",
        )
        if made not in self.measures:
            self.measures.append(made)
        used = [e for e in (*arguments, condition, bucket) if e is not None]
        return _Measured(
            self.measures.index(made),
            kind,
            not counts(agg.op, bucket is not None),
            frozenset().union(*(e.columns for e in used)),
            self._parts(agg, arguments, condition, bucket),
        )

    def _argument(self, agg: Agg, text: str, what: str) -> Expression:
        if agg.op == "share":
            return self.scope.condition(text, self.schema, what, agg.at)
        return self.scope.expression(text, self.schema, what, agg.at)

    def _bucket(self, text: str, what: str, where: Location | None) -> Expression:
        bucket = self.scope.expression(text, self.schema, f"{what}, per", where)
        if bucket.type.name not in BUCKET_TYPES:
            raise PlanError(
                f"{what}, per: a result per value of {', '.join(BUCKET_TYPES)}",
                found=f"{text} is {bucket.type}",
                remedy="cast it to text or int",
                where=where,
            )
        return bucket

    def _result(self, agg: Agg, arguments: list[Expression], what: str) -> Type:
        match agg.op:
            case "custom":
                assert agg.custom is not None
                return self._custom(agg.custom, arguments, what, agg.at)
            case "last_n":
                if len(arguments) == 1:
                    return list_of(arguments[0].type)
                return list_of(struct_of(dict(zip(_field_names(arguments), (e.type for e in arguments), strict=True))))
            case "decayed_count":
                return FLOAT
            case "count" if not arguments:
                return fold_type("count", BOOL, what, agg.at)
        kinds = [fold_type(agg.op, e.type, what, agg.at) for e in arguments]
        return kinds[0]

    def _custom(self, made: type[Aggregate], arguments: list[Expression], what: str, where: Location | None) -> Type:
        name = made.__name__
        former = self.customs.setdefault(name, made())
        if type(former) is not made:
            raise PlanError(
                f"{what}: two aggregates are called {name}", found=f"one of {type(former).__module__}",
                remedy="rename one", where=where,
            )  # fmt: skip
        taken = list(inspect.signature(made.lift).parameters.values())[1:]
        if len(taken) != len(arguments) and not any(p.kind is p.VAR_POSITIONAL for p in taken):
            raise PlanError(
                f"{what}: {name}.lift takes {len(taken)} value(s)",
                found=f"{len(arguments)} argument(s)",
                remedy=f"give {name}.of(...) as many expressions",
                where=where,
            )
        hints = get_type_hints(made.finalize)
        if "return" not in hints:
            raise PlanError(
                f"{what}: the return annotation of {name}.finalize says the type of the result",
                found="none",
                remedy="write def finalize(self, s) -> float",
                where=where,
            )
        return annotated_type(hints["return"], f"{what}, {name}.finalize", where)[0]

    def _slot(self, expression: Expression) -> int:
        made = Slot(
            text=expression.text,
            kind=_KINDS.get(expression.type.name, SlotKind.CODE),
            type=str(expression.type),
            scale=expression.type.scale if expression.type.name == "decimal" else 0,
        )
        if made not in self.slots:
            self.slots.append(made)
            self.expressions.append(expression)
        return self.slots.index(made)

    def _parts(
        self, agg: Agg, arguments: list[Expression], condition: Expression | None, bucket: Expression | None
    ) -> dict[str, Any]:
        code = self.scope.code
        parts: dict[str, Any] = {"op": agg.op}
        if arguments:
            parts["of"] = [code(e) for e in arguments]
        for part, expression in (("where", condition), ("per", bucket)):
            if expression is not None:
                parts[part] = code(expression)
        for part in ("n", "limit"):
            if getattr(agg, part):
                parts[part] = getattr(agg, part)
        if agg.half_life_us:
            parts["half_life"] = format_duration(agg.half_life_us)
        if agg.custom is not None:
            parts |= {"custom": agg.custom.__name__, "version": agg.custom.version, "source": _source_hash(agg)}
        return parts


def _field_names(arguments: list[Expression]) -> list[str]:
    """The fields of last_n's structs: the column's name, for an expression value_2 by its place."""
    names = [e.tree.parts[-1] if isinstance(e.tree, Reference) else f"value_{i}" for i, e in enumerate(arguments, 1)]
    return names if len(set(names)) == len(names) else [f"value_{i}" for i, _ in enumerate(arguments, 1)]


def _source_hash(agg: Agg) -> str:
    assert agg.custom is not None
    try:
        source = textwrap.dedent(inspect.getsource(agg.custom))
    except (OSError, TypeError) as error:
        raise PlanError(
            f"the source of aggregate {agg.custom.__name__} is its version",
            found=str(error),
            remedy="define it in a file",
            where=agg.at,
        ) from error
    return hashlib.blake2b(source.encode(), digest_size=16).hexdigest()


def _outputs(
    group: Group, windows: tuple[Window, ...], measured: dict[str, _Measured], what: str
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
