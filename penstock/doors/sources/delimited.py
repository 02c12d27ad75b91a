"""CSV: separator, header and types told from the head; every error with its line."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv

from penstock.doors.sources.texts import infer_type, parse_texts
from penstock.errors import DataError

__all__ = ["read_csv", "read_csv_schema"]

_HEAD_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Dialect:
    separator: str
    names: tuple[str, ...]
    encoding: str


def read_csv_schema(file: IO[bytes], path: str) -> pa.Schema:
    """The columns of a CSV file as its first MiB shows them.

    Raises:
        DataError: it is empty, has no header, or is malformed.
    """
    head = file.read(_HEAD_BYTES)
    dialect = _dialect(head, path)
    if len(head) == _HEAD_BYTES:
        head = head[: head.rfind(b"\n") + 1]
    texts = _texts(io.BytesIO(head), path, dialect, 0)
    table = pa.Table.from_batches(list(texts), pa.schema([(n, pa.string()) for n in dialect.names]))
    return pa.schema([(name, infer_type(table.column(name))) for name in dialect.names])


def read_csv(
    file: IO[bytes], path: str, schema: pa.Schema, at: int, batch_rows: int
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches from row `at` on (counted without the header), each with the row after it.

    An unquoted empty field is null; a quoted one is the empty text.

    Raises:
        DataError: a line has too many or too few fields, or a value is not of its column's type.
    """
    head = file.read(_HEAD_BYTES)
    dialect = _dialect(head, path)
    file.seek(0)
    row = at
    for whole in _texts(file, path, dialect, at):
        for start in range(0, whole.num_rows, batch_rows):
            texts = whole.slice(start, batch_rows)
            columns = []
            for field in schema:
                if field.name not in dialect.names:
                    columns.append(pa.nulls(texts.num_rows, field.type))
                    continue
                values, bad = parse_texts(texts.column(field.name), field.type)
                if bad is not None:
                    file.seek(0)
                    raise _wrong_value(path, _line_of(file, dialect, row + bad), field, texts.column(field.name)[bad])
                columns.append(values)
            row += texts.num_rows
            yield pa.RecordBatch.from_arrays(columns, names=schema.names), row


def _wrong_value(path: str, line: int, field: pa.Field, value: Any) -> DataError:
    return DataError(
        f"column {field.name!r} holds {field.type}",
        found=repr(value.as_py()),
        remedy="mend the line, or pin another type for the column in penstock.lock",
        where=f"{path}:{line}",
    )


def _dialect(head: bytes, path: str) -> _Dialect:
    encoding = "utf-8-sig" if head.startswith(b"\xef\xbb\xbf") else "utf-8"
    text = head.decode("utf-8-sig", errors="replace")
    lines = text.splitlines()[:50]
    if not lines or not lines[0].strip():
        raise DataError("a CSV file starts with a header", found="an empty file", remedy="write one", where=path)
    try:
        separator = _separator(lines)
        names = next(csv.reader([_logical_line(text)], delimiter=separator))
    except csv.Error as error:
        raise DataError(
            "a CSV file is lines of text",
            found=f"{error}; it begins with {head[:16]!r}",
            remedy="name a text file, or say its format: files(path, format=...)",
            where=path,
        ) from error
    names = [name.strip() or f"column_{i}" for i, name in enumerate(names)]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise DataError(
            "every column of a CSV file has its own name",
            found=f"{twice[0]!r} more than once",
            remedy="rename one in the header",
            where=f"{path}:1",
        )
    return _Dialect(separator, tuple(names), encoding)


def _logical_line(text: str) -> str:
    """The header, a line break inside quotes included."""
    for match in re.finditer(r"\r?\n|\Z", text):
        if text[: match.start()].count('"') % 2 == 0:
            return text[: match.start()]
    return text


def _separator(lines: list[str]) -> str:
    """The one of `,;\\t|` that cuts the header and the lines below into the same number of fields, most of them."""
    best, best_score = ",", 0.0
    for candidate in ",;\t|":
        widths = [len(fields) for fields in csv.reader(lines, delimiter=candidate) if fields]
        same = sum(w == widths[0] for w in widths) / len(widths) if widths else 0
        score = (widths[0] - 1) * same if widths else 0.0
        if score > best_score:
            best, best_score = candidate, score
    return best


def _texts(file: IO[bytes], path: str, dialect: _Dialect, skip: int) -> Iterator[pa.RecordBatch]:
    """All columns as text, from row `skip` on."""
    try:
        reader = pacsv.open_csv(
            file,
            pacsv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                column_names=list(dialect.names),
                skip_rows=0,
                skip_rows_after_names=skip + 1,
            ),
            pacsv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True),
            pacsv.ConvertOptions(
                column_types={name: pa.string() for name in dialect.names},
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
        while True:
            batch = reader.read_next_batch()
            if batch.num_rows:
                yield batch
    except StopIteration:
        return
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):  # a header and nothing else
            return
        raise _malformed(file, path, dialect, skip, error) from error


def _malformed(file: IO[bytes], path: str, dialect: _Dialect, skip: int, error: Exception) -> DataError:
    """Finds the first line that is wrong, by reading again."""
    file.seek(0)
    found, line = str(error).splitlines()[0][:200], 1
    text = io.TextIOWrapper(file, dialect.encoding, errors="strict", newline="")
    reader = csv.reader(text, delimiter=dialect.separator, strict=True)
    try:
        for fields in reader:
            if fields and len(fields) != len(dialect.names):
                found, line = f"{len(fields)} fields: {fields[:6]!r}", reader.line_num
                break
    except csv.Error as wrong:
        found, line = str(wrong), reader.line_num
    except UnicodeDecodeError as wrong:
        found, line = f"bytes that are not UTF-8: {wrong.object[wrong.start : wrong.start + 8]!r}", reader.line_num + 1
    finally:
        text.detach()
    return DataError(
        f"each line has {len(dialect.names)} fields separated by {dialect.separator!r}",
        found=found,
        remedy="mend the line, or take it out",
        where=f"{path}:{line}",
    )


def _line_of(file: IO[bytes], dialect: _Dialect, row: int) -> int:
    """The line, counted from 1, on which a row (counted without the header) starts."""
    text = io.TextIOWrapper(file, dialect.encoding, errors="replace", newline="")
    reader = csv.reader(text, delimiter=dialect.separator)
    line, seen = 1, -1
    try:
        for fields in reader:
            if fields:
                if seen == row:
                    break
                seen += 1
            line = reader.line_num + 1
    finally:
        text.detach()
    return line
