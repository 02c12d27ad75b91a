"""The row a query is made from: it counts whatever its known time, once, in groups that include it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.algebra.keys import KeyEncoder
from penstock.engine.history.frame import EVENT, UNTIL_OFFSET, column, gather, replace_column, system
from penstock.engine.history.knowledge import Knowledge, ranks
from penstock.plan.ir import RelationPlan
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, KNOWN_UNTIL, NEVER_US, OFFSET, OP, ORDINAL, PARTITION

__all__ = ["UNKNOWN_US", "Placed", "Selves", "with_selves"]

Int64 = NDArray[np.int64]
_NONE = np.zeros(0, np.int64)
UNKNOWN_US = NEVER_US - 1
"""The known time of a row that no query knows."""


@dataclass(frozen=True, eq=False)
class Selves:
    """The self row of each query.

    Attributes:
        rows: as the group's input has them; None: they are rows of the input itself.
        at: per query, the index of its self row in `rows` (or in the input's rows), -1 for none.
    """

    rows: pa.Table | None
    at: Int64

    def take(self, queries: Int64) -> Selves:
        """Of some queries."""
        return Selves(self.rows, self.at[queries])


@dataclass(frozen=True, eq=False)
class Placed:
    """Rows that hold every self row.

    Attributes:
        at: per query, where its self row stands; -1 for none.
        seen: pairs (query, row): other versions of its self row that it sees, and that count instead where a window
            covers them.
    """

    rows: pa.Table
    at: Int64
    seen: tuple[Int64, Int64]


def with_selves(rows: pa.Table, selves: Selves, knowledge: Knowledge, relation: RelationPlan) -> Placed:
    """The rows, with the self rows that are not among them as rows that nobody else knows."""
    if selves.rows is None:
        return Placed(rows, selves.at, (_NONE, _NONE))
    logged = _places(rows, selves)
    seen = _seen(rows, selves, logged, knowledge, relation)
    needed = np.flatnonzero((logged < 0) & (selves.at >= 0))
    if not len(needed):
        return Placed(rows, logged, seen)
    added = selves.rows.take(pa.array(selves.at[needed]))
    added = replace_column(added, KNOWN_TIME, pa.array(np.full(len(needed), UNKNOWN_US)))
    added = replace_column(added, OFFSET, pa.array(np.full(len(needed), UNKNOWN_US)))
    at = logged
    at[needed] = rows.num_rows + np.arange(len(needed))
    for name in rows.column_names:
        if name not in added.column_names:
            kind = rows.schema.field(name).type
            filled = pa.array(system(added, name)).cast(kind) if name in _FILLED else pa.nulls(len(needed), kind)
            added = added.append_column(name, filled)
    added = added.select(rows.column_names).cast(_nullable(rows.schema))
    return Placed(pa.concat_tables([rows.cast(_nullable(rows.schema)), added]), at, seen)


_FILLED = frozenset({ORDINAL, PARTITION, KNOWN_UNTIL, OP, UNTIL_OFFSET, EVENT})


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, f.type) for f in schema])


def _places(rows: pa.Table, selves: Selves) -> Int64:
    """Where each self row stands among the rows, that very version; -1 where it does not."""
    assert selves.rows is not None
    names = (OFFSET, PARTITION, EVENT_TIME, KNOWN_TIME, ORDINAL)
    codes = KeyEncoder()
    stored = codes.encode([pa.array(system(rows, name)) for name in names])
    index = np.full(len(codes), -1, np.int64)
    index[stored] = np.arange(len(stored))
    mine = codes.encode([pa.array(system(selves.rows, name)) for name in names], add=False)
    return gather(gather(index, mine), selves.at)


def _seen(
    rows: pa.Table, selves: Selves, logged: Int64, knowledge: Knowledge, relation: RelationPlan
) -> tuple[Int64, Int64]:
    """Other versions of the queries' self rows that they see, as pairs (query, row).

    Of a row in the log: a version of its event. Of a payload that is in no log: rows with its id.
    """
    queries, found = list[int](), list[int]()
    known = list(ranks(knowledge, rows, relation, len(logged)))
    for stored, mine in _identities(rows, selves, logged):
        order = np.argsort(stored, kind="stable")
        first = np.searchsorted(stored[order], mine, side="left")
        last = np.searchsorted(stored[order], mine, side="right")
        for ranked in known:
            members = np.arange(len(logged)) if ranked.queries is None else ranked.queries
            a = np.full(len(logged), -1, np.int64)
            a[members] = ranked.a
            for i in members[(mine[members] >= 0) & (last > first)[members]].tolist():
                candidates = order[first[i] : last[i]]
                sees = (ranked.known_from[candidates] <= a[i]) & (candidates != logged[i])
                if ranked.until is not None:
                    sees &= ranked.until[candidates] > a[i]
                found += candidates[sees].tolist()
                queries += [i] * int(sees.sum())
    return np.array(queries, np.int64), np.array(found, np.int64)


def _identities(rows: pa.Table, selves: Selves, logged: Int64) -> Iterator[tuple[Int64, Int64]]:
    """Codes of rows and of self rows, equal for versions of one event, then for equal ids; -1 for none."""
    if EVENT in rows.column_names:
        events = KeyEncoder().encode([pa.array(system(rows, PARTITION)), column(rows, EVENT)])
        yield events, gather(events, logged)
    assert selves.rows is not None
    if ID in rows.column_names and ID in selves.rows.column_names and bool((logged < 0).any()):
        codes = KeyEncoder()
        stored, mine = (
            codes.encode([column(table, ID), pa.array(system(table, ORDINAL))], add=add)
            for table, add in ((rows, True), (selves.rows, False))
        )
        yield stored, np.where(logged < 0, gather(mine, selves.at), -1)
