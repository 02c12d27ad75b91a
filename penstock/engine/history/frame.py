"""Rows in flight inside the history engine: Arrow tables with the system columns they need, and no others.

A system column that is left out has its usual value in every row: partition, ordinal and op 0, no id, never superseded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.algebra.sorting import gather as gather_words
from penstock.semantics.columns import (
    APPENDED_AT,
    EVENT_TIME,
    ID,
    KNOWN_TIME,
    KNOWN_UNTIL,
    NEVER_US,
    OFFSET,
    OP,
    OP_INSERT,
    ORDINAL,
    PARTITION,
    is_system_column,
    system_type,
)

__all__ = [
    "CHUNK_ROWS",
    "EVENT",
    "UNTIL_OFFSET",
    "chunks",
    "column",
    "compact",
    "drop_defaults",
    "full",
    "gather",
    "instants_us",
    "int64",
    "is_words",
    "replace_column",
    "system",
    "taken",
    "taken_table",
    "user_columns",
    "words_of",
]

CHUNK_ROWS: Final = 1 << 20
UNTIL_OFFSET: Final = "_until_offset"
"""The offset of the version that ends this one, `NEVER_US` where there is none; in the same partition."""

EVENT: Final = "_event"
"""Of a corrected stream: the offset of the first version of the row's event; -1 for a row that is in no log."""

Int64 = NDArray[np.int64]

_DEFAULTS: Final[Mapping[str, Any]] = {
    ORDINAL: 0,
    PARTITION: 0,
    ID: None,
    OP: OP_INSERT,
    KNOWN_UNTIL: NEVER_US,
    UNTIL_OFFSET: NEVER_US,
    EVENT: -1,
}


def int64(values: pa.Array | pa.ChunkedArray) -> Int64:
    """Integers, instants or durations without nulls as int64."""
    if isinstance(values, pa.ChunkedArray):
        values = _one_piece(values)
    if values.type != pa.int64():
        values = values.cast(pa.int64())
    found: Int64 = values.to_numpy(zero_copy_only=False)
    return found


def system(table: pa.Table, name: str) -> Int64:
    """A system column of numbers as int64, its default where it is left out."""
    if name in table.column_names:
        return int64(table.column(name))
    return np.full(table.num_rows, _DEFAULTS[name], np.int64)


def gather(values: Int64, at: Int64, default: int = -1) -> Int64:
    """`values[at]`, and the default where `at` is below 0."""
    if not len(values):
        return np.full(len(at), default, np.int64)
    found: Int64 = np.where(at >= 0, values[np.maximum(at, 0)], default)
    return found


def taken(values: pa.Array, at: Int64) -> pa.Array:
    """`values` at places, none below 0."""
    if not len(values) or not is_words(values):
        return values.take(pa.array(at))
    return pa.Array.from_buffers(values.type, len(at), [None, pa.py_buffer(gather_words(words_of(values), at))])


def is_words(values: pa.Array | pa.ChunkedArray) -> bool:
    """Whether values are 64 bits each, none of them null."""
    kind = values.type
    wide = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)
    return bool(wide and kind.bit_width == 64 and not values.null_count)


def words_of(values: pa.Array) -> Int64:
    """The bits of such values."""
    if not len(values):
        return np.empty(0, np.int64)
    return np.frombuffer(values.buffers()[1], np.int64, len(values), 8 * values.offset)


def taken_table(table: pa.Table, at: Int64) -> pa.Table:
    """The rows of a table at places, none below 0."""
    columns = [taken(column(table, name), at) for name in table.column_names]
    return pa.Table.from_arrays(columns, schema=table.schema)


def instants_us(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Instants of any unit, or int64 microseconds, as int64 microseconds; nulls stay.

    Local timestamps count as UTC.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
    return values.cast(pa.int64())


def column(table: pa.Table, name: str) -> pa.Array:
    """A column in one piece."""
    return _one_piece(table.column(name))


def compact(table: pa.Table) -> pa.Table:
    """The table with each column in one piece."""
    return pa.Table.from_arrays([column(table, name) for name in table.column_names], schema=table.schema)


def _one_piece(values: pa.ChunkedArray) -> pa.Array:
    filled = [chunk for chunk in values.chunks if len(chunk)]
    return filled[0] if len(filled) == 1 else values.combine_chunks()


def replace_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The table with a column set, in its place or at the end."""
    at = table.schema.get_field_index(name)
    return table.append_column(name, values) if at < 0 else table.set_column(at, name, values)


def user_columns(table: pa.Table) -> list[str]:
    """The names of the columns that are not the platform's."""
    return [name for name in table.column_names if not is_system_column(name)]


def drop_defaults(table: pa.Table) -> pa.Table:
    """The table without the system columns that hold their default in every row."""
    for name, default in _DEFAULTS.items():
        if name not in table.column_names:
            continue
        values = table.column(name)
        if default is None:
            usual = values.null_count == len(values)
        else:
            found = pc.min_max(values)
            usual = len(values) == 0 or (found["min"].as_py() == default == found["max"].as_py())
        if usual:
            table = table.drop_columns([name])
    return table


def full(table: pa.Table) -> pa.Table:
    """All system columns in their order, `_known_until` included, then the user's."""
    columns: dict[str, Any] = {}
    for name in (EVENT_TIME, KNOWN_TIME, APPENDED_AT, ORDINAL, PARTITION, OFFSET, ID, OP, KNOWN_UNTIL):
        if name in table.column_names:
            columns[name] = table.column(name).cast(system_type(name))
        elif name == APPENDED_AT:
            columns[name] = table.column(KNOWN_TIME)
        else:
            columns[name] = pa.repeat(pa.scalar(_DEFAULTS[name], system_type(name)), table.num_rows)
    columns.update((name, table.column(name)) for name in user_columns(table))
    return pa.table(columns)


def chunks(tables: Iterable[pa.Table], rows: int = CHUNK_ROWS) -> Iterator[pa.Table]:
    """Tables cut into pieces of at most `rows`; an empty table is one piece."""
    for table in tables:
        for first in range(0, max(1, table.num_rows), rows):
            yield table.slice(first, rows)
