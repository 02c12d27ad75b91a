"""The checked plan: what every engine runs. Frozen data with compiled expressions; made by `penstock.plan.planner`.

Relations form a tree over sources. A relation's rows carry the system columns of `penstock.semantics.columns` and the
columns of its `schema`. Every node has `parts`: what its fingerprint was made of, as plain data, less its inputs; and
`lineage`: the source columns behind each of its columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.algebra.layout import Layout
from penstock.define.aggregate import Aggregate
from penstock.define.source import Source
from penstock.errors import Location, NotBuiltError, PlanError, nearest
from penstock.names import Fingerprint, Name
from penstock.plan.expr import Expression
from penstock.plan.expr.types import Schema, Type

__all__ = [
    "AsOfPlan",
    "ComputePlan",
    "EnrichPlan",
    "FilterPlan",
    "GroupPlan",
    "JoinPlan",
    "Lineage",
    "LookupPlan",
    "Parts",
    "Plan",
    "Reducer",
    "RelationPlan",
    "SourcePlan",
    "TwoHopPlan",
    "ViewPlan",
]

Lineage = Mapping[str, tuple[str, ...]]  # column -> source columns ("departures.dep_delay"), sorted
Parts = Mapping[str, Any]  # plain data


@dataclass(frozen=True, eq=False)
class SourcePlan:
    """A stream or a table as it enters.

    Attributes:
        kind: "stream" or "table".
        schema: its columns as stored in the log (the source's own; not the system columns). Local times of the source
            are instants here: the door converts them by `zone`.
        time: instant from a row; None: of a table without one, the known time.
        known: instant from a row; None: the log's clock at append; for a stream replayed from files the event time;
            for a lake table the commit time.
        key: of a table.
        late_us, dedup_us, corrected_us, max_ahead_us: as in `penstock.define.stream.Stream`.
    """

    name: Name
    kind: str
    schema: Schema
    time: Expression | None
    known: Expression | None
    id: str | None
    op: str | None
    key: tuple[str, ...]
    late_us: int
    dedup_us: int
    corrected_us: int | None
    max_ahead_us: int | None
    zone: str | None
    clock: str
    source: Source
    parts: Parts
    lineage: Lineage
    fingerprint: Fingerprint


@dataclass(frozen=True, eq=False)
class FilterPlan:
    """Rows of `input` where `condition` is true."""

    input: RelationPlan
    condition: Expression
    schema: Schema
    parts: Parts
    lineage: Lineage
    fingerprint: Fingerprint


@dataclass(frozen=True, eq=False)
class ComputePlan:
    """Rows of `input` with further columns, each computed from the columns before it."""

    input: RelationPlan
    columns: tuple[tuple[str, Expression], ...]
    schema: Schema
    parts: Parts
    lineage: Lineage
    fingerprint: Fingerprint


@dataclass(frozen=True, eq=False)
class Reducer:
    """A column of a join: outcomes folded by `op` (any, count, sum, min, max, first, last, mean, share).

    Attributes:
        argument, where: over the outcome's columns.
    """

    name: str
    op: str
    argument: Expression | None
    where: Expression | None
    type: Type


@dataclass(frozen=True, eq=False)
class JoinPlan:
    """Observations with folded outcomes; `schema` = the observation's columns and one per reducer.

    Attributes:
        emit: "final" (made at closing, k = max(k_obs, t_obs + within + grace)) or "match" (at each first match).
    """

    name: Name
    observation: RelationPlan
    outcome: RelationPlan
    on: tuple[str, ...]
    within_us: int
    grace_us: int
    reducers: tuple[Reducer, ...]
    emit: str
    schema: Schema
    parts: Parts
    lineage: Lineage
    fingerprint: Fingerprint


@dataclass(frozen=True, eq=False)
class EnrichPlan:
    """Rows of `input` with a lookup's columns, read at q = t and a = the row's own position (its k elsewhere)."""

    input: RelationPlan
    lookup: LookupPlan
    schema: Schema
    parts: Parts
    lineage: Lineage
    fingerprint: Fingerprint


@dataclass(frozen=True, eq=False)
class GroupPlan:
    """A feature group.

    As a relation it has one row per input row: `schema` is the input's columns and its own as `group.column`, as they
    stand in a view.

    Attributes:
        keys: columns of the input that hold the key, in order; `key_types` and `key_names` (what the entities call
            them, as a reader does) beside them.
        layout: what the kernels need; `slots[i]` computes `layout.slots[i]` from the input's columns.
        outputs: the feature columns by their plain names (`n_1h`) with their types, all nullable but counts.
        observations_late_us: D_obs.
        customs: users' aggregates of the layout, by name.
        lineage: by the names of `schema`.
    """

    name: Name
    input: RelationPlan
    entities: tuple[str, ...]
    keys: tuple[str, ...]
    key_names: tuple[str, ...]
    key_types: tuple[Type, ...]
    layout: Layout
    slots: tuple[Expression, ...]
    outputs: Schema
    observations_late_us: int
    customs: Mapping[str, Aggregate]
    schema: Schema
    parts: Parts
    lineage: Lineage
    fingerprint: Fingerprint


RelationPlan = SourcePlan | FilterPlan | ComputePlan | JoinPlan | EnrichPlan | GroupPlan


@dataclass(frozen=True, eq=False)
class AsOfPlan:
    """The newest row per key of a relation among t < q (t <= q when closed="right"), at most `within_us` old.

    Attributes:
        keys: columns of the relation that hold the key; `key_names`: what a reader calls them.
    """

    relation: RelationPlan
    keys: tuple[str, ...]
    key_names: tuple[str, ...]
    key_types: tuple[Type, ...]
    within_us: int | None
    closed: str
    parts: Parts
    fingerprint: Fingerprint


@dataclass(frozen=True, eq=False)
class LookupPlan:
    """Columns read by key.

    Attributes:
        keys: columns of the reader that hold the key.
        columns: names in the source (a group's plain output names).
        outputs: `outputs.columns[i]` is `columns[i]` as the reader calls it, with its type: `alias.column` for a
            group, the plain name for an as-of read without an alias.
        self_columns: in a view, of a group that includes the asking row: the reader's columns from which that row is
            made at request time, its own key included (it counts under no other); None where it does not count.
    """

    source: AsOfPlan | GroupPlan
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    outputs: Schema
    self_columns: tuple[str, ...] | None
    parts: Parts
    lineage: Lineage
    fingerprint: Fingerprint


@dataclass(frozen=True, eq=False)
class TwoHopPlan:
    """`value` read for each key in the list that `keys` gives (its first `first`), nulls left out, folded by `op`.

    Attributes:
        name, type: of the column in the view; nullable unless `op` is any or count.
        value: its `keys` are empty; the key comes from the list.
        list_column: the reader's name of the list column, as `keys.outputs` has it.
        field: of the list's structs that holds the key; None when the list holds keys.
    """

    name: str
    value: LookupPlan
    keys: LookupPlan
    list_column: str
    field: str | None
    first: int | None
    op: str
    type: Type
    parts: Parts
    lineage: Lineage
    fingerprint: Fingerprint


@dataclass(frozen=True, eq=False)
class ViewPlan:
    """A feature view.

    Attributes:
        inputs: what a request must bring: the base's columns that are put out, used as keys or in expressions, or
            aggregated by a group over the base that includes the asking row (`include_self`).
        observation: the base stream; None when the base is request inputs.
        base: columns of the inputs that are put out.
        lookups: reads by key, in order; two_hops after them; then expressions, in order, over inputs and all of these.
        outputs: base columns, then the columns of lookups and two-hops in the order written, then expressions.
    """

    name: Name
    inputs: Schema
    observation: RelationPlan | None
    base: tuple[str, ...]
    lookups: tuple[LookupPlan, ...]
    two_hops: tuple[TwoHopPlan, ...]
    expressions: tuple[tuple[str, Expression], ...]
    outputs: Schema
    parts: Parts
    lineage: Lineage
    fingerprint: Fingerprint


@dataclass(frozen=True, eq=False)
class Plan:
    """A project, checked.

    Attributes:
        relations: every named relation (streams, tables, joins, groups) by its plain name.
        not_built: named definitions that are legal but rest on a part that is not built: name -> reason.
        warnings: assumptions made for the user: (definition's name, a sentence).
        places: where each definition was written.
    """

    relations: Mapping[str, RelationPlan]
    groups: Mapping[str, GroupPlan]
    views: Mapping[str, ViewPlan]
    not_built: Mapping[str, str]
    warnings: tuple[tuple[str, str], ...]
    places: Mapping[str, Location | None]

    def require(self, name: str) -> RelationPlan | ViewPlan:
        """The relation or view of that name.

        Raises:
            NotBuiltError: it is legal, but rests on a part that is not built.
            PlanError: there is none; the error names the nearest.
        """
        found = self.views.get(name) or self.relations.get(name)
        if found is not None:
            return found
        if name in self.not_built:
            raise NotBuiltError(
                f"{name} cannot run yet", found=self.not_built[name], remedy="leave it out for now",
                where=self.places.get(name),
            )  # fmt: skip
        raise PlanError(
            "no definition has this name",
            found=repr(name),
            remedy=nearest(name, [*self.relations, *self.views, *self.not_built]),
        )
