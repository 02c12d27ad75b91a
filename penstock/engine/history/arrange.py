"""Rows in the order the kernel wants: by key, then (t, k, ordinal, partition, offset); keys as dense codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.algebra.keys import KeyEncoder
from penstock.algebra.sorting import gather, sort_rows
from penstock.engine.history.frame import column, compact, system, taken
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME, OFFSET, ORDINAL, PARTITION

__all__ = ["NO_KEY", "Arrangement", "KeyedRows", "arrange", "time_order"]

Int64 = NDArray[np.int64]
NO_KEY = -1
"""The code of a key with a null in it, and of one that no row has."""


class KeyedRows:
    """Rows by key, arranged when first needed, for all reads that go to them by one key.

    Codes of keys are dense from 0; `NO_KEY` stands for a key with a null and for a query's key that no row has. Columns
    are never glued together: (1, 11) and (11, 1) are two keys.

    Attributes:
        table: the rows. keys: their key columns.
    """

    def __init__(self, table: pa.Table, keys: Sequence[str]) -> None:
        self.table, self.keys = compact(table), tuple(keys)
        self._columns: dict[str, pa.Array] = {}
        self._ranks: dict[int, tuple[Int64, Int64]] = {}  # holds its memory, so that the place stays its own

    @cached_property
    def _encoded(self) -> tuple[KeyEncoder, Int64]:
        encoder = KeyEncoder()
        return encoder, encoder.encode([column(self.table, name) for name in self.keys])

    @property
    def codes(self) -> Int64:
        """The key code of each row of the table."""
        return self._encoded[1]

    def asked(self, keys: Sequence[pa.Array]) -> Int64:
        """The codes of queries' keys, one array per key column."""
        kinds = [self.table.schema.field(name).type for name in self.keys]
        alike = [key if key.type == kind else key.cast(kind) for key, kind in zip(keys, kinds, strict=True)]
        return self._encoded[0].encode(alike, add=False)

    @cached_property
    def arranged(self) -> Arrangement:
        """The order of the rows by (code, t, k, ordinal, partition, offset)."""
        return arrange(self.codes, self.table)

    @property
    def t(self) -> Int64:
        """Event times of the arranged rows."""
        return self.arranged.t

    def ordered_ranks(self, ranks: Int64) -> Int64:
        """Ranks of the table's rows, for the arranged rows; the last two are kept, for reads that know alike."""
        place = ranks.ctypes.data
        if place not in self._ranks:
            if len(self._ranks) == 2:
                self._ranks.clear()
            self._ranks[place] = ranks, gather(ranks, self.arranged.rows)
        return self._ranks[place][1]

    def ordered(self, columns: Iterable[str]) -> pa.Table:
        """Some columns of the arranged rows; at least one, so that the number of rows is kept."""
        if not self._columns:
            self._columns[EVENT_TIME] = pa.array(self.arranged.t)
        for name in columns:
            if name not in self._columns:
                self._columns[name] = taken(column(self.table, name), self.arranged.rows)
        return pa.table({name: self._columns[name] for name in (EVENT_TIME, *columns)})


@dataclass(frozen=True)
class Arrangement:
    """Rows of a table in order.

    Attributes:
        rows: index in the table of each arranged row; rows without a key are left out. `(n,)`.
        codes: their key codes, rising. t: their event times.
        size: rows of the table.
    """

    rows: Int64
    codes: Int64
    t: Int64
    size: int

    @cached_property
    def place(self) -> Int64:
        """Where each row of the table stands, -1 for one without a key."""
        found = np.full(self.size, -1, np.int64)
        found[self.rows] = np.arange(len(self.rows), dtype=np.int64)
        return found


def arrange(codes: Int64, table: pa.Table) -> Arrangement:
    """The order of a table's rows by (code, t, k, ordinal, partition, offset)."""
    t, before = system(table, EVENT_TIME), _arrival(table)
    if before is not None:
        codes, t = gather(codes, before), gather(t, before)
    lacking = len(codes) > 0 and int(codes.min()) < 0
    found = sort_rows(codes + 1 if lacking else codes, t)
    first = int(found.start[1]) if lacking else 0
    order = found.order[first:]
    rows = order if before is None else gather(before, order)
    start = found.start[1:] if lacking else found.start
    rising = np.repeat(np.arange(len(start) - 1), np.diff(start))
    return Arrangement(rows, rising, found.t[first:], len(codes))


def _arrival(table: pa.Table) -> Int64 | None:
    """The order of a table's rows by (k, ordinal, partition, offset); None where they stand in it already."""
    if table.num_rows < 2 or _arrived_in_order(table):
        return None
    return np.lexsort([system(table, name) for name in (OFFSET, PARTITION, ORDINAL, KNOWN_TIME)])


def time_order(table: pa.Table) -> Int64:
    """The order of a table's rows by (t, k, ordinal, partition, offset)."""
    return np.lexsort([system(table, name) for name in (OFFSET, PARTITION, ORDINAL, KNOWN_TIME, EVENT_TIME)])


def _arrived_in_order(table: pa.Table) -> bool:
    """Whether rows rise by (k, ordinal, partition, offset)."""
    n = max(0, table.num_rows - 1)
    later, equal = np.zeros(n, np.bool_), np.ones(n, np.bool_)
    for name in (KNOWN_TIME, ORDINAL, PARTITION, OFFSET):
        if name in (ORDINAL, PARTITION) and name not in table.column_names:
            continue
        values = system(table, name)
        more, same = values[1:] > values[:-1], values[1:] == values[:-1]
        later, equal = later | (equal & more), equal & same
        if bool(later.all()):
            return True
        if not bool((later | equal).all()):
            return False
    return True
