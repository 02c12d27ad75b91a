"""Derived rows made to say what they would say had the erased rows never been: history is asked for them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.doors.replay_check import same
from penstock.semantics.columns import KNOWN_TIME, OFFSET, OP, OP_DELETE, PARTITION
from penstock.store.log.interface import Changed

__all__ = ["PLACE", "Expected"]

PLACE: Final = (KNOWN_TIME, PARTITION, OFFSET)
"""What tells one row of a derived topic from another."""

Int64s = NDArray[np.int64]


class Expected:
    """What the rows of a derived topic are, by their place.

    Args:
        rows: what history says of the relation.
        names: the columns that are compared.
        until_us: rows known later are left as they are: they were made after the erasure.
    """

    def __init__(self, rows: pa.Table, names: Sequence[str], until_us: int) -> None:
        rows = rows.combine_chunks()
        self._until_us, self._names = until_us, list(names)
        self._at = {place: i for i, place in enumerate(zip(*_places(rows), strict=True))}
        self._columns = {name: rows.column(name) for name in names}

    def __call__(self, rows: pa.RecordBatch) -> Changed | None:
        """Which of a topic's rows stay, and their values."""
        places = list(zip(*_places(rows), strict=True))
        at = np.array([self._at.get(place, -1) for place in places], np.int64)
        late = rows.column(KNOWN_TIME).to_numpy() > self._until_us
        deletes = rows.column(OP).to_numpy() == OP_DELETE
        keep = (at >= 0) | late | deletes
        differs, values = np.zeros(len(at), np.bool_), list[Any]()
        ours = np.flatnonzero((at >= 0) & ~late & ~deletes)
        for name in self._names:
            given, told = rows.column(name).to_pylist(), self._columns[name].take(pa.array(at[ours])).to_pylist()
            for i, value in zip(ours.tolist(), told, strict=True):
                if not same(given[i], value):
                    given[i], differs[i] = value, True
            values.append(pa.array(given, rows.schema.field(name).type))
        if keep.all() and not differs.any():
            return None
        return Changed(keep, differs, pa.RecordBatch.from_arrays(values, names=self._names))


def _places(rows: pa.Table | pa.RecordBatch) -> list[list[int]]:
    return [rows.column(name).to_pylist() for name in PLACE]
