"""Rows, queries and answers as flat arrays: what the engines hand to the algebra and take back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.algebra.monoids import Status

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Column", "Queries", "Rows"]

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows sorted by (key, t, known_from, rest of the order); arrays of n rows.

    Attributes:
        key: codes from 0 up, without gaps where possible (memory is taken per code).
        known_until: None when no row was ever superseded; NEVER_US for rows that were not.
        values: per slot, int64, float64 or, of decimals, (n, 2) uint64 (low, high half of 128 bits); bools as uint8;
            None for a slot that no measure reads.
        valid: per slot, which are not null; None: all.
        dictionaries: per CODE slot, the Arrow array that its codes index; None: codes are left as they are.
    """

    key: Int64s
    t: Int64s
    known_from: Int64s
    values: Sequence[npt.NDArray[Any] | None]
    valid: Sequence[npt.NDArray[np.bool_] | None]
    known_until: Int64s | None = None
    dictionaries: Sequence[pa.Array | None] | None = None


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries in any order; answers come in the same order. Fastest when sorted by (key, q).

    Attributes:
        key: codes as in `Rows.key`; -1 for a key that has no rows.
        a: knowledge rank: rows with known_from <= a < known_until count.
        self_row: index into the rows of the row that counts whatever its known time, or -1; None: none.
    """

    key: Int64s
    q: Int64s
    a: Int64s
    self_row: Int64s | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One output: values and, per value, a `Status`; `valid` says where the value is not null.

    `values` is int64, float64, (n, 2) uint64 for decimals, or an Arrow array for lists, maps and decoded codes.
    """

    values: Any
    status: npt.NDArray[np.uint8]

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Where the value is not null."""
        valid: npt.NDArray[np.bool_] = (self.status == Status.OK.value) | (self.status == Status.ZERO.value)
        return valid
