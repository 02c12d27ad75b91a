"""The oracle: every question that an engine answers, answered from all rows each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from penstock.define.project import Definitions
from penstock.define.relation import (
    AsOf,
    Computed,
    Enriched,
    Filtered,
    Group,
    Joined,
    Lookup,
    Relation,
    TwoHop,
)
from penstock.define.stream import Stream, Table
from penstock.define.view import View
from penstock.errors import EngineError
from penstock.testing.oracle.folds import Cell, fold
from penstock.testing.oracle.relations import GONE, base_name, computed, filtered, joined, joined_now, mapped, sources
from penstock.testing.oracle.rows import Knowledge, Log, Own, Row, log_of, plain, visible
from penstock.testing.oracle.sql import evaluate, is_true
from penstock.testing.oracle.windows import LIFETIME, covered, names

__all__ = ["Answer", "Oracle"]

Answer = dict[str, Cell]


class Oracle:
    """All rows of all sources of a project, and what the rules say of them.

    Args:
        arrivals: accepted rows of each stream and table, as `Door` gives them.
    """

    def __init__(self, definitions: Definitions, arrivals: Mapping[str, Sequence[Row]]) -> None:
        self.definitions = definitions
        self.functions = dict(definitions.functions)
        self.arrivals = {name: [_plain(row) for row in rows] for name, rows in arrivals.items()}
        self._logs: dict[int, tuple[Relation, Log]] = {}

    def log(self, relation: Relation) -> Log:
        """The rows of a relation in order of arrival, corrections as upserts and deletes."""
        if id(relation) not in self._logs:
            self._logs[id(relation)] = (relation, self._log(relation))
        return self._logs[id(relation)][1]

    def _log(self, relation: Relation) -> Log:
        match relation:
            case Stream() | Table():
                return log_of(relation, self.arrivals.get(relation.name, ()))
            case Filtered():
                return filtered(relation, self.log(relation.input), self.functions)
            case Computed():
                return computed(relation, self.log(relation.input), self.functions)
            case Joined():
                made = joined(relation, self.log(relation.observation), self.log(relation.outcome), self.functions)
                return replace(made, feeds=tuple(map(self.log, sources(relation).values())))
            case Enriched():
                found = relation.lookup
                return mapped(
                    self.log(relation.input),
                    lambda row, a: _values(self.lookup(found, row.values, row.t, a, self._logged(found, row, a))),
                )
            case Group():
                return mapped(self.log(relation.input), lambda row, a: _values(self.features_of(relation, row)))
        raise EngineError("the oracle knows no such relation", found=repr(relation))

    def rows(self, relation: Relation, a: Knowledge) -> list[Row]:
        """The rows of a relation that count at `a`, in order."""
        return sorted(visible(self.log(relation), a), key=lambda row: row.order)

    def group(self, group: Group, key: tuple[Any, ...], q: int, a: Knowledge, self_row: Row | None = None) -> Answer:
        """The features of a key at `q`, knowing `a`.

        Args:
            self_row: the row a query is made from; it counts if the group says so.
        """
        windows = group.windows or (LIFETIME,)
        columns = [(name, agg, window) for name, agg in group.aggs for window in windows]
        rows, own = [], None
        if None not in key:
            rows = [row for row in self.rows(group.input, a) if key_of(group, row) == key]
            own = self_row if group.include_self and self_row is not None and key_of(group, self_row) == key else None
        same = None
        if own is not None:
            own, same = self._placed(group, own)
        counted = {window.name: covered(window, q, rows, own, same) for window in windows}
        seen = any(counted.values())
        found = {}
        for name, agg, window in columns:
            cell = fold(agg, counted[window.name], q - window.offset_us, self.functions)
            found[names(name, window)] = cell if seen else replace(cell, status="unseen")
        return found

    def _placed(self, group: Group, own: Row) -> tuple[Row, Callable[[Row], bool]]:
        """The asking row where it stands, and whether a row is a version of its event.

        A payload that is in no log stands after every row known, and is told by its id.
        """
        log = self.log(group.input)
        events = {row.place: event for row, event in zip(log.rows, log.events, strict=True)}
        if any(row.place == own.place and (row.t, row.id) == (own.t, own.id) for row in log.rows):
            return own, lambda row: events[row.place] == events[own.place]
        return replace(own, k=2**62), lambda row: own.id is not None and (row.id, row.ordinal) == (own.id, own.ordinal)

    def features_of(self, group: Group, row: Row) -> Answer:
        """The features of a row of the group's input, at its own instant and position, by their names in rows."""
        a = Own(self.log(group.input).name, row.place)
        found = self.group(group, key_of(group, row), row.t, a, row)
        return {f"{group.name}.{name}": cell for name, cell in found.items()}

    def asof(self, read: AsOf, key: tuple[Any, ...], q: int, a: Knowledge) -> tuple[Row | None, str]:
        """The row that an as-of read finds, or None and why."""
        columns = read.entity.key_columns
        last = q if read.closed == "right" else q - 1
        rows = [
            row
            for row in visible(self.log(read.relation), a, deletes=isinstance(_root(read.relation), Table))
            if row.t <= last and tuple(row.values.get(column) for column in columns) == key
        ]
        if not rows or None in key:
            return None, "unseen"
        row = max(rows, key=lambda found: found.order)
        if row.op == "delete":
            return None, "deleted"
        stale = read.within_us is not None and q - row.t > read.within_us
        return (None, "stale") if stale else (row, "ok")

    def lookup(self, lookup: Lookup, reader: Mapping[str, Any], q: int, a: Knowledge, own: Row | None = None) -> Answer:
        """The columns of a lookup by the names that its reader gives them.

        Args:
            own: the reader's row as a row of the group's input, if it is one.
        """
        source = lookup.source
        if isinstance(source, Group):
            key = tuple(reader[column] for column in lookup.keys or reader_keys(source))
            known = _for(a, source.input)
            cells = self.group(source, key, q, known, own)
            wanted = lookup.columns or tuple(cells)
            return {f"{lookup.alias or source.name}.{column}": cells[column] for column in wanted}
        key = tuple(reader[column] for column in lookup.keys or source.entity.keys)
        row, status = self.asof(source, key, q, _for(a, source.relation))
        wanted = lookup.columns or self._columns(source)
        prefix = f"{lookup.alias}." if lookup.alias else ""
        return {f"{prefix}{column}": Cell(row.values.get(column) if row else None, status) for column in wanted}

    def _columns(self, read: AsOf) -> tuple[str, ...]:
        named: dict[str, None] = {}
        for row in self.log(read.relation).rows:
            named.update(dict.fromkeys(row.values))
        return tuple(column for column in named if column not in read.entity.key_columns)

    def view(
        self, view: View, inputs: Mapping[str, Any], q: int, a: Knowledge, self_row: Row | None = None
    ) -> dict[str, Cell]:
        """The columns of a view for one request.

        Args:
            self_row: the request as a row of the base stream, for groups over that stream that include it.
        """
        scope: dict[str, Any] = {name: plain(value) for name, value in inputs.items()}
        base = getattr(view.base, "relation", None)
        found = {column: Cell(scope.get(column)) for column in _base_columns(view)}
        for name, part in view.parts:
            if isinstance(part, TwoHop):
                continue
            own = None
            if base is not None and isinstance(part.source, Group) and _stream(part.source) is _stream(base):
                own = self._asking(part.source.input, self_row, a)
            for column, cell in self.lookup(_named(part, name), scope, q, a, own).items():
                found[column] = cell
                scope[column] = plain_value(cell)
        for name, part in view.parts:
            if isinstance(part, TwoHop):
                found[name or ""] = self._two_hop(part, scope, q, a)
                scope[name or ""] = found[name or ""].value
        for name, text in view.expressions:
            scope[name] = evaluate(text, scope, self.functions)
            found[name] = Cell(scope[name], "ok", 0.0 if isinstance(scope[name], float) else None)
        return found

    def _logged(self, lookup: Lookup, row: Row, a: Own) -> Row | None:
        """The row of a group's input that a row of the same log is, if it is one."""
        source = lookup.source
        if not isinstance(source, Group) or base_name(source.input) != a.log:
            return None
        rows = self.log(source.input).rows
        return next((found for found in rows if found.place == row.place and found.op not in GONE), None)

    def _asking(self, relation: Relation, row: Row | None, a: Knowledge) -> Row | None:
        """The row of a relation that a request is, itself a row of the stream behind it; None where it makes none."""
        if row is None or isinstance(relation, Stream):
            return row
        if isinstance(relation, Joined):
            observation = self._asking(relation.observation, row, a)
            outcomes = self.log(relation.outcome)
            return observation and joined_now(relation, observation, outcomes, a, self.functions)
        if isinstance(relation, Table) or not hasattr(relation, "input"):
            return None
        found = self._asking(relation.input, row, a)
        if found is None:
            return None
        match relation:
            case Filtered():
                return found if is_true(relation.condition, found.values, self.functions) else None
            case Computed():
                return computed(relation, Log("", (found,), (0,)), self.functions).rows[0]
            case Enriched():
                source, own = relation.lookup.source, None
                if isinstance(source, Group) and base_name(source.input) == base_name(relation.input):
                    own = self._asking(source.input, row, a)
                more = _values(self.lookup(relation.lookup, found.values, found.t, a, own))
                return replace(found, values={**found.values, **more})
            case Group():
                cells = self.group(relation, key_of(relation, found), found.t, a, found)
                named = {f"{relation.name}.{name}": cell for name, cell in cells.items()}
                return replace(found, values={**found.values, **_values(named)})
        return None

    def _two_hop(self, hop: TwoHop, scope: Mapping[str, Any], q: int, a: Knowledge) -> Cell:
        (keys,) = self.lookup(hop.keys, scope, q, a).values()
        values = []
        for key in (keys.value or [])[: hop.first]:
            source = hop.value.source
            columns = hop.value.keys or (reader_keys(source) if isinstance(source, Group) else source.entity.keys)
            reader = key if isinstance(key, Mapping) else {columns[0]: key}
            (cell,) = self.lookup(hop.value, reader, q, a).values()
            if cell.value is not None:
                values.append(plain_value(cell))
        rows = [Row(0, 0, {"x": value}, offset=n) for n, value in enumerate(values)]
        agg = hop.agg if hop.agg.op in ("any", "count") else replace(hop.agg, args=("x",))
        return fold(agg, rows, 0, self.functions)


def _plain(row: Row) -> Row:
    return replace(row, values={name: plain(value) for name, value in row.values.items()})


def _root(relation: Relation) -> Relation:
    while not isinstance(relation, Joined) and hasattr(relation, "input"):
        relation = relation.input
    return relation


def _stream(relation: Relation) -> Relation:
    """The stream or table whose rows a relation's rows are: of a join, the observations'."""
    while not isinstance(relation, Stream | Table):
        relation = relation.observation if isinstance(relation, Joined) else getattr(relation, "input")  # noqa: B009
    return relation


def plain_value(cell: Cell) -> Any:
    if isinstance(cell.value, Mapping):
        return {key: plain_value(inner) for key, inner in cell.value.items()}
    return cell.value


def _values(answer: Answer) -> dict[str, Any]:
    return {name: plain_value(cell) for name, cell in answer.items()}


def key_of(group: Group, row: Row) -> tuple[Any, ...]:
    """The key under which a row counts."""
    return tuple(row.values[column] for entity in group.entities for column in entity.key_columns)


def reader_keys(group: Group) -> tuple[str, ...]:
    """The columns of a reader that hold a group's key, unless it says otherwise."""
    return tuple(key for entity in group.entities for key in entity.keys)


def _for(a: Knowledge, relation: Relation) -> Knowledge:
    return a.place[0] if isinstance(a, Own) and base_name(relation) != a.log else a


def _base_columns(view: View) -> tuple[str, ...]:
    columns: Any = view.base.columns
    return tuple(c if isinstance(c, str) else c[0] for c in columns)


def _named(lookup: Lookup, name: str | None) -> Lookup:
    return lookup if name is None else replace(lookup, alias=name)
