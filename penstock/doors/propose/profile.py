"""What a sample shows of each column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from penstock.doors.sources.texts import infer_type

__all__ = ["ColumnProfile", "profile", "words"]

_SPLIT: Final = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")


def words(name: str) -> tuple[str, ...]:
    """The words of a column's name, in lower case.

    >>> words("InvoiceDate"), words("EVENT_TIMESTAMP")
    (('invoice', 'date'), ('event', 'timestamp'))
    """
    return tuple(w.lower() for w in _SPLIT.split(name) if w)


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a sample.

    Attributes:
        type: its type; texts that are all times have a type of time.
        rows, nulls, distinct: counts; `distinct` is of the values that are not null.
        counted_up: its values are 0, 1, 2... or 1, 2, 3... in the order of the rows.
        low, high: least and greatest value of a number or a time.
    """

    name: str
    type: pa.DataType
    values: pa.ChunkedArray
    rows: int
    nulls: int
    distinct: int
    counted_up: bool
    low: Any = None
    high: Any = None

    @property
    def unique(self) -> bool:
        """Whether no value occurs twice and none is null."""
        return self.nulls == 0 and self.distinct == self.rows and self.rows > 1

    @property
    def is_time(self) -> bool:
        """Whether it holds instants or local times."""
        return bool(pa.types.is_timestamp(self.type))

    @property
    def is_date(self) -> bool:
        """Whether it holds days."""
        return bool(pa.types.is_date(self.type))

    @property
    def can_be_key(self) -> bool:
        """Whether its type is one that keys have."""
        is_text = pa.types.is_string(self.type) or pa.types.is_large_string(self.type)
        return is_text or bool(pa.types.is_integer(self.type))

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its name."""
        return words(self.name)


def profile(sample: pa.Table) -> list[ColumnProfile]:
    """The columns of a sample, in order."""
    return [_column(name, sample.column(name)) for name in sample.column_names]


def _column(name: str, values: pa.ChunkedArray) -> ColumnProfile:
    kind = values.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        values = values.cast(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        told = infer_type(values.cast(pa.string()))
        if pa.types.is_timestamp(told) or pa.types.is_date(told):
            kind = told
            values = values.cast(pa.string()).cast(told)
    nested = pa.types.is_nested(kind)
    low = high = None
    if not nested and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)):
        bounds = pc.min_max(values).as_py()
        low, high = bounds["min"], bounds["max"]
    return ColumnProfile(
        name,
        kind,
        values,
        len(values),
        values.null_count,
        0 if nested else pc.count_distinct(values, mode="only_valid").as_py(),
        _counted_up(values, kind),
        low,
        high,
    )


def _counted_up(values: pa.ChunkedArray, kind: pa.DataType) -> bool:
    if not pa.types.is_integer(kind) or values.null_count or len(values) < 2 or values[0].as_py() not in (0, 1):
        return False
    steps = pc.pairwise_diff(values.cast(pa.int64()).combine_chunks())
    return bool(pc.all(pc.equal(steps.slice(1), 1)).as_py())
