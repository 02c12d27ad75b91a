"""What an engine is asked: definitions, rows as they were accepted, and queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from penstock.define.project import Definitions
from penstock.define.relation import Group, Lookup, Relation
from penstock.define.view import Part, View
from penstock.testing.oracle import Answer, Knowledge, Oracle, Row

__all__ = [
    "Case",
    "Found",
    "FoundCell",
    "GroupQuery",
    "Query",
    "RowsQuery",
    "Tempo",
    "ViewQuery",
    "answer",
    "is_present",
]


@dataclass(frozen=True)
class GroupQuery:
    """The features of one key.

    Attributes:
        a: an instant, or {(stream, partition): position}.
        self_row: the row the query is made from, for groups that include it.
    """

    group: str
    key: tuple[Any, ...]
    q: int
    a: Knowledge
    self_row: Row | None = None


@dataclass(frozen=True)
class ViewQuery:
    """The columns of a view for one request; `self_row` as in `GroupQuery`."""

    view: str
    inputs: Mapping[str, Any]
    q: int
    a: Knowledge
    self_row: Row | None = None


@dataclass(frozen=True)
class RowsQuery:
    """The rows of a named relation (a stream, a join, a group) that count at `a`, in order."""

    relation: str
    a: Knowledge


Query = GroupQuery | ViewQuery | RowsQuery


@dataclass(frozen=True)
class Case:
    """One project, its rows and what is asked of it.

    Attributes:
        arrivals: accepted rows of each stream and table in order of arrival. Rows of one partition with one `k` are
            one commit; commits of all partitions arrive in the order of `k`.
        title: what it is about.
    """

    definitions: Definitions
    arrivals: Mapping[str, Sequence[Row]]
    queries: Sequence[Query] = ()
    title: str = ""
    oracle: Oracle = field(init=False, repr=False, compare=False)
    answers: dict[int, Answer | list[Row]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "oracle", Oracle(self.definitions, self.arrivals))


@dataclass(frozen=True, slots=True)
class FoundCell:
    """An engine's value and status; a status of None is not compared.

    Values are plain: int, float, Decimal, text, bool, date; instants and durations as microseconds or as datetime and
    timedelta; maps as dicts; lists, of tuples or dicts in the order of the columns where there are several.
    """

    value: Any
    status: str | None = None


Found = Mapping[str, FoundCell] | Sequence[Row]
"""Columns of a group by plain names (`n_1h`), of a view by the names that stand in it; rows for a `RowsQuery`."""


class Tempo(Protocol):
    """An engine under test: about fifty lines that feed it a case and ask it."""

    name: str

    def takes(self, case: Case, query: Query) -> bool:
        """Whether this engine is meant to answer the query at all: live and online know only their present."""
        ...

    def answer(self, case: Case, queries: Sequence[Query]) -> Sequence[Found]:
        """One answer per query, in their order."""
        ...


def is_present(case: Case, query: Query) -> bool:
    """Whether state that has taken all rows with `k <= a`, and no other, is meant to answer a query.

    So `a` is an instant, and `q` lies at or after `a - D_obs` of each group that is read, and of an as-of read at or
    after `a`; a query from before is history's.
    """
    if not isinstance(query.a, int) or query.a < _first_k(case):
        return False
    if isinstance(query, RowsQuery):
        return True
    definition = case.definitions[query.group if isinstance(query, GroupQuery) else query.view]
    if isinstance(definition, Group):
        return query.q >= query.a - definition.observations_late_us
    assert isinstance(definition, View)
    sources = [part.source for _, read in definition.parts for part in _lookups(read)]
    return all(query.q >= query.a - getattr(source, "observations_late_us", 0) for source in sources)


def _first_k(case: Case) -> int:
    return min((row.k for rows in case.arrivals.values() for row in rows), default=-(2**63))


def _lookups(read: Part) -> tuple[Lookup, ...]:
    return (read,) if isinstance(read, Lookup) else (read.value, read.keys)


def answer(case: Case, query: Query) -> Answer | list[Row]:
    """What the oracle says; worked out once per case and query."""
    if id(query) not in case.answers:
        case.answers[id(query)] = _answer(case, query)
    return case.answers[id(query)]


def _answer(case: Case, query: Query) -> Answer | list[Row]:
    match query:
        case GroupQuery():
            group = case.definitions[query.group]
            assert isinstance(group, Group)
            return case.oracle.group(group, query.key, query.q, query.a, query.self_row)
        case ViewQuery():
            view = case.definitions[query.view]
            assert isinstance(view, View)
            return case.oracle.view(view, query.inputs, query.q, query.a, query.self_row)
    relation = case.definitions[query.relation]
    assert isinstance(relation, Relation)
    rows = case.oracle.rows(relation, query.a)
    return [_with_cells(case.oracle, relation, row) for row in rows] if isinstance(relation, Group) else rows


def _with_cells(oracle: Oracle, group: Group, row: Row) -> Row:
    """A row of a group with its features as cells, which say how far a float may be off."""
    cells = oracle.features_of(group, row)
    return replace(row, values={**row.values, **cells})
