"""NDJSON: one JSON object per line; resumed at a byte, every error with its line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.json as pajson

from penstock.doors.sources.texts import infer_type, parse_texts
from penstock.errors import DataError

__all__ = ["read_ndjson", "read_ndjson_schema"]

_BLOCK_BYTES: Final = 1 << 20
_WHITE: Final = b" \t\r\n"


def read_ndjson_schema(file: IO[bytes], path: str) -> pa.Schema:
    """The columns that occur in the first MiB; texts that are all times become times.

    Raises:
        DataError: a line is no JSON object, or a field is of several types.
    """
    block = _block(file, path)
    if not block.strip(_WHITE):
        raise DataError("an NDJSON file has a line", found="an empty file", remedy="write one", where=path)
    table = _parse(block, path, 0, None)
    fields = []
    for name in table.column_names:
        column = table.column(name)
        kind = column.type
        if pa.types.is_string(kind):
            told = infer_type(column)
            kind = told if pa.types.is_timestamp(told) or pa.types.is_date(told) else kind
        elif pa.types.is_timestamp(kind):  # Arrow takes texts for times, and leaves out their zone
            texts = _parse(block, path, 0, pa.schema([pa.field(name, pa.string())]))
            kind = infer_type(texts.column(name))
        elif pa.types.is_null(kind):
            kind = pa.string()
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def read_ndjson(
    file: IO[bytes], path: str, schema: pa.Schema, at: int, batch_rows: int
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches from byte `at` on, each with the byte after it; blank lines are passed over.

    Raises:
        DataError: a line is no JSON object, or a value is not of its column's type.
    """
    file.seek(at)
    while block := _block(file, path):
        mark = at
        at += len(block)
        lines = block.splitlines(keepends=True)
        for start in range(0, len(lines), batch_rows):
            part = b"".join(lines[start : start + batch_rows])
            if part.strip(_WHITE):
                batch = _typed(part, path, file, mark, schema)
                mark += len(part)
                yield batch, mark
            else:
                mark += len(part)


def _block(file: IO[bytes], path: str) -> bytes:
    """About a MiB of whole lines; an unended last line counts as whole."""
    block = file.read(_BLOCK_BYTES)
    if len(block) == _BLOCK_BYTES and not block.endswith(b"\n"):
        rest = file.readline(64 * _BLOCK_BYTES)
        if len(rest) == 64 * _BLOCK_BYTES:
            raise DataError("a line of NDJSON is at most 64 MiB", found="a longer one", remedy="cut it", where=path)
        block += rest
    return block


def _read_schema(schema: pa.Schema) -> pa.Schema:
    """What Arrow parses at once; the rest comes as text."""
    direct = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_nested)
    return pa.schema([f if any(is_(f.type) for is_ in direct) else pa.field(f.name, pa.string()) for f in schema])


def _parse(block: bytes, path: str, first_line: int, schema: pa.Schema | None) -> pa.Table:
    options = pajson.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
    )
    size = max(len(block) + 1, 1024)
    try:
        return pajson.read_json(io.BytesIO(block), pajson.ReadOptions(use_threads=False, block_size=size), options)
    except pa.ArrowInvalid as error:
        raise _wrong_line(block, path, first_line, schema, error) from error


def _wrong_line(
    block: bytes, path: str, first_line: int, schema: pa.Schema | None, error: pa.ArrowInvalid
) -> DataError:
    """Finds the first line at fault by parsing line by line."""
    kinds: dict[str, type] = {}
    for number, line in enumerate(block.splitlines(), first_line + 1):
        if not line.strip(_WHITE):
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except ValueError as wrong:
            return DataError(
                "each line is a JSON object", found=f"{wrong}: {line[:80]!r}", remedy="mend the line", where=where
            )
        if not isinstance(value, dict):
            return DataError(
                "each line is a JSON object",
                found=repr(line[:80].decode(errors="replace")),
                remedy="mend the line",
                where=where,
            )
        name = _mixed(value, kinds, schema, line)
        if name is not None:
            return DataError(
                f"the field {name!r} is of one type in every line",
                found=repr(value[name]),
                remedy="mend the line, or pin the column's type in penstock.lock",
                where=where,
            )
    return DataError("the lines are JSON objects", found=str(error)[:200], remedy="mend them", where=path)


def _mixed(value: dict[str, Any], kinds: dict[str, type], schema: pa.Schema | None, line: bytes) -> str | None:
    """The field of this line that does not fit the lines before, or the schema."""
    if schema is not None:
        for field in schema:
            one = pa.schema([field])
            try:
                pajson.read_json(
                    io.BytesIO(line),
                    parse_options=pajson.ParseOptions(explicit_schema=one, unexpected_field_behavior="ignore"),
                )
            except pa.ArrowInvalid:
                return str(field.name)
        return None
    for name, item in value.items():
        kind = float if isinstance(item, int) and not isinstance(item, bool) else type(item)
        if item is not None and kinds.setdefault(name, kind) is not kind:
            return name
    return None


def _typed(block: bytes, path: str, file: IO[bytes], mark: int, schema: pa.Schema) -> pa.RecordBatch:
    raw = _read_schema(schema)
    try:
        table = _parse(block, path, 0, raw)
    except DataError as error:
        raise _with_line(error, path, file, mark) from error
    columns = []
    for field in schema:
        column = table.column(field.name).combine_chunks()
        if column.type == field.type:
            columns.append(column)
            continue
        values, bad = parse_texts(column, field.type)
        if bad is not None:
            wrong = DataError(
                f"the field {field.name!r} holds {field.type}",
                found=repr(column[bad].as_py()),
                remedy="mend the line, or pin another type for the column in penstock.lock",
                where=f"{path}:{_nth_line(block, bad)}",
            )
            raise _with_line(wrong, path, file, mark)
        columns.append(values)
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


def _nth_line(block: bytes, row: int) -> int:
    seen = -1
    for number, line in enumerate(block.splitlines(), 1):
        seen += bool(line.strip(_WHITE))
        if seen == row:
            return number
    return 1


def _with_line(error: DataError, path: str, file: IO[bytes], mark: int) -> DataError:
    """The error with its line counted from the file's start instead of the block's."""
    place = str(error.where)
    if not place[len(path) + 1 :].isdigit():
        return error
    file.seek(0)
    before, left = 0, mark
    while left and (part := file.read(min(left, _BLOCK_BYTES))):
        before += part.count(b"\n")
        left -= len(part)
    line = before + int(place[len(path) + 1 :])
    return DataError(error.asked, found=error.found, remedy=error.remedy, where=f"{path}:{line}")
