"""Rows in the order the kernel wants: by key, then (t, k, ordinal, partition, offset); keys as dense codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.algebra.keys import KeyEncoder
from penstock.engine.history.frame import system
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME, OFFSET, ORDINAL, PARTITION

__all__ = ["NO_KEY", "Arrangement", "arrange", "encode", "time_order"]

Int64 = NDArray[np.int64]
NO_KEY = -1
"""The code of a key with a null in it, and of one that no row has."""


def encode(rows: Sequence[pa.Array], queries: Sequence[pa.Array]) -> tuple[Int64, Int64]:
    """Codes of the keys of rows and of queries, equal where the keys are: dense from 0.

    A key with a null, and the key of a query that no row has, has the code `NO_KEY`. Columns are never glued together:
    (1, 11) and (11, 1) are two keys.

    Args:
        rows, queries: one array per key column, of the same types.
    """
    encoder = KeyEncoder()
    codes = encoder.encode(rows)
    return codes, encoder.encode(queries, add=False)


@dataclass(frozen=True)
class Arrangement:
    """Rows of a table in order.

    Attributes:
        rows: index in the table of each arranged row; rows without a key are left out. `(n,)`.
        codes: their key codes, rising.
        place: where each row of the table stands, -1 for one without a key.
    """

    rows: Int64
    codes: Int64
    place: Int64


def arrange(codes: Int64, table: pa.Table) -> Arrangement:
    """The order of a table's rows by (code, t, k, ordinal, partition, offset)."""
    order = time_order(table)
    ordered = codes if order is None else codes[order]
    n = len(codes)
    bits = max(1, int(n).bit_length())
    packed = (ordered << bits) | np.arange(n, dtype=np.int64)
    if n and int(ordered.min()) < 0:
        packed = packed[ordered >= 0]
    if not _rising(packed):
        packed = np.sort(packed)
    at = packed & ((1 << bits) - 1)
    rows = at if order is None else order[at]
    place = np.full(n, -1, np.int64)
    place[rows] = np.arange(len(rows), dtype=np.int64)
    return Arrangement(rows, packed >> bits, place)


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
