"""Reads one file, batch by batch: Parquet, CSV and NDJSON behind one small interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.doors.sources.delimited import read_csv, read_csv_schema
from penstock.doors.sources.ndjson import read_ndjson, read_ndjson_schema
from penstock.errors import DataError

if TYPE_CHECKING:
    from penstock.doors.sources.listing import FileEntry

__all__ = ["BATCH_ROWS", "file_schema", "read_file"]

BATCH_ROWS: Final = 32_768
"""Rows of a batch at most; what bounds the memory of a reader."""


class FileSystem(Protocol):
    """What is used of an fsspec file system."""

    def open(self, path: str, mode: str = "rb", compression: str | None = None) -> Any:
        """A file object."""
        ...


def _open(fs: FileSystem, entry: FileEntry) -> IO[bytes]:
    file: IO[bytes] = fs.open(entry.path, "rb", compression="infer")
    return file


def file_schema(fs: FileSystem, entry: FileEntry, format: str) -> pa.Schema:
    """The columns of one file, from its footer or its head.

    Raises:
        DataError: it is damaged.
    """
    if format == "parquet":
        with fs.open(entry.path, "rb") as raw:
            return _parquet(raw, entry).schema_arrow.remove_metadata()
    with _open(fs, entry) as file:
        return read_csv_schema(file, entry.path) if format == "csv" else read_ndjson_schema(file, entry.path)


def read_file(
    fs: FileSystem, entry: FileEntry, format: str, schema: pa.Schema, at: int
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches of one file from a mark on (0: its start), each with the mark after it.

    A mark is a row number (Parquet, CSV) or a byte of the unpacked text (NDJSON).

    Args:
        schema: the columns to give, in order; those the file lacks are null, others of the file are left out.

    Raises:
        DataError: the file is damaged, with the file and, for text, the line.
    """
    if format == "parquet":
        with fs.open(entry.path, "rb") as raw:
            yield from _read_parquet(raw, entry, schema, at)
        return
    with _open(fs, entry) as file:
        read = read_csv if format == "csv" else read_ndjson
        yield from read(file, entry.path, schema, at, BATCH_ROWS)


def _parquet(file: IO[bytes], entry: FileEntry) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(entry, error) from error


def _damaged(entry: FileEntry, error: Exception) -> DataError:
    return DataError(
        "the file is a whole Parquet file",
        found=f"{entry.size} bytes; {str(error).splitlines()[0][:200]}",
        remedy="it is truncated or damaged: write it again, or take it away",
        where=entry.path,
    )


def _read_parquet(raw: IO[bytes], entry: FileEntry, schema: pa.Schema, at: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    file = _parquet(raw, entry)
    present = [name for name in schema.names if name in file.schema_arrow.names]
    first, start = 0, 0
    while first < file.num_row_groups and start + file.metadata.row_group(first).num_rows <= at:
        start += file.metadata.row_group(first).num_rows
        first += 1
    batches = file.iter_batches(
        BATCH_ROWS, row_groups=list(range(first, file.num_row_groups)), columns=present, use_threads=False
    )
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(entry, error) from error
        if batch is None:
            return
        skipped = max(at - start, 0)
        start += batch.num_rows
        if skipped < batch.num_rows:
            yield _fitted(batch.slice(skipped), schema), start


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    n = batch.num_rows
    arrays = [
        batch.column(field.name) if field.name in batch.schema.names else pa.nulls(n, field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)
