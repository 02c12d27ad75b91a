"""Files as a source: one file, a pattern or a folder; read once through, or watched for files that arrive."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import ClassVar, Final

import pyarrow as pa

from penstock.define.values import duration_us
from penstock.doors.sources.interface import Options, SourcePosition
from penstock.doors.sources.listing import FileEntry, Listing, list_files
from penstock.doors.sources.tabular import file_schema, read_file
from penstock.errors import DataError, DoorError
from penstock.semantics.columns import KNOWN_TIME

__all__ = ["FilesSource"]

_STILL_WRITTEN_US: Final = 600_000_000
"""A Parquet file without its end that was changed within this span is taken for one still being written."""


class FilesSource:
    """CSV, NDJSON and Parquet files, with `name=value` folders as columns.

    With `arrivals="watch"` batches carry `_known_time`: when the file was first seen complete; for files already
    there at the first look, when they were last changed. A file counts as complete once it has not changed for
    `settle` (2 s); names that start with `_` or `.`, or end in `_tmp`, `.tmp`, `.part` and the like never do.
    A position lists the files that are done, so a file may arrive under any name.
    """

    kind: ClassVar[str] = "files"
    option_names: ClassVar[tuple[str, ...]] = ("path", "format", "arrivals", "settle")
    pushed: ClassVar[bool] = False

    def schema(self, options: Options) -> pa.Schema:
        """The columns of the first file, then those that only the last has, then the folders'; pinned types win.

        Raises:
            DoorError: there is no such file.
            DataError: a file is damaged.
        """
        listing = list_files(options)
        return self._schema(options, listing, self._complete(options, listing, {}) or list(listing.files))

    def read(
        self, options: Options, position: SourcePosition | None = None
    ) -> Iterator[tuple[pa.RecordBatch, SourcePosition]]:
        """Batches from a position on, files in the order of their names, or of their arrival where watched.

        Raises:
            DoorError: there is no such file or folder.
            DataError: a file is damaged, or was changed after it was read.
        """
        listing = list_files(options)
        done = _Done(position)
        done.check(listing)
        ready = self._complete(options, listing, done.files)
        schema = self._schema(options, listing, ready) if ready else None
        watched = _watched(options)
        now_us = options.clock.now_us()
        if watched:
            ready.sort(key=lambda e: (e.name != done.current, e.modified_us if position is None else 0, e.name))
        for entry in ready:
            assert schema is not None
            resumed = entry.name == done.current
            arrival_us = done.arrival_us
            if watched and not resumed:
                arrival_us = max(arrival_us, entry.modified_us if position is None else now_us)
            if not resumed:
                done.start(entry, arrival_us)
            yield from self._read_one(listing, entry, schema, done, arrival_us if watched else None)

    def sample(self, options: Options, n: int) -> pa.Table:
        """The first `n` rows in the order of `read`."""
        listing = list_files(options)
        files = self._complete(options, listing, {}) or list(listing.files)
        schema = self._schema(options, listing, files)
        batches, rows = [], 0
        for entry in files:
            for batch, _ in self._batches(listing, entry, schema, 0):
                batches.append(batch)
                rows += batch.num_rows
                if rows >= n:
                    return pa.Table.from_batches(batches).slice(0, n)
        return pa.Table.from_batches(batches, None if batches else schema)

    def _read_one(
        self, listing: Listing, entry: FileEntry, schema: pa.Schema, done: _Done, arrival_us: int | None
    ) -> Iterator[tuple[pa.RecordBatch, SourcePosition]]:
        """One file; its last batch carries the position in which the file is done."""
        waiting: tuple[pa.RecordBatch, int] | None = None
        for batch, mark in self._batches(listing, entry, schema, done.mark):
            if arrival_us is not None:
                known = pa.array([arrival_us], pa.int64()).take(pa.array([0] * batch.num_rows, pa.int32()))
                batch = batch.append_column(KNOWN_TIME, known)  # noqa: PLW2901  the same rows
            if waiting is not None:
                done.mark = waiting[1]
                yield waiting[0], done.position()
            waiting = batch, mark
        after = listing.fs.info(entry.path)
        if int(after["size"] or 0) != entry.size:
            raise _changed(entry, f"{after['size']} bytes after {entry.size}")
        done.finish(entry)
        if waiting is not None:
            yield waiting[0], done.position()

    def _batches(
        self, listing: Listing, entry: FileEntry, schema: pa.Schema, at: int
    ) -> Iterator[tuple[pa.RecordBatch, int]]:
        folders = listing.partition_fields()
        own = pa.schema([f for f in schema if f.name not in {p.name for p in folders}])
        values = listing.partition_values(entry)
        for batch, mark in read_file(listing.fs, entry, listing.format, own, at):
            for field, value in zip(folders, values, strict=True):
                column = pa.array([value], field.type).take(pa.array([0] * batch.num_rows, pa.int32()))
                batch = batch.append_column(field.name, column)  # noqa: PLW2901  the same rows
            yield batch, mark

    def _complete(self, options: Options, listing: Listing, done: dict[str, int]) -> list[FileEntry]:
        waiting = [e for e in listing.files if e.name not in done]
        if not _watched(options):
            return waiting
        settled_us = options.clock.now_us() - duration_us(options.text("settle", "2s"), "settle")
        return [e for e in waiting if e.size and e.modified_us <= settled_us and not _torn(options, listing, e)]

    def _schema(self, options: Options, listing: Listing, files: list[FileEntry]) -> pa.Schema:
        first = file_schema(listing.fs, files[0], listing.format)
        fields = list(first)
        if len(files) > 1:
            known = set(first.names)
            fields += [f for f in file_schema(listing.fs, files[-1], listing.format) if f.name not in known]
        folders = listing.partition_fields()
        fields = [f for f in fields if f.name not in {p.name for p in folders}]
        pinned = {f.name: f.type for f in options.pinned} if options.pinned is not None else {}
        if listing.format != "parquet":  # text has no types of its own
            fields = [f.with_type(_text_type(f.type, pinned.get(f.name))) for f in fields]
            fields += [pa.field(n, t) for n, t in pinned.items() if n not in {f.name for f in [*fields, *folders]}]
        return pa.schema([*fields, *folders])


class _Done:
    """What a position says: files done by name with their size, and the one begun with its mark and arrival."""

    def __init__(self, position: SourcePosition | None) -> None:
        position = position or {}
        self.files: dict[str, int] = {
            f"{folder}/{name}".lstrip("/"): size
            for folder, names in position.get("done", {}).items()
            for name, size in names.items()
        }
        self.current: str | None = position.get("file")
        self.size: int = position.get("size", 0)
        self.mark: int = position.get("mark", 0)
        self.arrival_us: int = position.get("arrival_us", 0)

    def start(self, entry: FileEntry, arrival_us: int) -> None:
        self.current, self.size, self.mark, self.arrival_us = entry.name, entry.size, 0, arrival_us

    def finish(self, entry: FileEntry) -> None:
        self.files[entry.name] = entry.size
        self.current, self.size, self.mark = None, 0, 0

    def position(self) -> SourcePosition:
        """As plain data; names by folder, so that a folder is written once."""
        split = sorted((*name.rpartition("/")[::2], size) for name, size in self.files.items())
        done = {folder: {n: s for _, n, s in group} for folder, group in groupby(split, key=lambda x: x[0])}
        position: SourcePosition = {"done": done, "arrival_us": self.arrival_us}
        if self.current is not None:
            position |= {"file": self.current, "size": self.size, "mark": self.mark}
        return position

    def check(self, listing: Listing) -> None:
        """Refuses files that were changed since they were read; those taken away are no matter."""
        for entry in listing.files:
            before = self.size if entry.name == self.current else self.files.get(entry.name, entry.size)
            if before != entry.size:
                raise _changed(entry, f"{entry.size} bytes, {before} when it was read")
        if self.current is not None and all(e.name != self.current for e in listing.files):
            raise DataError(
                "the file that is half read is still there",
                found="it is gone",
                remedy="put it back until it has been read",
                where=f"{listing.shown}: {self.current}",
            )


def _changed(entry: FileEntry, found: str) -> DataError:
    return DataError(
        "a file does not change once it is read",
        found=found,
        remedy="write new rows to new files, under a name ending in .tmp until they are whole",
        where=entry.path,
    )


def _watched(options: Options) -> bool:
    arrivals = options.text("arrivals", "")
    if arrivals not in ("", "watch"):
        raise DoorError('arrivals is "watch" or left out', found=repr(arrivals), remedy='write arrivals="watch"')
    return arrivals == "watch"


def _torn(options: Options, listing: Listing, entry: FileEntry) -> bool:
    """Whether a Parquet file that was changed lately still lacks its end."""
    if listing.format != "parquet" or entry.modified_us < options.clock.now_us() - _STILL_WRITTEN_US:
        return False
    if entry.size < 12:
        return True
    with listing.fs.open(entry.path, "rb") as file:
        file.seek(-4, 2)
        return bool(file.read(4) != b"PAR1")


def _text_type(found: pa.DataType, pinned: pa.DataType | None) -> pa.DataType:
    if pinned is None or pa.types.is_nested(pinned) or pa.types.is_duration(pinned) or pa.types.is_binary(pinned):
        return found
    if pa.types.is_timestamp(pinned) and pa.types.is_timestamp(found):
        return found  # the door converts local times; it knows the zone
    return pinned
