"""Requests as they come in: mappings or Arrow, checked against what is asked for, as one record batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from penstock.errors import DataError, nearest
from penstock.plan.expr.types import Column, Schema

__all__ = ["Requests", "plain_value", "request_batch", "scalar_columns"]

Requests: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]] | pa.Table | pa.RecordBatch


def request_batch(requests: Requests, schema: Schema, optional: Schema, what: str) -> pa.RecordBatch:
    """One row per request, with the columns of `schema`, and those of `optional` that the requests bring.

    Instants are datetimes or int64 microseconds.

    Raises:
        DataError: a column is missing, unknown, or of another type; null where it may not be.
    """
    if isinstance(requests, Mapping):
        requests = [requests]
    if isinstance(requests, pa.Table | pa.RecordBatch):
        return _from_arrow(requests, schema, optional, what)
    known = {**schema, **optional}
    for request in requests:
        if request.keys() != schema.keys():
            _check_names(request, schema, known, what)
    brought = [c for c in optional.columns if any(c.name in request for request in requests)]
    columns = {c.name: _column([r.get(c.name) for r in requests], c, what) for c in (*schema.columns, *brought)}
    return _batch(columns, len(requests))


def scalar_columns(
    keys: Sequence[Any], names: Sequence[str], types: Sequence[pa.DataType], what: str
) -> pa.RecordBatch:
    """Keys given part by part, each a value or a sequence of values, as one row per key.

    Raises:
        DataError: another number of parts, or parts of different lengths or of another type.
    """
    if len(keys) != len(names):
        raise DataError(
            f"{what} is read by {', '.join(names)}",
            found=f"{len(keys)} parts",
            remedy="give one value or list per part",
        )
    made = []
    for given, name, kind in zip(keys, names, types, strict=True):
        part = given.combine_chunks() if isinstance(given, pa.ChunkedArray) else given
        if isinstance(part, pa.Array):
            made.append(_as_type(part, kind, name, what))
            continue
        values = list(part) if isinstance(part, Sequence) and not isinstance(part, str | bytes) else [part]
        made.append(_values(values, kind, name, what))
    if len({len(part) for part in made}) > 1:
        raise DataError(
            f"{what}: all parts of the key have one length",
            found=", ".join(str(len(part)) for part in made),
            remedy="give as many values of each part",
        )
    return pa.RecordBatch.from_arrays(made, names=list(names))


def plain_value(value: Any, column: Column, what: str) -> Any:
    """A value of a request of one row, for which no Arrow is made where it is an int, float, truth or text.

    Raises:
        DataError: it is of another type, or null where it may not be.
    """
    given = type(value)
    if given is _GIVEN.get(column.type.name) and (given is not int or _LEAST <= value <= _GREATEST):
        return value
    return _column([value], column, what)[0].as_py()


_GIVEN = {"int": int, "float": float, "bool": bool, "text": str}
_LEAST, _GREATEST = -(2**63), 2**63 - 1


def _from_arrow(requests: pa.Table | pa.RecordBatch, schema: Schema, optional: Schema, what: str) -> pa.RecordBatch:
    names = dict.fromkeys(requests.schema.names)
    known = {**schema, **optional}
    _check_names(names, schema, known, what)
    columns = {}
    for name in (*schema.names, *(n for n in optional.names if n in names)):
        values = requests.column(name)
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        columns[name] = _as_type(values, known[name].type.arrow, name, what)
        _refuse_null(columns[name], known[name], what)
    return _batch(columns, requests.num_rows)


def _batch(columns: Mapping[str, pa.Array], n: int) -> pa.RecordBatch:
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * n, pa.struct([])))
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _check_names(given: Mapping[str, Any], schema: Schema, known: Mapping[str, Any], what: str) -> None:
    missing = [name for name in schema if name not in given]
    if missing:
        raise DataError(
            f"a request of {what} brings {', '.join(schema)}",
            found=f"no {missing[0]}" if given else "nothing",
            remedy=f"give {missing[0]}, null where it is not known",
        )
    for name in given:
        if name not in known:
            raise DataError(
                f"a request of {what} brings {', '.join(schema)}", found=repr(name), remedy=nearest(name, known)
            )


def _column(values: list[Any], column: Column, what: str) -> pa.Array:
    made = _values(values, column.type.arrow, column.name, what)
    _refuse_null(made, column, what)
    return made


def _refuse_null(values: pa.Array, column: Column, what: str) -> None:
    if values.null_count and not column.nullable:
        raise DataError(
            f"{what}: {column.name} is not null",
            found="null",
            remedy=f'declare it nullable: {column.name}="{column.type}?"',
        )


def _values(values: list[Any], kind: pa.DataType, name: str, what: str) -> pa.Array:
    wrong: Any = None
    if not pa.types.is_boolean(kind):
        wrong = next((value for value in values if isinstance(value, bool)), None)
    if wrong is None:
        try:
            return pa.array(values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError):
            wrong = next((v for v in values if not _fits(v, kind)), values[0] if values else None)
    raise DataError(f"{what}: {name} is {kind}", found=repr(wrong), remedy=f"give a {kind}")


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError):
        return False
    return True


def _as_type(values: pa.Array, kind: pa.DataType, name: str, what: str) -> pa.Array:
    if values.type == kind:
        return values
    same = pa.types.is_null(values.type) or pa.types.is_dictionary(values.type)
    for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_timestamp, _is_text):
        same |= bool(test(values.type) and test(kind))
    same |= pa.types.is_integer(values.type) and (pa.types.is_floating(kind) or pa.types.is_timestamp(kind))
    if same:
        try:
            return values.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"{what}: {name} is {kind}", found=str(error), remedy=f"give a {kind}") from None
    raise DataError(f"{what}: {name} is {kind}", found=str(values.type), remedy=f"give a {kind}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
