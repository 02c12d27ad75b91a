"""Answers to queries: columns with, for each value, why it is null or empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Answer", "Status"]


class Status(IntEnum):
    """What a value says of itself."""

    OK = 0
    EMPTY = 1  # nothing in the window, or nothing that was not null
    OVERFLOW = 2
    LIMIT = 3  # more different values than the aggregate may hold
    UNSEEN = 4  # no row of this key counts in any window
    STALE = 5
    DELETED = 6


Statuses = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Answer:
    """Columns in the order of the queries, and a status per value.

    Attributes:
        columns: by name. statuses: by name; columns without one are always OK.
    """

    columns: Mapping[str, pa.Array]
    statuses: Mapping[str, Statuses]

    def table(self) -> pa.Table:
        """The columns."""
        return pa.table(dict(self.columns))

    def status_table(self) -> pa.Table:
        """The statuses by the names of their columns, as text."""
        names = pa.array([s.name.lower() for s in Status])
        return pa.table(
            {
                name: pa.DictionaryArray.from_arrays(pa.array(status), names).dictionary_decode()
                for name, status in self.statuses.items()
            }
        )

    def renamed(self, names: Mapping[str, str]) -> Answer:
        """Some of the columns under other names, in the order of `names` (old to new)."""
        return Answer(
            {new: self.columns[old] for old, new in names.items()},
            {new: self.statuses[old] for old, new in names.items() if old in self.statuses},
        )

    @classmethod
    def scattered(cls, parts: Sequence[tuple[NDArray[np.int64], Answer]], n: int) -> Answer:
        """One answer from the answers to disjoint sets of queries; `n` in all."""
        if len(parts) == 1 and len(parts[0][0]) == n and bool((np.diff(parts[0][0]) == 1).all()):
            return parts[0][1]
        places = np.concatenate([at for at, _ in parts])
        order = np.empty(n, np.int64)
        order[places] = np.arange(n)
        names = list(parts[0][1].columns)
        columns = {
            name: pa.concat_arrays([part.columns[name] for _, part in parts]).take(pa.array(order)) for name in names
        }
        statuses = {
            name: np.concatenate([part.statuses[name] for _, part in parts])[order] for name in parts[0][1].statuses
        }
        return cls(columns, statuses)
