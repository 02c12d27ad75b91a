"""What an online read answers: columns, statuses and ages, and everything needed to ask history the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.engine.history.answers import Status

__all__ = ["Answers"]

_WORDS = [status.name.lower() for status in Status]


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers in the order of the requests.

    Attributes:
        columns: by name.
        statuses: by name, a `Status` per answer; of columns that were read.
        age_us: by group or read (by its first column where several reads share a relation): of an as-of read, how old
            the row is at `q`; of a group, how far `q` lies after what the state knows.
        q_us: the one instant of all answers.
        known_us: every row known at or before it counts, and no other.
        batch: of the live job. positions: of each source, the offset before which rows count, for each partition.
        fingerprint: of the view or group asked.
    """

    columns: Mapping[str, pa.Array]
    statuses: Mapping[str, npt.NDArray[np.uint8]]
    age_us: Mapping[str, npt.NDArray[np.int64]]
    q_us: int
    known_us: int
    batch: int
    positions: Mapping[str, list[int]]
    fingerprint: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def table(self, *, statuses: bool = False) -> pa.Table:
        """The columns; with `statuses`, after each column that was read, `{column}:status` with its word."""
        made: dict[str, Any] = {}
        for name, values in self.columns.items():
            made[name] = values
            if statuses and name in self.statuses:
                made[f"{name}:status"] = self.words(name)
        return pa.table(made)

    def words(self, column: str) -> pa.Array:
        """The statuses of a column as words."""
        return pa.array([_WORDS[code] for code in self.statuses[column].tolist()], pa.string())

    def rows(self) -> list[dict[str, Any]]:
        """Plain values, a mapping per request."""
        found: list[dict[str, Any]] = self.table().to_pylist()
        return found
