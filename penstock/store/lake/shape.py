"""Shapes of rows in the lake: types that Delta has, columns brought into a table's schema, values as SQL."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import DataError, nearest

__all__ = ["cast", "fitted", "literal", "matching", "quoted", "same_columns", "storable"]

_SIGNED: Final = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}


def storable(schema: pa.Schema, table: str) -> pa.Schema:
    """The schema in types that Delta has, all columns nullable.

    Raises:
        DataError: a type that no Delta type holds.
    """
    fields = []
    for field in schema:
        kind = _SIGNED.get(field.type, field.type)
        if pa.types.is_uint64(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind) or pa.types.is_null(kind):
            raise DataError(
                f"column {field.name} of table {table} has a type that Delta has",
                found=str(kind),
                remedy="store it as int64, decimal128(20, 0) or text",
            )
        if pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", kind.tz and "UTC")
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def same_columns(one: pa.Schema, other: pa.Schema) -> bool:
    """Whether names and types are the same, however the items of lists are called."""
    return one.names == other.names and all(
        str(a.type).replace("element", "item") == str(b.type).replace("element", "item")
        for a, b in zip(one, other, strict=True)
    )


def fitted(
    rows: pa.RecordBatch | pa.Table | Callable[[], pa.RecordBatchReader], schema: pa.Schema, table: str
) -> pa.Table | pa.RecordBatchReader:
    """Rows with exactly the table's columns."""
    if isinstance(rows, (pa.RecordBatch, pa.Table)):
        _check_columns(rows.schema, schema, table)
        whole = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        return pa.Table.from_batches([cast(batch, schema) for batch in whole.to_batches()], schema=schema)
    reader = rows()
    _check_columns(reader.schema, schema, table)
    return pa.RecordBatchReader.from_batches(schema, (cast(batch, schema) for batch in reader))


def _check_columns(given: pa.Schema, schema: pa.Schema, table: str) -> None:
    for name in given.names:
        if name not in schema.names:
            raise DataError(f"a column of table {table}", found=repr(name), remedy=nearest(name, schema.names))


def cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in a schema; columns it lacks are null.

    Raises:
        DataError: a value does not fit.
    """
    columns = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            columns.append(pa.nulls(len(batch), field.type))
            continue
        column = batch.column(index)
        try:
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"column {field.name} fits {field.type}", found=str(error)[:300], remedy="convert it first"
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def matching(
    where: Mapping[str, Any] | None, between: Mapping[str, tuple[Any, Any]] | None, schema: pa.Schema
) -> pc.Expression | None:
    """A filter: each column of `where` equals its value, each of `between` lies in [first, last)."""

    def typed(name: str, value: Any) -> pa.Scalar:
        return pa.scalar(value, schema.field(name).type)

    conditions = [pc.field(name) == typed(name, value) for name, value in (where or {}).items()]
    for name, (first, last) in (between or {}).items():
        conditions += [pc.field(name) >= typed(name, first), pc.field(name) < typed(name, last)]
    return functools.reduce(operator.and_, conditions) if conditions else None


def quoted(name: str) -> str:
    """A column name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """A value as SQL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"'{value.isoformat()}'" if hasattr(value, "isoformat") else f"'{value}'"
