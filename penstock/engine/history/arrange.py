"""Rows in the order the kernel wants: by key, then (t, k, ordinal, partition, offset); keys as dense codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.algebra.keys import KeyEncoder
from penstock.engine.history.frame import column, system
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
        self.table, self.keys = table, tuple(keys)
        self._columns: dict[str, pa.Array] = {}

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

    @cached_property
    def t(self) -> Int64:
        """Event times of the arranged rows."""
        return system(self.table, EVENT_TIME)[self.arranged.rows]

    def ordered(self, columns: Iterable[str]) -> pa.Table:
        """Some columns of the arranged rows; at least one, so that the number of rows is kept."""
        at = pa.array(self.arranged.rows)
        for name in (EVENT_TIME, *columns):
            if name not in self._columns:
                self._columns[name] = column(self.table, name).take(at)
        return pa.table({name: self._columns[name] for name in (EVENT_TIME, *columns)})


@dataclass(frozen=True)
class Arrangement:
    """Rows of a table in order.

    Attributes:
        rows: index in the table of each arranged row; rows without a key are left out. `(n,)`.
        codes: their key codes, rising.
        size: rows of the table.
    """

    rows: Int64
    codes: Int64
    size: int

    @cached_property
    def place(self) -> Int64:
        """Where each row of the table stands, -1 for one without a key."""
        found = np.full(self.size, -1, np.int64)
        found[self.rows] = np.arange(len(self.rows), dtype=np.int64)
        return found


def arrange(codes: Int64, table: pa.Table) -> Arrangement:
    """The order of a table's rows by (code, t, k, ordinal, partition, offset)."""
    order = time_order(table)
    ordered = codes if order is None else codes[order]
    n = len(codes)
    bits = max(1, int(n).bit_length())
    packed = ordered << bits
    packed |= np.arange(n, dtype=np.int64)
    if n and int(ordered.min()) < 0:
        packed = packed[ordered >= 0]
    if not _rising(packed):
        packed.sort()
    at = packed & ((1 << bits) - 1)
    packed >>= bits
    return Arrangement(at if order is None else order[at], packed, n)


def time_order(table: pa.Table) -> Int64 | None:
    """The order of a table's rows by (t, k, ordinal, partition, offset); None where they stand in it already.

    Rows that stand in order of arrival, nearly all of them in order of time, cost little more than reading them.
    """
    t = system(table, EVENT_TIME)
    if len(t) < 2:
        return None
    if not _arrived_in_order(table):
        keys = [system(table, name) for name in (OFFSET, PARTITION, ORDINAL, KNOWN_TIME)]
        return np.lexsort((*keys, t))
    newest = np.maximum.accumulate(t)
    late = np.flatnonzero(t < newest)
    if not len(late):
        return None
    if len(late) > len(t) // 4:
        return np.argsort(t, kind="stable")
    return _merge_late(t, late)


def _merge_late(t: Int64, late: Int64) -> Int64:
    """Merges the late rows into the others, which rise; among equal times arrival decides.

    A late row comes after every other row of its time: those came before a greater time did, and it came after that.
    """
    on_time = np.ones(len(t), np.bool_)
    on_time[late] = False
    rest = np.flatnonzero(on_time)
    late = late[np.argsort(t[late], kind="stable")]
    before = np.searchsorted(t[rest], t[late], side="right")
    return np.insert(rest, before, late)


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


def _rising(values: Int64) -> bool:
    return len(values) < 2 or bool((values[1:] > values[:-1]).all())
