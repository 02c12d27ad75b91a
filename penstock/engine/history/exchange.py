"""Rows by partitions of their key's hash: in memory while they fit, in Arrow files when they do not.

Partitions are small enough to stay near the processor even where memory is ample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from penstock.algebra.keys import key_hashes
from penstock.engine.history.frame import CHUNK_ROWS, chunks, column, taken_table
from penstock.errors import StoreError

__all__ = ["MemoryExchange", "SpillExchange"]

FORMAT: Final = 1


class MemoryExchange:
    """Rows split in memory by the hash of some columns; of each partition the order of rows stays."""

    def __init__(self, tables: Iterable[pa.Table], keys: Sequence[str], parts: int) -> None:
        self._parts: list[list[pa.Table]] = [[] for _ in range(parts)]
        for table in tables:
            for part, rows in _split(table, keys, parts) if parts > 1 else ((0, table),):
                self._parts[part].append(rows)
            if parts > 1 and not self._parts[0]:
                self._parts[0].append(table.slice(0, 0))
        self._empty = self._parts[0][0].slice(0, 0)

    def read(self, part: int) -> pa.Table:
        """The rows of one partition."""
        return pa.concat_tables(self._parts[part] or [self._empty])


def _split(table: pa.Table, keys: Sequence[str], parts: int) -> Iterator[tuple[int, pa.Table]]:
    """The rows of a table by partition; partitions without rows are left out."""
    hashes = key_hashes([column(table, key) for key in keys])
    hashes >>= np.uint64(20)
    hashes %= np.uint64(parts)
    part = hashes.astype(np.uint16)
    order = np.argsort(part, kind="stable")
    edges = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=parts))])
    table = taken_table(table, order)
    for i in range(parts):
        if edges[i + 1] > edges[i]:
            yield i, table.slice(edges[i], edges[i + 1] - edges[i])


class SpillExchange:
    """Rows split over files by the hash of some columns; of each partition the order of rows stays.

    A finished exchange has a manifest; opening the same folder again reads it instead of writing anew.

    Args:
        folder: of this exchange alone.
        keys: columns whose hash places a row; rows with equal keys share a partition.
        parts: number of partitions.
        buffer_bytes: rows held in memory while writing.
    """

    def __init__(self, folder: Path, keys: Sequence[str], parts: int, buffer_bytes: int) -> None:
        self.folder, self.keys, self.parts, self.buffer_bytes = folder, list(keys), parts, buffer_bytes

    @property
    def finished(self) -> bool:
        """Whether all rows were written."""
        return (self.folder / "done").exists()

    def write(self, tables: Iterable[pa.Table]) -> SpillExchange:
        """Writes all rows, unless that was done before; returns itself."""
        if self.finished:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.iterdir():
            old.unlink()
        writer = _PartWriter(self)
        try:
            for table in chunks(tables):
                writer.add(table)
            writer.close()
        except OSError as error:
            raise StoreError(
                f"rows are spilled to {self.folder}",
                found=str(error),
                remedy="free space there, or give the run another work folder; it goes on where it stopped",
            ) from error
        (self.folder / "done").write_text(str(FORMAT))
        return self

    def read(self, part: int) -> pa.Table:
        """The rows of one partition, in memory."""
        with pa.OSFile(str(self._path(part)), "rb") as file, pa.ipc.open_stream(file) as reader:
            return reader.read_all()

    def _path(self, part: int) -> Path:
        return self.folder / f"part-{part:05d}.arrow"


class _PartWriter:
    """Buffers rows of all partitions and appends them to the partitions' files."""

    def __init__(self, exchange: SpillExchange) -> None:
        self.exchange = exchange
        self.held: list[list[pa.Table]] = [[] for _ in range(exchange.parts)]
        self.bytes = 0
        self.names: list[str] | None = None
        self.files: list[tuple[pa.OSFile, pa.RecordBatchStreamWriter]] = []

    def add(self, table: pa.Table) -> None:
        if self.names is None:
            self.names = self._open(table.schema)
        if not table.num_rows:
            return
        for part, rows in _split(table.select(self.names), self.exchange.keys, self.exchange.parts):
            self.held[part].append(rows)
        self.bytes += table.nbytes
        if self.bytes > self.exchange.buffer_bytes:
            self._flush()

    def _open(self, schema: pa.Schema) -> list[str]:
        for part in range(self.exchange.parts):
            file = pa.OSFile(str(self.exchange._path(part)), "wb")
            self.files.append((file, pa.ipc.new_stream(file, schema)))
        return list(schema.names)

    def _flush(self) -> None:
        for (_, writer), tables in zip(self.files, self.held, strict=True):
            if tables:
                writer.write_table(pa.concat_tables(tables).combine_chunks(), max_chunksize=CHUNK_ROWS)
                tables.clear()
        self.bytes = 0

    def close(self) -> None:
        self._flush()
        for file, writer in self.files:
            writer.close()
            file.close()
