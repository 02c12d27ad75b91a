"""Rows in flight: one interval of known time of one relation, in the order in which the job applies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, OFFSET, OP, OP_DELETE, PARTITION

__all__ = ["OP_DROP", "Frame", "Origin", "int64s", "set_column", "set_columns"]

OP_DROP: Final = 3
"""Inside the job: the version does not pass a filter, and hides what it corrects."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Origin:
    """The log that a relation's rows come from: a source, or a join.

    Attributes:
        name: positions and ranks are this log's.
        corrected: whether rows of one id are versions; horizon_us: how long, None for ever.
        table: whether deletes are rows of their own, that say from when on a key is gone.
    """

    name: str
    corrected: bool
    horizon_us: int | None
    table: bool = False

    @property
    def settles(self) -> bool:
        """Whether a row is beyond correction some time."""
        return not self.corrected or self.horizon_us is not None


@dataclass(frozen=True, eq=False)
class Frame:
    """Rows of a relation with `known > former frontier` and `<= frontier`, by (k, partition, offset).

    Attributes:
        batch: system columns, then the relation's.
        rank: of each row among all of its log, rising strictly and never below k.
    """

    batch: pa.RecordBatch
    rank: Int64s
    origin: Origin

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @property
    def t(self) -> Int64s:
        """Event times."""
        return int64s(self.batch, EVENT_TIME)

    @property
    def known(self) -> Int64s:
        """Known times."""
        return int64s(self.batch, KNOWN_TIME)

    @property
    def op(self) -> npt.NDArray[np.int8]:
        """What each row does."""
        found: npt.NDArray[np.int8] = self.batch.column(OP).to_numpy()
        return found

    @property
    def partition(self) -> npt.NDArray[np.int32]:
        """Origin partitions."""
        found: npt.NDArray[np.int32] = self.batch.column(PARTITION).to_numpy()
        return found

    @property
    def offset(self) -> Int64s:
        """Origin offsets."""
        return int64s(self.batch, OFFSET)

    @property
    def ids(self) -> pa.Array:
        """Event ids."""
        return self.batch.column(ID)

    @property
    def stands(self) -> npt.NDArray[np.bool_]:
        """Rows that are neither deletes nor left out by a filter."""
        stands: npt.NDArray[np.bool_] = self.op < OP_DELETE
        return stands

    def with_batch(self, batch: pa.RecordBatch) -> Frame:
        """The same rows with other columns."""
        return replace(self, batch=batch)

    def take(self, keep: npt.NDArray[np.bool_]) -> Frame:
        """Some of the rows."""
        return replace(self, batch=self.batch.filter(pa.array(keep)), rank=self.rank[keep])


def int64s(batch: pa.RecordBatch, name: str) -> Int64s:
    """A column of integers without nulls."""
    found: Int64s = batch.column(name).to_numpy()
    return found


def set_column(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    """The batch with a column replaced, or added at the end."""
    return set_columns(batch, {name: values})


def set_columns(batch: pa.RecordBatch, values: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The batch with columns replaced, or added at the end."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True)) | dict(values)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
