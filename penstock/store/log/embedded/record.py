"""How one commit to one partition lies in the log: a header, then an Arrow record batch without its schema."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import lmdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.errors import StoreError
from penstock.semantics.columns import (
    APPENDED_AT,
    EVENT_TIME,
    ID,
    KNOWN_TIME,
    OFFSET,
    OP,
    ORDINAL,
    PARTITION,
    SYSTEM_COLUMNS,
    system_type,
)

__all__ = [
    "HAS_ID",
    "HAS_KNOWN",
    "HAS_OFFSETS",
    "HAS_OP",
    "HAS_ORIGIN",
    "LOG_OFFSET",
    "Head",
    "Header",
    "batch_key",
    "decode",
    "encode",
    "log_offsets",
    "partition_key",
    "seek",
    "stored_schema",
    "with_system_columns",
]

FORMAT: Final = 1

LOG_OFFSET: Final = "_log_offset"
"""Stored where the offsets of a record are no longer without gaps: rows were erased."""

_HEADER: Final = struct.Struct("<HHIIIqqqq")
_HEAD: Final = struct.Struct("<qqqqqq")
_KEY: Final = struct.Struct(">IIQ")
_PARTITION: Final = struct.Struct(">II")

HAS_ID: Final = 1
HAS_OP: Final = 2
HAS_KNOWN: Final = 4
HAS_ORIGIN: Final = 8
HAS_OFFSETS: Final = 16

_FLAG_COLUMNS: Final = (
    (HAS_ID, (ID,)),
    (HAS_OP, (OP,)),
    (HAS_KNOWN, (KNOWN_TIME,)),
    (HAS_ORIGIN, (ORDINAL, PARTITION, OFFSET)),
    (HAS_OFFSETS, (LOG_OFFSET,)),
)


def batch_key(topic: int, partition: int, offset: int) -> bytes:
    """The key of the record that starts at an offset; keys sort by topic, partition, offset."""
    return _KEY.pack(topic, partition, offset)


def partition_key(topic: int, partition: int) -> bytes:
    """The key of a partition's head, and the first bytes of its records' keys."""
    return _PARTITION.pack(topic, partition)


@dataclass(frozen=True, slots=True)
class Head:
    """The state of a partition.

    Attributes:
        next_offset: offset of the next row.
        start_offset: first offset retained.
        known_us: greatest known time stored.
        frontier_us: no later row is known at or before it; promised by the producer (clock `source`).
        n_bytes: stored bytes retained.
        n_records: records retained.
    """

    next_offset: int = 0
    start_offset: int = 0
    known_us: int = -(2**63)
    frontier_us: int = -(2**63)
    n_bytes: int = 0
    n_records: int = 0

    @classmethod
    def unpack(cls, data: Any) -> Head:
        """Reads what `pack` wrote; a partition never written to is empty."""
        return cls() if data is None else cls(*_HEAD.unpack(data))

    def pack(self) -> bytes:
        """The head as bytes."""
        return _HEAD.pack(
            self.next_offset, self.start_offset, self.known_us, self.frontier_us, self.n_bytes, self.n_records
        )


@dataclass(frozen=True, slots=True)
class Header:
    """What precedes a record's rows.

    Attributes:
        flags: which system columns are stored row by row.
        schema_version: of the topic.
        n_rows: rows stored.
        span: offsets the record covers; more than `n_rows` where rows were erased.
        first_offset: the record covers `[first_offset, first_offset + span)`.
        known_first_us: known time of the first row.
        known_last_us: known time of the last row.
        appended_us: the clock when the record was committed.
    """

    flags: int
    schema_version: int
    n_rows: int
    span: int
    first_offset: int
    known_first_us: int
    known_last_us: int
    appended_us: int

    @classmethod
    def unpack(cls, data: Any) -> Header:
        """Reads a record's header.

        Raises:
            StoreError: a newer program wrote it.
        """
        version, flags, schema_version, n_rows, span, first, known_first, known_last, appended = _HEADER.unpack_from(
            data
        )
        if version != FORMAT:
            raise StoreError(
                f"records of format {FORMAT}", found=f"format {version}", remedy="use the Penstock that wrote this log"
            )
        return cls(flags, schema_version, n_rows, span, first, known_first, known_last, appended)

    def pack(self) -> bytes:
        """The header as bytes."""
        return _HEADER.pack(
            FORMAT,
            self.flags,
            self.schema_version,
            self.n_rows,
            self.span,
            self.first_offset,
            self.known_first_us,
            self.known_last_us,
            self.appended_us,
        )

    @property
    def next_offset(self) -> int:
        """The offset after the record."""
        return self.first_offset + self.span


def stored_schema(user: pa.Schema, flags: int) -> pa.Schema:
    """The columns of a record: event time, the system columns its flags name, then the user's, all nullable."""
    fields = [pa.field(EVENT_TIME, pa.int64())]
    for flag, names in _FLAG_COLUMNS:
        if flags & flag:
            fields += [pa.field(n, pa.int64() if n == LOG_OFFSET else system_type(n)) for n in names]
    return pa.schema([*fields, *(field.with_nullable(True) for field in user)])


def encode(header: Header, rows: pa.RecordBatch, compression: str | None) -> bytes:
    """The record as bytes; `rows` has the columns of `stored_schema`."""
    if compression is None:
        return header.pack() + memoryview(rows.serialize())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_batch(rows)
    messages = pa.ipc.MessageReader.open_stream(sink.getvalue())
    messages.read_next_message()
    return header.pack() + memoryview(messages.read_next_message().serialize())


def decode(header: Header, data: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of a record, with the columns of `stored_schema(schema, header.flags)`, over the memory of `data`."""
    message = pa.py_buffer(data).slice(_HEADER.size)
    try:
        return pa.ipc.read_record_batch(message, stored_schema(schema, header.flags))
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"read the record at offset {header.first_offset}",
            found=str(error),
            remedy="the log is damaged: restore it, or read these rows from the lake",
        ) from error


def log_offsets(header: Header, rows: pa.RecordBatch) -> NDArray[np.int64]:
    """The offset in this log of each row of a record."""
    if header.flags & HAS_OFFSETS:
        return np.asarray(rows[LOG_OFFSET].to_numpy(), np.int64)
    return np.arange(header.first_offset, header.first_offset + header.n_rows, dtype=np.int64)


def seek(cursor: lmdb.Cursor, topic: int, partition: int, offset: int) -> bool:
    """Moves a cursor over records to the record that holds an offset, or the first one after it."""
    key = batch_key(topic, partition, offset)
    found = cursor.set_range(key)
    if found and bytes(cursor.key()) == key:
        return True
    moved = cursor.prev() if found else cursor.last()
    if moved and bytes(cursor.key()[:8]) == key[:8] and Header.unpack(cursor.value()).next_offset > offset:
        return True
    return bool(cursor.set_range(key))


def with_system_columns(
    records: Sequence[tuple[Header, pa.RecordBatch, NDArray[np.int64]]], schema: pa.Schema, partition: int, ordinal: int
) -> pa.RecordBatch:
    """Rows of consecutive records as one batch: the system columns, then those of `schema`, nulls where unknown.

    Args:
        records: header, rows and their offsets in this log.
        schema: the user's columns as asked for.
        partition: where the records lie.
        ordinal: of the topic.
    """
    names = [field.name for field in schema]
    fields = [*(pa.field(n, system_type(n), nullable=n == ID) for n in SYSTEM_COLUMNS), *schema]
    parts = [_completed(header, rows, offsets, schema, (partition, ordinal)) for header, rows, offsets in records]
    columns = [
        parts[0][name] if len(parts) == 1 else pa.concat_arrays([part[name] for part in parts])
        for name in (*SYSTEM_COLUMNS, *names)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _completed(
    header: Header, rows: pa.RecordBatch, offsets: NDArray[np.int64], schema: pa.Schema, place: tuple[int, int]
) -> dict[str, pa.Array]:
    """Each column of the asked schema for one record: as stored, or as its header says, or null."""
    n = rows.num_rows
    partition, ordinal = place
    stored = dict(zip(rows.schema.names, rows.columns, strict=True))
    columns = {field.name: _widened(stored.get(field.name), field.type, n) for field in schema}
    columns[EVENT_TIME] = stored[EVENT_TIME]
    columns[APPENDED_AT] = pa.array(np.full(n, header.appended_us))
    columns[KNOWN_TIME] = stored[KNOWN_TIME] if KNOWN_TIME in stored else pa.array(np.full(n, header.known_last_us))
    columns[ID] = stored[ID] if ID in stored else pa.nulls(n, pa.string())
    columns[OP] = stored[OP] if OP in stored else pa.array(np.zeros(n, np.int8))
    if header.flags & HAS_ORIGIN:
        columns |= {name: stored[name] for name in (ORDINAL, PARTITION, OFFSET)}
    else:
        columns[ORDINAL] = pa.array(np.full(n, ordinal, np.int32))
        columns[PARTITION] = pa.array(np.full(n, partition, np.int32))
        columns[OFFSET] = pa.array(offsets)
    return columns


def _widened(column: pa.Array | None, target: pa.DataType, n: int) -> pa.Array:
    if column is None:
        return pa.nulls(n, target)
    return column if column.type.equals(target) else column.cast(target)
