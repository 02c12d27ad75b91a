"""History is the oracle: the grid of operators and windows, random cases, random chains; in memory and spilled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.history import History
from penstock.plan.expr.types import Schema
from penstock.plan.ir import SourcePlan
from penstock.plan.planner import plan
from penstock.semantics.columns import OP_NAMES, system_type
from penstock.testing.conformance import (
    MATRIX,
    Case,
    Found,
    FoundCell,
    GroupQuery,
    Matrix,
    Query,
    RowsQuery,
    ViewQuery,
    check,
    check_grid,
)
from penstock.testing.oracle import Knowledge, Reached, Row
from penstock.testing.strategies import cases, chains, own_views, views

_SYSTEM = {
    "_event_time": "t", "_known_time": "k", "_ordinal": "ordinal", "_partition": "partition", "_offset": "offset",
    "_id": "id",
}  # fmt: skip


class HistoryTempo:
    """Asks one query at a time, or all that share a group at once."""

    name = "history"

    def __init__(self, **options: Any) -> None:
        self.options = options

    def takes(self, case: Case, query: Query) -> bool:
        """Everything."""
        return True

    def answer(self, case: Case, queries: Sequence[Query]) -> Sequence[Found]:
        """Queries of one kind together, so that they share a sweep."""
        made = plan(case.definitions)
        sources = {n: r for n, r in made.relations.items() if isinstance(r, SourcePlan)}
        rows = {name: table_of(source.schema, case.arrivals.get(name, ())) for name, source in sources.items()}
        history = History(made, rows, **self.options)
        found: dict[int, Found] = {}
        for kind in dict.fromkeys(map(_kind, queries)):
            mine = [i for i, query in enumerate(queries) if _kind(query) == kind]
            found |= zip(mine, self._together(history, [queries[i] for i in mine]), strict=True)
        return [found[i] for i in range(len(queries))]

    def _together(self, history: History, queries: Sequence[Any]) -> list[Found]:
        first = queries[0]
        if isinstance(first, RowsQuery):
            return [_rows(history.relation(query.relation, a_us=query.a)) for query in queries]
        if isinstance(first, GroupQuery):
            made = history.plan.groups[first.group]
            inputs = [dict(zip(made.keys, query.key, strict=True)) for query in queries]
            asked = _asked(queries, inputs, made.input.schema)
            table = history.group(first.group, asked, **_known(queries)).table(statuses=True)
            names = list(made.outputs.names)
        else:
            view = history.plan.views[first.view]
            base = view.observation.schema if view.observation is not None else Schema()
            asked = _asked(queries, [query.inputs for query in queries], view.inputs.plus(
                c for c in base.columns if c.name not in view.inputs))  # fmt: skip
            table = history.view(first.view, asked, **_known(queries)).table(statuses=True)
            names = list(view.outputs.names)
        return [{n: FoundCell(row[n], row.get(f"{n}:status")) for n in names} for row in table.to_pylist()]


def _kind(query: Any) -> tuple[Any, ...]:
    if isinstance(query, RowsQuery):
        return ("rows",)
    name = query.group if isinstance(query, GroupQuery) else query.view
    return (type(query), name, Mapping if isinstance(query.a, Mapping) else type(query.a))


def _known(queries: Sequence[GroupQuery | ViewQuery]) -> dict[str, Any]:
    a = queries[0].a
    if a is None:
        return {"q": "asked_at", "as_occurred": True}
    if isinstance(a, Mapping):
        return {"q": "asked_at", "a": [query.a for query in queries]}
    if isinstance(a, Reached):
        places = [query.a.places for query in queries if isinstance(query.a, Reached)]
        return {"q": "asked_at", "a": places, "known": "known_at"}
    return {"q": "asked_at", "a": "known_at"}


def _asked(queries: Sequence[Any], inputs: Sequence[Mapping[str, Any]], schema: Schema) -> pa.Table:
    selves = [query.self_row for query in queries]
    columns: dict[str, pa.Array] = {}
    for column in schema.columns:
        values = [row.values.get(column.name) if row else given.get(column.name)
                  for row, given in zip(selves, inputs, strict=True)]  # fmt: skip
        given = [one.get(column.name, value) for one, value in zip(inputs, values, strict=True)]
        columns[column.name] = pa.array(given, column.type.arrow)
    for name, attribute in _SYSTEM.items():
        columns[name] = pa.array([getattr(row, attribute) if row else None for row in selves], system_type(name))
    columns["asked_at"] = pa.array([query.q for query in queries], pa.int64())
    columns["known_at"] = pa.array([_instant(query.a) for query in queries], pa.int64())
    return pa.table(columns)


def _instant(a: Knowledge) -> int | None:
    return a.known_us if isinstance(a, Reached) else a if isinstance(a, int) else None


def table_of(schema: Schema, rows: Sequence[Row]) -> pa.Table:
    """Accepted rows as a table with system columns."""
    columns = {name: pa.array([getattr(r, a) for r in rows], system_type(name)) for name, a in _SYSTEM.items()}
    columns["_op"] = pa.array([OP_NAMES.index(r.op) for r in rows], pa.int8())
    for column in schema.columns:
        columns[column.name] = pa.array([r.values.get(column.name) for r in rows], column.type.arrow)
    return pa.table(columns)


def _rows(table: pa.Table) -> list[Row]:
    found = []
    for row in table.to_pylist():
        values = {name: value for name, value in row.items() if not name.startswith("_")}
        found.append(
            Row(row["_event_time"], row["_known_time"], values, row["_id"], OP_NAMES[row["_op"]], row["_ordinal"],
                row["_partition"], row["_offset"])
        )  # fmt: skip
    return found


def test_the_grid_is_the_oracle() -> None:
    MATRIX.require("history")
    assert check_grid(HistoryTempo()) > 100


@given(cases())
def test_random_cases_are_the_oracle(case: Case) -> None:
    check(case, HistoryTempo())


@given(chains())
def test_random_chains_are_the_oracle(case: Case) -> None:
    check(case, HistoryTempo())


@given(views())
def test_random_views_are_the_oracle(case: Case) -> None:
    check(case, HistoryTempo())


@given(own_views())
def test_asking_rows_on_their_way_to_a_group_are_the_oracle(case: Case) -> None:
    check(case, HistoryTempo())


@settings(max_examples=15)
@given(st.one_of(chains(), views()))
def test_spilled_runs_are_the_oracle(case: Case) -> None:
    check(case, HistoryTempo(memory_bytes=2_000), Matrix())


@settings(max_examples=15)
@given(st.one_of(chains(), views()))
def test_runs_split_in_memory_are_the_oracle(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock.engine.history.run._NEAR_ROWS", 3)
        check(case, HistoryTempo(threads=2), Matrix())
