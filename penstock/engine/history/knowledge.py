"""What a query knows: an instant, positions of logs, a row's own position, or everything; told as int64 ranks.

The kernel compares ranks only: a row counts when `known_from <= a < known_until`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.engine.history.frame import UNTIL_OFFSET, system
from penstock.plan.asking import log_of, source_of
from penstock.plan.ir import JoinPlan, RelationPlan
from penstock.semantics.columns import KNOWN_TIME, KNOWN_UNTIL, NEVER_US, OFFSET, PARTITION

__all__ = [
    "EVERYTHING",
    "Everything",
    "Instants",
    "Knowledge",
    "Own",
    "Ranked",
    "Vectors",
    "known_until",
    "log_name",
    "ranks",
]

Int64 = NDArray[np.int64]
Places = Mapping[tuple[str, int], int]


@dataclass(frozen=True, eq=False)
class Instants:
    """Rows with `k <= a`, by query."""

    a: Int64

    def take(self, at: Int64) -> Instants:
        """Of some queries."""
        return Instants(self.a[at])


@dataclass(frozen=True, eq=False)
class Vectors:
    """Rows below a position of their log's partition: query i knows `vectors[index[i]]`.

    A vector is {(stream, partition): position}.
    Of partitions that a vector leaves out nothing is known.

    Attributes:
        reached: for a join, the instant of each vector by which the rows made count: progress makes them, and they
            stand at no position.
        by: of each vector, an instant after which nothing is known, whatever the position.
    """

    index: Int64
    vectors: Sequence[Places]
    reached: Callable[[JoinPlan], Int64]
    by: Int64 | None = None

    def take(self, at: Int64) -> Vectors:
        """Of some queries."""
        return replace(self, index=self.index[at])

    def until(self, instants: Int64) -> Vectors:
        """The same of each query, but nothing that became known after its instant."""
        pairs, index = np.unique(np.column_stack([self.index, instants]), axis=0, return_inverse=True)
        of, by = pairs[:, 0], pairs[:, 1] if self.by is None else np.minimum(pairs[:, 1], self.by[pairs[:, 0]])

        def reached(join: JoinPlan) -> Int64:
            return self.reached(join)[of]

        return Vectors(index.reshape(-1), [self.vectors[i] for i in of.tolist()], reached, by)


@dataclass(frozen=True, eq=False)
class Own:
    """A row's own position, itself included: rows of `log` at or before (k, partition, offset), others by its k."""

    log: str
    k: Int64
    partition: Int64
    offset: Int64

    def take(self, at: Int64) -> Own:
        """Of some queries."""
        return Own(self.log, self.k[at], self.partition[at], self.offset[at])


@dataclass(frozen=True)
class Everything:
    """As occurred: no cut by knowledge; of each event its last version."""

    def take(self, at: Int64) -> Everything:
        """Of some queries."""
        return self


EVERYTHING = Everything()
Knowledge = Instants | Vectors | Own | Everything


def log_name(relation: RelationPlan) -> str:
    """The log whose positions a relation's rows carry: its source's, or a join's own."""
    return log_of(relation).name.name


def known_until(knowledge: Knowledge, instants: Int64) -> Knowledge:
    """What each query knows, but nothing that became known after an instant of its own."""
    match knowledge:
        case Instants(a):
            return Instants(np.minimum(a, instants))
        case Own():
            return Instants(np.minimum(knowledge.k, instants))
        case Vectors():
            return knowledge.until(instants)
    return Instants(instants)


@dataclass(frozen=True, eq=False)
class Ranked:
    """Rows and some of the queries on one scale.

    Attributes:
        queries: indices of the queries; None for all.
        until: None when no row is ever superseded.
    """

    queries: Int64 | None
    known_from: Int64
    until: Int64 | None
    a: Int64


def ranks(knowledge: Knowledge, rows: pa.Table, relation: RelationPlan, n_queries: int) -> Iterator[Ranked]:
    """Puts rows and queries on one scale, or on several where position vectors do not form a chain."""
    superseded = KNOWN_UNTIL in rows.column_names
    k = system(rows, KNOWN_TIME)
    until = system(rows, KNOWN_UNTIL) if superseded else None
    match knowledge:
        case Instants(a):
            yield Ranked(None, k, until, a)
        case Everything():
            last = np.full(n_queries, NEVER_US - 1, np.int64)
            added = k == NEVER_US - 1  # self rows of others stay unknown
            yield Ranked(None, np.where(added, NEVER_US, -(2**62)), until, last)
        case Own() if knowledge.log != log_name(relation):
            yield Ranked(None, k, until, knowledge.k)
        case Own():
            yield _own(knowledge, rows, k, until)
        case Vectors():
            yield from _vectors(knowledge, rows, relation, superseded=superseded)


def _own(own: Own, rows: pa.Table, k: Int64, until: Int64 | None) -> Ranked:
    """Dense ranks of places (k, partition, offset); an offset alone where it says the same."""
    partition, offset = system(rows, PARTITION), system(rows, OFFSET)
    ends = np.flatnonzero(until != NEVER_US) if until is not None else np.zeros(0, np.int64)
    end_k = until[ends] if until is not None else np.zeros(0, np.int64)
    end_offset = system(rows, UNTIL_OFFSET)[ends] if until is not None else np.zeros(0, np.int64)
    places = [
        np.concatenate([offset, end_offset, own.offset]),
        np.concatenate([partition, partition[ends], own.partition]),
        np.concatenate([k, end_k, own.k]),
    ]
    order = np.lexsort(places)
    new = np.zeros(len(order), np.bool_)
    for values in places:
        sorted_values = values[order]
        new[1:] |= sorted_values[1:] != sorted_values[:-1]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.cumsum(new)
    n, m = len(k), len(ends)
    kt: Int64 | None = None
    if until is not None:
        kt = np.full(n, NEVER_US, np.int64)
        kt[ends] = rank[n : n + m]
    return Ranked(None, rank[:n], kt, rank[n + m :])


def _vectors(knowledge: Vectors, rows: pa.Table, relation: RelationPlan, *, superseded: bool) -> Iterator[Ranked]:
    base, name = log_of(relation), source_of(relation).name.name
    partition, offset = system(rows, PARTITION), system(rows, OFFSET)
    width = int(partition.max(initial=0)) + 1
    matrix = np.array([[v.get((name, p), 0) for p in range(width)] for v in knowledge.vectors], np.int64)
    matrix = matrix.reshape(len(knowledge.vectors), width)
    bounds = [knowledge.reached(base)] if isinstance(base, JoinPlan) else []
    bounds += [] if knowledge.by is None else [knowledge.by]
    if bounds:
        matrix = np.column_stack([matrix, np.min(bounds, axis=0) + 1])

    def first_known(offset: Int64, k: Int64, places: Int64) -> Int64:
        """The first vector of a chain that covers each row; NEVER where none does."""
        found = np.full(len(offset), NEVER_US, np.int64)
        for p in range(width):
            mine = np.flatnonzero(partition == p)
            found[mine] = _first_above(places[:, p], offset[mine])
        if bounds:
            found = np.maximum(found, _first_above(places[:, width], k))
        return found

    for chain in _chains(matrix):
        places = matrix[chain]
        found = first_known(offset, system(rows, KNOWN_TIME), places)
        until = None
        if superseded:
            until = first_known(system(rows, UNTIL_OFFSET), system(rows, KNOWN_UNTIL), places)
        number = np.full(len(matrix), -1, np.int64)
        number[chain] = np.arange(len(chain))
        a = number[knowledge.index]
        queries = np.flatnonzero(a >= 0)
        yield Ranked(queries, found, until, a[queries])


def _first_above(places: Int64, offsets: Int64) -> Int64:
    """Index of the first position in a rising chain that covers an offset; NEVER where none does."""
    at = np.searchsorted(places, offsets, side="right").astype(np.int64)
    return np.where(at == len(places), NEVER_US, at)


def _chains(matrix: Int64) -> Iterator[Int64]:
    """Indices of the vectors, split into chains along which no position goes back."""
    left = np.lexsort(matrix.T[::-1]) if len(matrix) else np.zeros(0, np.int64)
    while len(left):
        chain, rest = [int(left[0])], list[int]()
        for i in left[1:].tolist():
            (chain if bool((matrix[i] >= matrix[chain[-1]]).all()) else rest).append(i)
        yield np.array(chain, np.int64)
        left = np.array(rest, np.int64)
