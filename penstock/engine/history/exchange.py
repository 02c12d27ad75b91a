"""Rows by partitions of their key's hash: in memory while they fit, in Arrow files when they do not.

Partitions are small enough to stay near the processor even where memory is ample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.algebra.keys import key_hashes
from penstock.algebra.pages import new_words
from penstock.algebra.sorting import deal, split
from penstock.engine.history.frame import CHUNK_ROWS, chunks, column, is_words, taken_table, words_of
from penstock.errors import StoreError

__all__ = ["DEALT_ROWS", "MemoryExchange", "SpillExchange"]

Int64 = NDArray[np.int64]
FORMAT: Final = 1
DEALT_ROWS: Final = 1 << 16
"""Rows dealt at a time: few enough for the cache."""


class MemoryExchange:
    """Rows split in memory by the hash of some columns; of each partition the order of rows stays.

    Rows are dealt as they come, a cache's worth at a time, so that what a source reads into is used again and again.

    Args:
        rows: about how many there are.
    """

    def __init__(self, tables: Iterable[pa.Table], keys: Sequence[str], parts: int, rows: int = 0) -> None:
        self._parts: list[list[pa.Table]] = [[] for _ in range(parts)]
        self._empty: pa.Table | None = None
        first, dealer = None, None
        for table in chunks(tables, DEALT_ROWS) if parts > 1 else tables:
            self._empty = table.slice(0, 0) if self._empty is None else self._empty
            if not table.num_rows:
                continue
            if parts == 1 and first is None and dealer is None:
                first = table  # if there is no other, it may stay where it is
                continue
            for piece in (table,) if first is None else (first, table):
                dealer = self._deal(dealer, piece, keys, rows)
            first = None
        if dealer is not None:
            dealer.close()
        if first is not None:
            self._parts[0].append(first)

    def _deal(self, dealer: _Dealer | None, table: pa.Table, keys: Sequence[str], rows: int) -> _Dealer:
        if dealer is None or not dealer.takes(table):
            if dealer is not None:
                dealer.close()
            dealer = _Dealer(table, keys, self._parts, rows)
        dealer.add(table)
        return dealer

    def read(self, part: int) -> pa.Table:
        """The rows of one partition; once, so that its memory is free when it is done."""
        tables, self._parts[part] = self._parts[part], []
        return pa.concat_tables(tables or [self._empty])


class _Dealer:
    """Deals rows of one form over partitions: columns of words into rooms, any other as Arrow takes them.

    Args:
        like: a table of the form. found: where each partition's rows go when a room is full. rows: about how many come.
    """

    def __init__(self, like: pa.Table, keys: Sequence[str], found: list[list[pa.Table]], rows: int) -> None:
        parts = len(found)
        self.schema, self.keys, self.found = like.schema, keys, found
        self.words = [name for name in like.column_names if is_words(like.column(name))]
        self.others = [name for name in like.column_names if name not in self.words]
        self.wanted = max(rows * 3 // (2 * parts), DEALT_ROWS)  # what stays empty takes no memory
        self.rooms: list[Int64] = [np.empty((len(self.words), 0), np.int64)] * parts
        self.rest: list[list[pa.Table]] = [[] for _ in found]
        self.used, self.size = np.zeros(parts, np.int64), np.zeros(parts, np.int64)
        self.to = np.zeros((parts, len(self.words)), np.uint64)

    def takes(self, table: pa.Table) -> bool:
        """Whether a table has the form that this one deals."""
        return bool(table.schema == self.schema) and all(is_words(table.column(name)) for name in self.words)

    def add(self, table: pa.Table) -> None:
        """Deals the rows of a table."""
        order, edges = _places(table, self.keys, len(self.found))
        counts = np.diff(edges)
        for part in np.flatnonzero(self.used + counts > self.size).tolist():
            self._seal(part)
            self._open(part, int(counts[part]))
        if self.words:
            deal([words_of(column(table, name)) for name in self.words], order, edges, self.to)
        self.used += counts
        self.to += (8 * counts).astype(np.uint64)[:, None]
        if self.others:
            rest = taken_table(table.select(self.others), order)
            for part in np.flatnonzero(counts).tolist():
                self.rest[part].append(rest.slice(edges[part], counts[part]))

    def close(self) -> None:
        """Hands over what is still in rooms."""
        for part in np.flatnonzero(self.used).tolist():
            self._seal(part)

    def _open(self, part: int, least: int) -> None:
        size = max(self.wanted, least)
        self.rooms[part] = new_words(len(self.words) * size).reshape(len(self.words), size)
        first = self.rooms[part].ctypes.data
        self.to[part] = first + 8 * size * np.arange(len(self.words), dtype=np.uint64)
        self.size[part] = size

    def _seal(self, part: int) -> None:
        n, self.used[part] = int(self.used[part]), 0
        if not n:
            return
        columns: dict[str, pa.Array] = {}
        for name, words in zip(self.words, self.rooms[part], strict=True):
            columns[name] = pa.Array.from_buffers(self.schema.field(name).type, n, [None, pa.py_buffer(words[:n])])
        if self.others:
            rest = pa.concat_tables(self.rest[part])
            columns |= {name: column(rest, name) for name in self.others}
            self.rest[part] = []
        table = pa.Table.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)
        self.found[part].append(table)


def _places(table: pa.Table, keys: Sequence[str], parts: int) -> tuple[Int64, Int64]:
    """Places of rows in order of their partition, and where each partition begins, and the end."""
    if parts == 1:
        return np.arange(table.num_rows), np.array([0, table.num_rows])
    return split(key_hashes([column(table, key) for key in keys]), parts)


def _split(table: pa.Table, keys: Sequence[str], parts: int) -> Iterator[tuple[int, pa.Table]]:
    """The rows of a table by partition; partitions without rows are left out."""
    order, edges = _places(table, keys, parts)
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
