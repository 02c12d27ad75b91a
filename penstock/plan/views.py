"""Feature views, checked: what a request brings, what is read by which key, what is put out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from penstock.define.relation import Lookup, TwoHop
from penstock.define.view import Inputs, View
from penstock.errors import ExpressionError, Location, PlanError
from penstock.plan.asking import asking_row, source_of
from penstock.plan.expr import Expression
from penstock.plan.expr.types import BOOL, INT, Column, Schema
from penstock.plan.ir import GroupPlan, Lineage, LookupPlan, RelationPlan, TwoHopPlan, ViewPlan
from penstock.plan.order import refuse_order
from penstock.plan.relations import plan_lookup, plan_relation
from penstock.plan.results import fold_type
from penstock.plan.scope import Scope, behind, column_of, sealed, shown_type
from penstock.plan.sources import read_schema

__all__ = ["plan_view"]

FOLDS = ("any", "count", "sum", "mean", "min", "max", "first", "last")


def plan_view(scope: Scope, view: View) -> ViewPlan:
    """A view, checked, made once per definition.

    A read goes by columns of the base or of the reads before it. An expression sees the base's columns, the columns of
    the reads, and the expressions before it. A column of the base that is not put out gives way to a read or an
    expression of its name, unless something needs it.

    Raises:
        PlanError: a column, a key or an expression does not fit; a name is put out twice.
    """
    made = scope.viewed.get(id(view))
    if made is None:
        made = scope.viewed[id(view)] = _plan(scope, view)
    return made


def _plan(scope: Scope, view: View) -> ViewPlan:
    what = f"view {view.name}"
    building = _open(scope, view, what)
    for name, part in view.parts:
        if isinstance(part, TwoHop):
            building.two_hop(name, part)
        else:
            building.lookup(name, part)
    expressions = building.expressions(view)
    inputs = building.inputs()
    outputs = Schema(building.outputs.values())
    fingerprints = [x.fingerprint for x in building.lookups] + [x.fingerprint for x in building.two_hops]
    if building.observation is not None:
        fingerprints.insert(0, building.observation.fingerprint)
    parts: dict[str, Any] = {
        "base": list(building.base),
        "inputs": {c.name: shown_type(c) for c in inputs.columns},
        "lookups": [x.parts for x in building.lookups],
        "two_hops": {x.name: x.parts for x in building.two_hops},
        "expressions": {name: scope.code(made) for name, made in expressions},
    }
    return ViewPlan(
        name=scope.name(view.name, view.version),
        inputs=inputs,
        observation=building.observation,
        base=building.base,
        lookups=tuple(building.lookups),
        two_hops=tuple(building.two_hops),
        expressions=expressions,
        outputs=outputs,
        parts=parts,
        lineage={name: building.lineage[name] for name in outputs},
        fingerprint=sealed("view", parts, *fingerprints),
    )


def _open(scope: Scope, view: View, what: str) -> _Building:
    base = view.base
    if isinstance(base, Inputs):
        schema = read_schema(dict(base.columns), what, base.at)
        lineage: Lineage = {name: (f"{view.name}.{name}",) for name in schema}
        return _Building(scope, what, view.at, None, schema, schema.names, lineage)
    observation = plan_relation(scope, base.relation)
    for column in base.columns:
        column_of(observation.schema, column, what, base.at)
    return _Building(scope, what, view.at, observation, observation.schema, base.columns, observation.lineage)


@dataclass
class _Building:
    """A view on the way.

    Attributes:
        source: the columns of the base.
        base: those that are put out.
        base_lineage: of the base's columns; lineage: of every column in sight, by name.
        needed: columns of the base that a request must bring.
    """

    scope: Scope
    what: str
    where: Location | None
    observation: RelationPlan | None
    source: Schema
    base: tuple[str, ...]
    base_lineage: Lineage
    outputs: dict[str, Column] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)
    lookups: list[LookupPlan] = field(default_factory=list)
    two_hops: list[TwoHopPlan] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    lineage: Lineage = field(init=False)

    def __post_init__(self) -> None:
        self.lineage = self.base_lineage
        for name in self.base:
            self._put(self.source[name], self.where)
        self.made.clear()
        self.needed |= set(self.base) if self.observation is not None else set(self.source)

    def _put(self, column: Column, where: Location | None) -> None:
        if column.name in self.outputs:
            raise PlanError(
                f"{self.what}: two of its columns have one name",
                found=repr(column.name),
                remedy='choose the columns to read, name the read (.on("key", name="by_dest")), or rename',
                where=where or self.where,
            )
        self.outputs[column.name] = column
        self.made.add(column.name)

    def lookup(self, name: str | None, part: Lookup) -> None:
        found = self._read(part, f"{self.what}, {part.source.name}", name)
        if isinstance(found.source, GroupPlan) and found.source.layout.include_self:
            found = replace(found, self_columns=self._self_columns(found.source))
        self.lookups.append(found)
        self.needed |= set(found.self_columns or ())
        for column in found.outputs.columns:
            self._put(column, part.at)
        self.lineage = {**self.lineage, **found.lineage}

    def two_hop(self, name: str | None, part: TwoHop) -> None:
        keys = self._read(part.keys, f"{self.what}, {name}, keys")
        found = plan_two_hop(self.scope, name or "", part, keys, self.what)
        self.two_hops.append(found)
        self._put(Column(found.name, found.type, found.op not in ("any", "count")), part.at)
        self.lineage = {**self.lineage, **found.lineage}

    def _read(self, part: Lookup, what: str, name: str | None = None) -> LookupPlan:
        """A read by columns of the base, or by columns of the reads before it."""
        read = [c for lookup in self.lookups for c in lookup.outputs.columns if c.name not in self.source]
        reader, lineage = self.source.plus(read), {**self.lineage, **self.base_lineage}
        found = plan_lookup(self.scope, part, reader, lineage, what=what, name=name)
        self.needed |= {key for key in found.keys if key in self.source}
        return found

    def _self_columns(self, group: GroupPlan) -> tuple[str, ...] | None:
        """What a request must bring so that the asking row counts; None where it is no row of the group's stream."""
        if self.observation is None or source_of(self.observation) is not source_of(group):
            return None
        return tuple(sorted(asking_row(group)))

    def expressions(self, view: View) -> tuple[tuple[str, Expression], ...]:
        found = []
        for name, text in view.expressions:
            shadowed = {*self.outputs}
            visible = Schema([*(c for c in self.source.columns if c.name not in shadowed), *self.outputs.values()])
            try:
                made = self.scope.expression(text, visible, f"{self.what}, {name}", view.at)
            except ExpressionError:
                refuse_order(view.expressions, name, set(visible), self.what, view.at)
                raise
            self.needed |= {c for c in made.columns if c in self.source and c not in self.made}
            lineage = behind(self.lineage, made.columns)
            self._put(Column(name, made.type, made.nullable), view.at)
            self.lineage = {**self.lineage, name: lineage}
            found.append((name, made))
        return tuple(found)

    def inputs(self) -> Schema:
        """The columns that a request must bring, in the order of the base."""
        for name in sorted(self.needed & self.made):
            raise PlanError(
                f"{self.what}: a name stands for a column of the base that is needed, and for another",
                found=repr(name),
                remedy="rename the other",
                where=self.where,
            )
        return self.source.select(name for name in self.source if name in self.needed)


def plan_two_hop(scope: Scope, name: str, part: TwoHop, keys: LookupPlan, what: str) -> TwoHopPlan:
    """Two hops: a column read for each key of a list, and folded.

    Raises:
        PlanError: the list holds no such keys, or the fold does not take the column.
    """
    what, where = f"{what}, {name}", part.at
    value = plan_lookup(scope, part.value, None, {}, what=what)
    source = value.source
    listed = keys.outputs.columns[0]
    if listed.type.name != "list":
        raise PlanError(
            f"{what}: the keys of a two-hop read come from a list",
            found=f"{listed.name} is {listed.type}",
            remedy='list them: last_n(50, "item_id")',
            where=where,
        )
    if len(source.keys) != 1:
        raise PlanError(
            f"{what}: a two-hop read goes to a key of one column",
            found=", ".join(source.key_names),
            remedy="group by one entity",
            where=where,
        )
    wanted = (part.value.keys or source.key_names)[0]
    element, field_name = listed.type.element, None
    if element.name == "struct":
        fields = dict(element.args)
        if wanted not in fields:
            raise PlanError(
                f"{what}: the list's structs hold the key",
                found=f"{wanted} is none of {', '.join(fields)}",
                remedy=f'list it too: last_n(50, "{wanted}", ...), or name the field with .on("field")',
                where=where,
            )
        element, field_name = fields[wanted], wanted
    if element != source.key_types[0]:
        raise PlanError(
            f"{what}: {source_label(source)} is read by {source.key_types[0]}",
            found=f"the list holds {element}",
            remedy="list the key itself",
            where=where,
        )
    return _folded(name, part, keys, value, field_name=field_name, what=what)


def source_label(source: Any) -> str:
    """What a read is called in an error."""
    return str((source if isinstance(source, GroupPlan) else source.relation).name.name)


def _folded(
    name: str, part: TwoHop, keys: LookupPlan, value: LookupPlan, *, field_name: str | None, what: str
) -> TwoHopPlan:
    agg, where = part.agg, part.at
    if agg.op not in FOLDS or agg.args or agg.condition or agg.bucket:
        raise PlanError(
            f"{what}: the answers are folded by {', '.join(FOLDS)}, of nothing but themselves",
            found=f"{agg.op}({', '.join(agg.args)})",
            remedy="write agg=mean()",
            where=where,
        )
    if part.first is not None and part.first < 1:
        raise PlanError(f"{what}: first is 1 or more", found=repr(part.first), remedy="write first=5", where=where)
    column = value.outputs.columns[0]
    kind = BOOL if agg.op == "any" else INT if agg.op == "count" else fold_type(agg.op, column.type, what, where)
    parts = {"value": value.parts, "keys": keys.parts, "field": field_name, "first": part.first, "op": agg.op}
    sources = {*behind(keys.lineage, keys.outputs), *behind(value.lineage, value.outputs)}
    return TwoHopPlan(
        name=name,
        value=value,
        keys=keys,
        list_column=keys.outputs.names[0],
        field=field_name,
        first=part.first,
        op=agg.op,
        type=kind,
        parts=parts,
        lineage={name: tuple(sorted(sources))},
        fingerprint=sealed("two_hop", parts, value.fingerprint, keys.fingerprint),
    )
