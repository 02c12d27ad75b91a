"""Where the history engine reads rows: tables in memory, Parquet files, topics of a log, and plug-in readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.errors import DataError, EngineError, nearest
from penstock.names import fingerprint
from penstock.plan.ir import SourcePlan
from penstock.semantics.columns import KNOWN_TIME, OFFSET, is_system_column
from penstock.store.lake.interface import Lake
from penstock.store.lake.whole import WholeTopic
from penstock.store.log.interface import Position, Topic

__all__ = ["ArrowRows", "BatchRows", "LakeRows", "LogRows", "ParquetRows", "Resolver", "Rows", "resolver_of"]

BATCH_ROWS = 1 << 16
"""Few enough to stay in the processor's cache, and in memory that was used before."""
WHOLE_ROWS = 1 << 20
"""A file of so many is read in one piece, which need not be put together."""


@runtime_checkable
class Rows(Protocol):
    """The rows of one source, to be read as often as needed, always the same.

    Attributes:
        taken: they carry system columns, and duplicates were dropped at append; otherwise they are raw.
    """

    taken: bool

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Batches in the order of arrival, with these columns of the user's (at least) and the system's if taken."""
        ...

    def rows(self) -> int | None:
        """How many there are, or None where that is not known without reading."""
        ...

    def identity(self) -> str:
        """Changes when the rows do."""
        ...


Resolver = Callable[[SourcePlan], Rows]
"""Gives the rows of each source of a plan."""


class ArrowRows:
    """Rows of a table in memory, raw or with system columns."""

    def __init__(self, table: pa.Table | pa.RecordBatch) -> None:
        self.table = table if isinstance(table, pa.Table) else pa.Table.from_batches([table])
        self.taken = OFFSET in self.table.column_names

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The table's own batches."""
        names = [n for n in self.table.column_names if n in columns or is_system_column(n)]
        yield from self.table.select(names).to_batches(max_chunksize=1 << 22)

    def rows(self) -> int | None:
        """The table's rows."""
        return int(self.table.num_rows)

    def identity(self) -> str:
        """Of its size, schema and first and last rows."""
        ends = [self.table.slice(0, 5), self.table.slice(max(0, self.table.num_rows - 5))]
        return fingerprint([self.table.num_rows, str(self.table.schema), [str(e.to_pylist()) for e in ends]])


class ParquetRows:
    """Rows of Parquet files, in the order of the files."""

    taken = False

    def __init__(self, *paths: str | Path) -> None:
        self.paths = [Path(path) for path in paths]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Row group by row group, only the columns asked for.

        Raises:
            DataError: a file is missing or damaged.
        """
        for path in self.paths:
            try:
                with pq.ParquetFile(path) as file:
                    names = [n for n in file.schema_arrow.names if n in columns or n == KNOWN_TIME]
                    n = file.metadata.num_rows
                    size = n if 0 < n <= WHOLE_ROWS and len(self.paths) == 1 else BATCH_ROWS
                    yield from file.iter_batches(batch_size=size, columns=names, use_threads=False)
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(
                    f"{path} is a Parquet file", found=str(error), remedy="restore the file, or name another"
                ) from error

    def rows(self) -> int | None:
        """From the files' footers."""
        try:
            return sum(int(pq.read_metadata(path).num_rows) for path in self.paths)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                "the files of a source are Parquet", found=str(error), remedy="restore the file, or name another"
            ) from error

    def identity(self) -> str:
        """Of the files' names, sizes and times of change."""
        stats = [path.stat() for path in self.paths]
        return fingerprint([[str(p), s.st_size, s.st_mtime_ns] for p, s in zip(self.paths, stats, strict=True)])


class BatchRows:
    """Rows that a function gives, anew at each call: a plug-in's reader, a lake table's scan.

    Args:
        read: from the columns wanted to batches in the order of arrival.
        taken: as of `Rows`.
        identity: changes when the rows do.
    """

    def __init__(
        self,
        read: Callable[[Sequence[str]], Iterable[pa.RecordBatch]],
        *,
        identity: str,
        taken: bool = False,
        rows: int | None = None,
    ) -> None:
        self._read, self.taken, self._identity, self._rows = read, taken, identity, rows

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """What the function gives."""
        yield from self._read(columns)

    def rows(self) -> int | None:
        """As told."""
        return self._rows

    def identity(self) -> str:
        """As told."""
        return self._identity


class LakeRows:
    """Rows of a lake table, of one version throughout: with system columns as a sink writes them, or raw.

    Args:
        by_commit: give raw rows of all versions, each with the commit time of the version that added it as its known
            time, rather than those of the newest alone.
    """

    def __init__(self, lake: Lake, table: str, *, by_commit: bool = False) -> None:
        self.lake, self.table, self.by_commit = lake, table, by_commit
        self.version = lake.versions(table)[-1].version
        self.taken = OFFSET in lake.schema(table).names

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """A few row groups in memory at a time."""
        names = [n for n in self.lake.schema(self.table).names if n in columns or is_system_column(n)]
        if not self.by_commit:
            yield from self.lake.read(self.table, names, version=self.version)
            return
        for added, batch in self.lake.additions(self.table, names, version=self.version):
            known = pa.repeat(pa.scalar(added.committed_us, pa.int64()), batch.num_rows)
            yield batch.append_column(KNOWN_TIME, known)

    def rows(self) -> int | None:
        """Not told without reading."""
        return None

    def identity(self) -> str:
        """Of the place, the table and its version."""
        return fingerprint([self.lake.url, self.table, self.version, self.by_commit])


class LogRows:
    """Rows of a topic, up to a position (by default its end when this object was made)."""

    taken = True

    def __init__(self, topic: Topic | WholeTopic, end: Position | None = None) -> None:
        self.topic, self.start, self.end = topic, topic.start(), end or topic.end()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Partition after partition, each in the order of its offsets."""
        for partition, end in enumerate(self.end.offsets):
            at = self.start.offsets[partition]
            while at < end:
                found = self.topic.read(partition, at, max_rows=min(1 << 20, end - at))
                if found.next_offset == at:
                    break
                rows = found.rows
                names = [n for n in rows.schema.names if n in columns or is_system_column(n)]
                yield rows.select(names)
                at = found.next_offset

    def rows(self) -> int:
        """Offsets between start and end."""
        return sum(int(end - start) for start, end in zip(self.start.offsets, self.end.offsets, strict=True))

    def identity(self) -> str:
        """Of the topic and the span of offsets."""
        return fingerprint([self.start.to_json(), self.end.to_json()])


def resolver_of(rows: Mapping[str, Rows | pa.Table | str | Path]) -> Resolver:
    """A resolver from rows by the plain name of their source; tables and Parquet paths may be given as they are.

    A table that declares no known time and is read from a raw lake table has the commit times of its versions.
    """

    def resolve(plan: SourcePlan) -> Rows:
        found = rows.get(plan.name.name)
        if found is None:
            raise EngineError(
                f"the history of {plan.name.name} needs its rows",
                found="none were given",
                remedy=nearest(plan.name.name, rows),
            )
        if isinstance(found, LakeRows) and plan.kind == "table" and plan.known is None and not found.taken:
            return LakeRows(found.lake, found.table, by_commit=True)
        if isinstance(found, pa.Table):
            return ArrowRows(found)
        return ParquetRows(found) if isinstance(found, str | Path) else found

    return resolve
