"""Relations: streams and tables and what is made from them, each a frozen statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from penstock.define.aggregate import Agg
from penstock.define.entity import Entity
from penstock.define.values import check_name, duration_us, here
from penstock.define.window import Closed, Window, window
from penstock.errors import DefinitionError, Location

__all__ = [
    "AsOf",
    "Computed",
    "Derived",
    "Enriched",
    "Filtered",
    "Group",
    "Grouping",
    "Joined",
    "Lookup",
    "Relation",
    "Selectable",
    "Selection",
    "TwoHop",
]

Pairs = tuple[tuple[str, str], ...]


class Relation:
    """Rows in time: a stream, or what is made from one. Every method gives a new frozen statement."""

    name: str
    at: Location | None

    def by(self, *keys: Entity | str) -> Grouping:
        """Groups rows by entities or by columns, for features over windows."""
        where = here()
        if not keys:
            raise DefinitionError("a group needs a key", remedy="name an entity or a column", where=where)
        found = tuple(key if isinstance(key, Entity) else Entity(key, (key,), at=where) for key in keys)
        return Grouping(self, found, at=where)

    def where(self, condition: str) -> Filtered:
        """Only the rows where `condition` is true; null is false."""
        return Filtered(self, condition, at=here())

    def with_columns(self, **expressions: str) -> Computed:
        """The same rows with more columns, each an SQL expression over the columns before."""
        return Computed(self, _pairs(expressions, "a column"), at=here())

    def join(
        self,
        outcome: Relation,
        *,
        on: str | tuple[str, ...],
        within: str,
        grace: str = "0s",
        name: str,
        emit: Literal["final", "match"] = "final",
        **reducers: Agg,
    ) -> Joined:
        """Observations with their outcomes: `t_obs <= t_out < t_obs + within`, known by `t_obs + within + grace`.

        Args:
            on: column(s) of both sides that must be equal.
            emit: "final" makes each joined row once, at closing; "match" makes one at each first match.
            reducers: a column each, folding the outcomes of one observation: any, count, sum, min, max, first, last.
        """
        where = here()
        if not reducers:
            raise DefinitionError(
                "a join folds its outcomes into columns", found="none", remedy="add clicked=ps.any()", where=where
            )
        return Joined(
            check_name(name, "a join", where),
            self,
            outcome,
            (on,) if isinstance(on, str) else tuple(on),
            duration_us(within, "within"),
            duration_us(grace, "grace"),
            tuple((check_name(k, "a column", where), v) for k, v in reducers.items()),
            emit,
            at=where,
        )

    def asof(self, key: Entity | str, *, within: str | None = None) -> AsOf:
        """Its newest row per key before an instant, at most `within` old."""
        entity = key if isinstance(key, Entity) else Entity(key, (key,), at=here())
        return AsOf(self, entity, None if within is None else duration_us(within, "within"), at=here())

    def __rshift__(self, lookup: Lookup | Group | AsOf) -> Enriched:
        """Each row with what a table, an as-of read or a group says at the row's own instant and position."""
        return Enriched(self, lookup if isinstance(lookup, Lookup) else lookup.lookup(), at=here())


class Selectable(Relation):
    """A relation of which some columns can be what a view reads from its request."""

    def __getitem__(self, columns: str | tuple[str, ...]) -> Selection:
        return Selection(self, (columns,) if isinstance(columns, str) else columns, here())


class Derived(Selectable):
    """A relation that keeps the name of the one it is made from."""

    input: Relation

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the stream it comes from."""
        return self.input.name


@dataclass(frozen=True, eq=False)
class Filtered(Derived):
    """Rows of `input` where `condition` is true."""

    input: Relation
    condition: str
    at: Location | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Computed(Derived):
    """Rows of `input` with further columns."""

    input: Relation
    columns: Pairs
    at: Location | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Joined(Selectable):
    """Observations with their folded outcomes; all durations in microseconds."""

    name: str
    observation: Relation
    outcome: Relation
    on: tuple[str, ...]
    within_us: int
    grace_us: int
    reducers: tuple[tuple[str, Agg], ...]
    emit: str
    at: Location | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Enriched(Derived):
    """Rows of `input` with the columns of a lookup at (q = t, a = the row's own position)."""

    input: Relation
    lookup: Lookup
    at: Location | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Selection:
    """Some columns of a relation: what a view reads from its request."""

    relation: Relation
    columns: tuple[str, ...]
    at: Location | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class AsOf:
    """The newest row per key of a relation, at most `within_us` old (None: however old)."""

    relation: Relation
    entity: Entity
    within_us: int | None
    closed: Closed = "left"
    at: Location | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name of the relation read."""
        return self.relation.name

    def __getitem__(self, columns: str | tuple[str, ...]) -> Lookup:
        return Lookup(self, (columns,) if isinstance(columns, str) else columns, at=here())

    def lookup(self) -> Lookup:
        """All of its columns but the key."""
        return Lookup(self, None, at=here())


@dataclass(frozen=True, eq=False)
class Lookup:
    """Columns read by key from an as-of table or a group.

    Attributes:
        columns: None for all.
        keys: columns of the reader that hold the key, when they are called otherwise.
        alias: the name under which a group's columns stand in the reader (default: the group's).
    """

    source: AsOf | Group
    columns: tuple[str, ...] | None
    keys: tuple[str, ...] | None = None
    alias: str | None = None
    at: Location | None = field(default=None, repr=False)

    def on(self, *keys: str, name: str | None = None) -> Lookup:
        """The same read by other columns of the reader: `by_airport["n_1h"].on("dest", name="by_dest")`."""
        return replace(self, keys=keys, alias=name or self.alias, at=here())

    def of(self, keys: Lookup, *, agg: Agg, first: int | None = None) -> TwoHop:
        """Two hops: reads this column for each key in the list that `keys` gives, and folds the answers by `agg`."""
        if self.columns is None or len(self.columns) != 1 or keys.columns is None or len(keys.columns) != 1:
            raise DefinitionError(
                "a two-hop read goes from one column to one list column",
                found=f"{self.columns!r} of {keys.columns!r}",
                remedy='write i_ctr["ctr_1h"].of(recent["items"], agg=mean())',
                where=here(),
            )
        return TwoHop(self, keys, first, agg, at=here())


@dataclass(frozen=True, eq=False)
class TwoHop:
    """A column of one lookup, read for the keys that another lookup lists, folded to one value."""

    value: Lookup
    keys: Lookup
    first: int | None
    agg: Agg
    at: Location | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Grouping:
    """A relation by keys, on the way to a group of features."""

    relation: Relation
    entities: tuple[Entity, ...]
    windows: tuple[Window, ...] = ()
    include_self: bool = False
    at: Location | None = field(default=None, repr=False)

    def over(
        self,
        *windows: str | Window,
        hop: str | None = None,
        offset: str | None = None,
        closed: Closed | None = None,
        include_self: bool = False,
    ) -> Grouping:
        """Over which windows; what is said here holds for each window that does not say otherwise.

        Args:
            include_self: a query made from a row counts that row, whatever its known time.
        """
        found = tuple((window(w) if isinstance(w, str) else w).with_defaults(hop, offset, closed) for w in windows)
        names = [w.name for w in found]
        if len(set(names)) != len(names):
            raise DefinitionError(
                "the windows of a group have different names",
                found=repr(names),
                remedy='name them: window("1h", closed="right", name="1h_right")',
                where=here(),
            )
        return replace(self, windows=found, include_self=include_self, at=here())

    def features(self, name: str, *, version: int = 1, observations_late: str = "1h", **aggs: Agg) -> Group:
        """Names the group and its aggregates; columns are called `{aggregate}_{window}`.

        Args:
            version: counts up when the meaning changes; the old one keeps running beside it.
            observations_late: how long after its instant a query may still come and be answered from state.
        """
        where = here()
        check_name(name, "a group", where)
        if not aggs:
            raise DefinitionError(f"group {name} computes nothing", remedy="add an aggregate: n=count()", where=where)
        for column, agg in aggs.items():
            check_name(column, "an aggregate", where)
            if not isinstance(agg, Agg):
                raise DefinitionError(
                    f"{name}.{column} is an aggregate", found=repr(agg), remedy="write n=count()", where=where
                )
        return Group(
            name,
            self.relation,
            self.entities,
            self.windows,
            tuple(aggs.items()),
            self.include_self,
            version,
            duration_us(observations_late, "observations_late"),
            at=where,
        )


@dataclass(frozen=True, eq=False)
class Group(Relation):
    """A feature group. As a relation it has one row per input row: the input's columns and its own."""

    name: str
    input: Relation
    entities: tuple[Entity, ...]
    windows: tuple[Window, ...]
    aggs: tuple[tuple[str, Agg], ...]
    include_self: bool = False
    version: int = 1
    observations_late_us: int = 0
    at: Location | None = field(default=None, repr=False)

    def __getitem__(self, columns: str | tuple[str, ...]) -> Lookup:
        return Lookup(self, (columns,) if isinstance(columns, str) else columns, at=here())

    def lookup(self) -> Lookup:
        """All of its feature columns."""
        return Lookup(self, None, at=here())

    def on(self, *keys: str, name: str | None = None) -> Lookup:
        """All of its columns, read by other columns of the reader."""
        return Lookup(self, None, keys, name, at=here())


def _pairs(expressions: Mapping[str, str], what: str) -> Pairs:
    where = here()
    for name, text in expressions.items():
        check_name(name, what, where)
        if not isinstance(text, str) or not text.strip():
            raise DefinitionError(
                f"{name} is an SQL expression as text", found=repr(text), remedy=f'write {name}="a + b"', where=where
            )
    return tuple(expressions.items())
