"""Answers of the history engine on their way out: as Arrow, as Parquet, in batches; carried out when asked for."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.engine.history.answers import Status
from penstock.engine.history.frame import int64, taken_table
from penstock.engine.history.lookups import NUMBER, STATUS
from penstock.engine.history.run import Run, sync_folder
from penstock.errors import EngineError, StoreError
from penstock.names import Fingerprint
from penstock.store.lake.interface import Lake, LakeCommit

__all__ = ["Result"]


class Result:
    """Queries with the columns they asked for.

    Args:
        new_run: begins a run.
        answer: the answered queries, partition by partition.
        names: the engine's names of the columns asked for, and their own.
        kept: columns of the queries, which come back.
        identity: of the definition, the queries and the rows; a run goes on only with the same.
    """

    def __init__(
        self,
        new_run: Callable[[], Run],
        answer: Callable[[Run, bool], Iterator[pa.Table]],
        names: Mapping[str, str],
        kept: Sequence[str],
        identity: Fingerprint,
    ) -> None:
        self._new_run, self._answer, self._names = new_run, answer, names
        self._kept = [name for name in kept if name not in names.values()]
        self.identity = identity

    def table(self, *, statuses: bool = False) -> pa.Table:
        """All answers as one Arrow table, in the order of the queries.

        Args:
            statuses: also, after each column, `{column}:status` with why it is null or empty.
        """
        found = list(self._run(statuses=statuses))
        whole = pa.concat_tables(found, promote_options="permissive")
        number = int64(whole.column(NUMBER))
        if bool((np.diff(number) < 0).any()):
            whole = taken_table(whole, np.argsort(number))
        return whole.drop_columns([NUMBER])

    def batches(self, *, statuses: bool = False) -> Iterator[pa.RecordBatch]:
        """Answers as they are found, never more than a partition at a time; by partition."""
        for table in self._run(statuses=statuses):
            yield from table.drop_columns([NUMBER]).to_batches()

    def pl(self) -> Any:
        """As a Polars frame."""
        import polars  # an extra; only its users pay for it

        return polars.from_arrow(self.table())

    def pd(self) -> Any:
        """As a pandas frame."""
        return self.table().to_pandas()

    def write_parquet(self, path: str | Path, *, statuses: bool = False) -> int:
        """Writes the answers to one Parquet file, visible when it is complete; the number of rows.

        In a run with a work folder the answers of each partition are kept there as they are done, so that a killed run
        goes on with the next.

        Raises:
            EngineError: the folder of the file does not exist.
            StoreError: the disk is full, or refuses; nothing is left behind.
        """
        target = Path(path)
        if not target.parent.is_dir():
            raise EngineError(
                f"{target} is written to an existing folder", found="none", remedy=f"make {target.parent} first"
            )
        partial = target.with_name(f".{target.name}.partial")
        try:
            rows = self._write(partial, statuses=statuses)
            partial.rename(target)
            sync_folder(target.parent)
        except OSError as error:
            raise StoreError(
                f"the answers are written to {target}",
                found=str(error),
                remedy="make room there, or name another file; with a work folder the run goes on where it stopped",
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return rows

    def _write(self, partial: Path, *, statuses: bool) -> int:
        """Writes a durable file; the number of rows."""
        rows, writer = 0, None
        try:
            for table in self._run(statuses=statuses):
                clean = table.drop_columns([NUMBER])
                if writer is None:
                    words = [f.name for f in clean.schema if pa.types.is_string(f.type)]
                    writer = pq.ParquetWriter(partial, clean.schema, compression="snappy", use_dictionary=words)
                writer.write_table(clean.cast(writer.schema), row_group_size=1 << 20)
                rows += clean.num_rows
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise EngineError("there is something to write", found="no queries", remedy="ask at least one")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        return rows

    def write_lake(self, lake: Lake, table: str, *, app_id: str, version: int, statuses: bool = False) -> LakeCommit:
        """Appends the answers to a lake table in one commit, making the table where it is missing.

        Args:
            app_id, version: the same pair is appended once, however often this is called.
        """
        if table not in lake.tables():
            lake.create_table(table, next(self.batches(statuses=statuses)).schema)

        def read() -> pa.RecordBatchReader:
            found = self.batches(statuses=statuses)
            first = next(found)
            return pa.RecordBatchReader.from_batches(first.schema, itertools.chain([first], found))

        return lake.append(table, read, app_id=app_id, version=version)

    def _run(self, *, statuses: bool) -> Iterator[pa.Table]:
        run = self._new_run()
        try:
            run.claim(self.identity)
            for table in self._answer(run, statuses):
                yield self._shown(table, statuses=statuses)
        finally:
            run.close()

    def _shown(self, table: pa.Table, *, statuses: bool) -> pa.Table:
        columns: dict[str, Any] = {name: table.column(name) for name in self._kept}
        for name, shown in self._names.items():
            columns[shown] = table.column(name)
            if statuses and STATUS + name in table.column_names:
                columns[f"{shown}:status"] = _words(table.column(STATUS + name))
        columns[NUMBER] = table.column(NUMBER)
        return pa.table(columns)


_WORDS = pa.array([status.name.lower() for status in Status])


def _words(status: pa.ChunkedArray) -> pa.Array:
    return pc.take(_WORDS, status.combine_chunks())
