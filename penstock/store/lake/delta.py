"""The lake as Delta tables by delta-rs, on a local disk or any store that it knows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError

from penstock.clock import Clock
from penstock.errors import DataError, StoreError, nearest
from penstock.semantics.columns import ID, OFFSET, PARTITION
from penstock.store.lake.additions import additions
from penstock.store.lake.interface import LakeCommit, TableVersion
from penstock.store.lake.shape import cast, fitted, literal, matching, quoted, same_columns, storable
from penstock.store.log.interface import Change

__all__ = ["DeltaLake"]

_ATTEMPTS: Final = 50
_COMMITTED: Final = "penstock_committed_us"
_BATCH_ROWS: Final = 65_536
_GONE: Final = "_gone"


class DeltaLake:
    """Delta tables below one URL. A commit is on the disk when it returns, where the lake is a local directory."""

    def __init__(self, url: str, clock: Clock, storage_options: Mapping[str, str] | None) -> None:
        self.url, self.clock = url, clock
        self.storage_options = dict(storage_options or {})

    @classmethod
    def open(cls, url: str | Path, *, clock: Clock, storage_options: Mapping[str, str] | None = None) -> DeltaLake:
        """Opens the lake at a URL or in a directory, which is made if missing.

        Args:
            url: a directory, or `s3://`, `hdfs://` and what else delta-rs knows.
            clock: gives commits their time.
            storage_options: credentials and settings of the store.

        Raises:
            StoreError: the directory cannot be made.
        """
        text = str(url)
        if "://" not in text:
            try:
                Path(text).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    "open a lake", found=str(error), remedy="choose a writable place", where=text
                ) from error
            text = str(Path(text).resolve())
        return cls(text.rstrip("/"), clock, storage_options)

    @property
    def local(self) -> Path | None:
        """The directory, if the lake is on a local disk."""
        return None if "://" in self.url else Path(self.url)

    def create_table(self, table: str, schema: pa.Schema) -> None:
        """A new, empty table, or nothing when it is there with the same schema.

        Unsigned integers become signed ones of the next size, which Delta has.

        Raises:
            DataError: a type that Delta does not have.
            StoreError: the table is there with another schema, or the store refuses.
        """
        stored = storable(schema, table)
        with _Explained(self.url, table):
            try:
                DeltaTable.create(
                    self._uri(table), stored, storage_options=self.storage_options, commit_properties=self._commit({})
                )
                self._sync(table, 0)
            except (DeltaError, CommitFailedError):
                if not DeltaTable.is_deltatable(self._uri(table), self.storage_options):
                    raise
        if not same_columns(self.schema(table), stored):
            raise StoreError(
                f"create table {table}",
                found=f"one with columns {self.schema(table)}",
                remedy="use evolve, or another name",
                where=self.url,
            )

    def tables(self) -> list[str]:
        """The names of all tables, sorted."""
        import fsspec  # only to list; reading and writing go by delta-rs

        files, root = fsspec.core.url_to_fs(self.url, **self.storage_options)
        if not files.exists(root):
            return []
        places = [entry["name"] for entry in files.ls(root, detail=True) if entry["type"] == "directory"]
        return sorted(Path(place).name for place in places if files.exists(f"{place}/_delta_log"))

    def schema(self, table: str) -> pa.Schema:
        """The columns of a table.

        Raises:
            StoreError: there is no such table.
        """
        return pa.schema(self._table(table).schema().to_arrow())

    def append(
        self,
        table: str,
        rows: pa.RecordBatch | pa.Table | Callable[[], pa.RecordBatchReader],
        *,
        app_id: str | None = None,
        version: int | None = None,
        details: Mapping[str, str] | None = None,
    ) -> LakeCommit:
        """Adds rows in one commit; with `app_id`, only if no commit of it had this version or a greater one.

        Delta does not refuse a repeated application version by itself, so the version is read and the commit made
        from the same snapshot; when another commit came between, both start over.

        Args:
            table: to which.
            rows: with the table's columns in any order; missing ones are null. Rows that do not fit in memory come
                from a function that reads them anew on each call.
            app_id: who appends, for appends that may be sent again.
            version: counts the appends of `app_id` upwards; gaps are allowed.
            details: kept with the commit.

        Raises:
            DataError: a column is unknown or of another type.
            StoreError: no such table, or the store refuses.
        """
        if (app_id is None) != (version is None):
            raise StoreError(
                "append with app_id and version, or neither", found=repr((app_id, version)), remedy="pass both"
            )
        transactions = [] if app_id is None or version is None else [Transaction(app_id, version)]
        for _ in range(_ATTEMPTS):
            with _Explained(self.url, table):
                handle = self._table(table)
                if app_id is not None and version is not None:
                    last = handle.transaction_version(app_id)
                    if last is not None and last >= version:
                        return LakeCommit(handle.version(), repeated=True)
                data = fitted(rows, pa.schema(handle.schema().to_arrow()), table)
                try:
                    write_deltalake(
                        handle, data, mode="append", commit_properties=self._commit(details or {}, transactions)
                    )
                except CommitFailedError:
                    continue
                self._sync(table, handle.version())
                return LakeCommit(handle.version())
        raise self._too_busy(table)

    def evolve(self, table: str, schema: pa.Schema) -> None:
        """Adds columns, null in older rows, and widens types by writing the table anew.

        Raises:
            DataError: a column would go or narrow.
        """
        stored = storable(schema, table)
        old = self.schema(table)
        if same_columns(old, stored):
            return
        for field in old:
            if stored.get_field_index(field.name) < 0:
                raise DataError(
                    f"a column of {table} stays: {field.name}",
                    found=repr(stored.names),
                    remedy="keep it, or write another table",
                    where=self.url,
                )
        merged = pa.schema([stored.field(field.name) for field in old] + [f for f in stored if f.name not in old.names])
        widened = any(not merged.field(field.name).type.equals(field.type) for field in old)
        with _Explained(self.url, table):
            handle = self._table(table)
            if widened:
                data = pa.RecordBatchReader.from_batches(
                    merged, (cast(batch, merged) for batch in self.read(table, version=handle.version()))
                )
                write_deltalake(
                    handle, data, mode="overwrite", schema_mode="overwrite", commit_properties=self._commit({})
                )
            else:
                write_deltalake(
                    handle,
                    merged.empty_table(),
                    mode="append",
                    schema_mode="merge",
                    commit_properties=self._commit({}),
                )
            self._sync(table, handle.version())

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        *,
        version: int | None = None,
        where: Mapping[str, Any] | None = None,
        between: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> pa.RecordBatchReader:
        """Streams rows, a few row groups in memory at a time; the order of rows is that of the files.

        Args:
            table: which.
            columns: which, all by default.
            version: the newest by default.
            where: keeps rows whose columns equal these values.
            between: keeps rows whose columns lie in [first, last).

        Raises:
            StoreError: no such table, version or column.
        """
        dataset = self.dataset(table, version)
        for name in [*(columns or ()), *(where or ()), *(between or ())]:
            if name not in dataset.schema.names:
                raise StoreError(
                    f"column {name} of {table}",
                    found="no such column",
                    remedy=nearest(name, dataset.schema.names),
                    where=self.url,
                )
        # Files that delta-rs rewrote hold views of text, which Arrow's scan does not compare: that is done behind it.
        texts = {n: v for n, v in (where or {}).items() if not pa.types.is_primitive(dataset.schema.field(n).type)}
        names = dataset.schema.names if columns is None else list(columns)
        plain = {n: v for n, v in (where or {}).items() if n not in texts}
        with _Explained(self.url, table):
            scanner = dataset.scanner(
                columns=list(dict.fromkeys([*names, *texts])),
                filter=matching(plain, between, dataset.schema),
                batch_size=_BATCH_ROWS,
                batch_readahead=2,
                fragment_readahead=1,
            )
            reader = scanner.to_reader()
        schema = pa.schema([reader.schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(schema, self._streamed(table, reader, texts, names))

    def _streamed(
        self, table: str, reader: pa.RecordBatchReader, texts: Mapping[str, Any], names: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        with _Explained(self.url, table):
            for batch in reader:
                kept = batch
                for name, value in texts.items():
                    wanted = pa.scalar(value, kept.schema.field(name).type)
                    kept = kept.filter(pc.fill_null(pc.equal(kept.column(name), wanted), False))
                yield kept.select(names)

    def additions(
        self, table: str, columns: Sequence[str] | None = None, *, version: int | None = None
    ) -> Iterator[tuple[TableVersion, pa.RecordBatch]]:
        """Streams the rows that each version added, oldest first, a file's row group at a time.

        Args:
            table: which.
            columns: which, all by default.
            version: the last one looked at, the newest by default.

        Raises:
            StoreError: no such table.
        """
        known = [v for v in self.versions(table) if version is None or v.version <= version]
        with _Explained(self.url, table):
            for added, rows in additions([(v, self._table(table, v.version)) for v in known]):
                for fragment in rows.get_fragments():
                    names = None if columns is None else list(columns)
                    found = fragment.to_table(schema=rows.schema, columns=names, batch_size=_BATCH_ROWS)
                    for batch in found.to_batches(max_chunksize=_BATCH_ROWS):
                        yield added, batch

    def dataset(self, table: str, version: int | None = None) -> ds.Dataset:
        """The files of a version, with the statistics that let a scan skip some."""
        with _Explained(self.url, table):
            return self._table(table, version).to_pyarrow_dataset()

    def version(self, table: str) -> int:
        """The newest version."""
        return int(self._table(table).version())

    def versions(self, table: str) -> list[TableVersion]:
        """All versions still known, oldest first; commit times never fall."""
        with _Explained(self.url, table):
            history = self._table(table).history()
        found, last_us = [], -(2**63)
        for entry in reversed(history):
            last_us = max(last_us, int(entry.get(_COMMITTED, entry["timestamp"] * 1_000)))
            details = {key: value for key, value in entry.items() if isinstance(value, str)}
            found.append(TableVersion(entry["version"], last_us, entry["operation"], details))
        return found

    def merge(self, table: str, rows: pa.Table, key: Sequence[str]) -> LakeCommit:
        """Replaces rows of equal key and adds the others; null equals null.

        Raises:
            DataError: a key is twice among the rows, or columns do not fit.
        """
        if rows.group_by(list(key)).aggregate([([], "count_all")]).num_rows != rows.num_rows:
            raise DataError(
                f"merge rows of different keys {list(key)!r} into {table}",
                found="a key twice",
                remedy="keep one row of each key",
                where=self.url,
            )
        on = " AND ".join(f"target.{quoted(name)} IS NOT DISTINCT FROM source.{quoted(name)}" for name in key)
        for _ in range(_ATTEMPTS):
            with _Explained(self.url, table):
                handle = self._table(table)
                data = fitted(rows, pa.schema(handle.schema().to_arrow()), table)
                merger = handle.merge(
                    data, on, source_alias="source", target_alias="target", commit_properties=self._commit({})
                )
                try:
                    merger.when_matched_update_all().when_not_matched_insert_all().execute()
                except CommitFailedError:
                    continue
                self._sync(table, handle.version())
                return LakeCommit(handle.version())
        raise self._too_busy(table)

    def erase(self, table: str, key: Mapping[str, Any], *, reason: str, versions: bool = False) -> int:
        """Takes rows whose columns equal `key` out of the table, then deletes the files of all older versions.

        Versions before this one can no longer be read.

        Args:
            versions: rows of one id and partition are versions of one event, as a sink writes them: those before an
                erased one go with it, or they would count again.

        Raises:
            StoreError: no such table or column, or no column named.
        """
        if not key:
            raise StoreError("erase rows by a key", found="no column", remedy="name at least one column and its value")
        n = sum(len(batch) for batch in self.read(table, list(key)[:1], where=key))
        if n and versions:
            n += self._erase_former(table, key)
        if n:
            predicate = " AND ".join(f"{quoted(name)} = {literal(value)}" for name, value in key.items())
            with _Explained(self.url, table):
                handle = self._table(table)
                handle.delete(predicate, commit_properties=self._commit({"penstock_erased": reason}))
                self._sync(table, handle.version())
            left = sum(len(batch) for batch in self.read(table, list(key)[:1], where=key))
            if left:
                raise StoreError(
                    f"erase {n} rows of {table}", found=f"{left} left", remedy="erase again", where=self.url
                )
        self.vacuum(table, 0)
        self._forget_history(table)
        return n

    def rewrite(self, table: str, change: Change, place: Sequence[str]) -> int:
        """Gives rows other values, or takes them out, then deletes the files of all older versions; how many rows.

        Args:
            change: decides about rows.
            place: columns that tell one row from another.
        """
        found: list[pa.RecordBatch] = []
        for batch in self.read(table):
            changed = change(batch)
            if changed is None:
                continue
            for name in changed.values.schema.names:
                at = batch.schema.get_field_index(name)
                batch = batch.set_column(at, batch.schema.field(at), changed.values.column(name))  # noqa: PLW2901
            touched = pa.array(~changed.keep | changed.differs)
            batch = batch.append_column(_GONE, pa.array(~changed.keep))  # noqa: PLW2901
            found.append(batch.filter(touched))
        if found:
            rows = pa.Table.from_batches(found)
            on = " AND ".join(f"target.{quoted(name)} = source.{quoted(name)}" for name in place)
            with _Explained(self.url, table):
                handle = self._table(table)
                merger = handle.merge(
                    rows, on, source_alias="source", target_alias="target", commit_properties=self._commit({})
                )
                updates = {quoted(n): f"source.{quoted(n)}" for n in rows.column_names if n != _GONE}
                merger.when_matched_delete(predicate=f"source.{_GONE}").when_matched_update(updates).execute()
                self._sync(table, handle.version())
        self.vacuum(table, 0)
        self._forget_history(table)
        return sum(batch.num_rows for batch in found)

    def compact(self, table: str) -> int:
        """Joins small files; how many files fewer."""
        with _Explained(self.url, table):
            handle = self._table(table)
            metrics = handle.optimize.compact(commit_properties=self._commit({}))
            self._sync(table, handle.version())
        return int(metrics["numFilesRemoved"]) - int(metrics["numFilesAdded"])

    def vacuum(self, table: str, keep_us: int) -> int:
        """Deletes files that no version younger than `keep_us` uses; how many. Older versions cannot be read then."""
        hours = -(-keep_us // 3_600_000_000)
        with _Explained(self.url, table):
            handle = self._table(table)
            gone = handle.vacuum(
                hours, dry_run=False, enforce_retention_duration=False, commit_properties=self._commit({})
            )
        return len(gone)

    def _erase_former(self, table: str, key: Mapping[str, Any]) -> int:
        """Takes out earlier versions, under other keys, of the events that have the key; how many."""
        rows = self.read(table, [ID, PARTITION, OFFSET], where=key).read_all()
        last = rows.filter(pc.is_valid(rows[ID])).group_by([ID, PARTITION]).aggregate([(OFFSET, "max")])
        on = f"target.{ID} = source.{ID} AND target.{PARTITION} = source.{PARTITION}"
        with _Explained(self.url, table):
            handle = self._table(table)
            merger = handle.merge(
                last, on, source_alias="source", target_alias="target", commit_properties=self._commit({})
            )
            done = merger.when_matched_delete(predicate=f"target.{OFFSET} < source.{OFFSET}_max").execute()
            self._sync(table, handle.version())
        return int(done["num_target_rows_deleted"])

    def _forget_history(self, table: str) -> None:
        """Deletes the log entries of all versions before the newest, which tell least and greatest values.

        A checkpoint stands for them first, transactions of applications included.
        """
        import fsspec  # delta-rs only deletes entries that are a month old

        with _Explained(self.url, table):
            handle = self._table(table)
            handle.create_checkpoint()
            files, root = fsspec.core.url_to_fs(self._uri(table), **self.storage_options)
            log = f"{root}/_delta_log"
            if self.local is not None:
                for path in (*files.glob(f"{log}/*.checkpoint*.parquet"), f"{log}/_last_checkpoint", log):
                    _fsync(Path(path))
            for path in files.glob(f"{log}/*.json"):
                if int(Path(path).stem) < handle.version():
                    files.rm(path)
            for path in files.glob(f"{log}/*.checkpoint*.parquet"):
                if int(Path(path).name.partition(".")[0]) < handle.version():
                    files.rm(path)

    def sql(self, query: str, versions: Mapping[str, int] | None = None) -> pa.RecordBatchReader:
        """Streams the result of a DuckDB query over the tables, named as they are; it sees no other files.

        Args:
            query: one SELECT.
            versions: of tables to be read at another version than the newest.

        Raises:
            StoreError: DuckDB refuses the query.
        """
        import duckdb  # only queries need it

        connection = duckdb.connect()
        try:
            for table in self.tables():
                if table in query:
                    connection.register(table, self.dataset(table, (versions or {}).get(table)))
            connection.execute("SET enable_external_access = false")
            result = connection.sql(query)
            if result is None:
                raise StoreError("query the lake", found="no rows to return", remedy="write one SELECT", where=self.url)
            return result.to_arrow_reader(_BATCH_ROWS)
        except duckdb.Error as error:
            raise StoreError(
                "query the lake", found=str(error)[:1000], remedy=f"tables: {', '.join(self.tables())}", where=self.url
            ) from error

    def _uri(self, table: str) -> str:
        if not table or "/" in table or table.startswith("."):
            raise StoreError("a table has a plain name", found=repr(table), remedy="leave / out of it", where=self.url)
        return f"{self.url}/{table}"

    def _table(self, table: str, version: int | None = None) -> DeltaTable:
        uri = self._uri(table)
        try:
            return DeltaTable(uri, version=version, storage_options=self.storage_options)
        except TableNotFoundError as error:
            raise StoreError(
                f"table {table}",
                found="no such table in the lake",
                remedy=nearest(table, self.tables()),
                where=self.url,
            ) from error
        except DeltaError as error:
            raise StoreError(
                f"version {version} of table {table}" if version is not None else f"table {table}",
                found=str(error)[:500],
                remedy="versions lists those that can be read",
                where=self.url,
            ) from error

    def _commit(self, details: Mapping[str, str], transactions: Sequence[Transaction] = ()) -> CommitProperties:
        metadata = {**details, _COMMITTED: str(self.clock.now_us())}
        return CommitProperties(
            custom_metadata=metadata, app_transactions=list(transactions) or None, max_commit_retries=0
        )

    def _sync(self, table: str, version: int) -> None:
        """Brings a commit and the files it adds to the disk, which delta-rs leaves to the page cache."""
        if self.local is None:
            return
        place = self.local / table
        entry = place / "_delta_log" / f"{version:020d}.json"
        added = [
            action["add"]["path"]
            for line in entry.read_bytes().splitlines()
            if "add" in (action := msgspec.json.decode(line))
        ]
        directories = {place, entry.parent, self.local}
        for file in [*(place / path for path in added), entry]:
            directories.add(file.parent)
            _fsync(file)
        for directory in directories:
            _fsync(directory)

    def _too_busy(self, table: str) -> StoreError:
        return StoreError(
            f"commit to table {table}",
            found=f"{_ATTEMPTS} attempts lost to other writers",
            remedy="let fewer processes write to it",
            where=self.url,
        )


class _Explained:
    """Turns what delta-rs and Arrow raise into errors with a remedy."""

    def __init__(self, url: str, table: str) -> None:
        self._url, self._table = url, table

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SchemaMismatchError):
            raise DataError(
                f"rows that fit table {self._table}", found=str(error)[:500], remedy="see its schema", where=self._url
            ) from error
        if isinstance(error, (DeltaError, OSError)) and not isinstance(error, CommitFailedError):
            text = str(error)
            full = "No space left" in text or "File too large" in text
            raise StoreError(
                f"use table {self._table}",
                found=text[:1000],
                remedy="free space on the disk; no commit was made" if full else "see the cause",
                where=self._url,
            ) from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
