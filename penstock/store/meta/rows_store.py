"""Rows of workflows in SQL: a list of changes in one transaction, each a compare-and-set; and reading, page by page.

The statements are plain SQL of both dialects, made once per table and run by the driver with `executemany`:
SQLAlchemy Core takes half as long again for the same (figures in `docs/design/workflow.md`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from penstock.errors import StoreError
from penstock.store.meta.rows import ROWS, Row, RowChange, key_of

__all__ = ["ConflictError", "RowStore", "merge"]

R = TypeVar("R", bound=Row)


class ConflictError(StoreError):
    """A row was not as a change expected it: somebody else has moved. Nothing was written."""

    code = "PS510"


class _Statements:
    """The three statements of a table, and how a row gives their parameters."""

    def __init__(self, row: type[Row], mark: str) -> None:
        fields = row.__struct_fields__
        free = tuple(name for name in fields if name not in row.KEY and name not in row.FIXED)
        where = " AND ".join(f'"{name}" = {mark}' for name in (*row.KEY, *row.EXPECT))
        names, marks = ", ".join(f'"{name}"' for name in fields), ", ".join([mark] * len(fields))
        self.insert = f'INSERT INTO "{row.TABLE}" ({names}) VALUES ({marks})'
        self.update = (
            f'UPDATE "{row.TABLE}" SET {", ".join(f"{chr(34)}{n}{chr(34)} = {mark}" for n in free)} WHERE {where}'
        )
        self.delete = f'DELETE FROM "{row.TABLE}" WHERE {where}'
        self.select = f'SELECT {names} FROM "{row.TABLE}"'
        self.values = _tuple_of(fields)
        self.free = _tuple_of(free)
        self.where = _tuple_of((*row.KEY, *row.EXPECT))


def _tuple_of(names: Sequence[str]) -> Callable[[Row], tuple[Any, ...]]:
    if not names:
        return lambda _row: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda row: (get(row),)


def merge(changes: Iterable[RowChange]) -> list[RowChange]:
    """The same changes with one a row: from how it was first to how it is last; what comes and goes is left out."""
    merged: dict[tuple[Any, ...], RowChange] = {}
    for before, after in changes:
        row = before if before is not None else after
        assert row is not None
        key = key_of(row)
        first = merged.get(key)
        if first is None:
            merged[key] = RowChange(before, after)
        else:
            assert first.after == before, f"{key}: a change starts from {before!r}, but {first.after!r} was left"
            merged[key] = RowChange(first.before, after)
    return [change for change in merged.values() if change.before != change.after]


class RowStore:
    """Workflow rows in one database. One thread commits; any thread reads."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        mark = "?" if self._sqlite else "%s"
        self._statements: Final = {row: _Statements(row, mark) for row in ROWS}
        self._writer: Any = None
        self._lock = threading.Lock()

    def commit(self, changes: Iterable[RowChange]) -> int:
        """Makes all changes durable together, or none; gives the number of rows written.

        Several changes of a row become one; the order between rows does not matter.

        Raises:
            ConflictError: a row to be made is there, or one to be changed is not as it was.
            StoreError: the database cannot write; nothing was written.
            Exception: the driver's own, for a value that it cannot write.
        """
        merged = merge(changes)
        if not merged:
            return 0
        groups: dict[tuple[type[Row], str], list[RowChange]] = {}
        for change in merged:
            row = change.after if change.after is not None else change.before
            assert row is not None
            action = "insert" if change.before is None else "delete" if change.after is None else "update"
            groups.setdefault((type(row), action), []).append(change)
        with self._lock, self._transaction() as cursor:
            for (row_type, action), members in groups.items():
                self._run(cursor, row_type, action, members)
        return len(merged)

    def _run(self, cursor: Any, row_type: type[Row], action: str, changes: list[RowChange]) -> None:
        of = self._statements[row_type]
        if action == "insert":
            parameters = [of.values(c.after) for c in changes if c.after is not None]
        elif action == "delete":
            parameters = [of.where(c.before) for c in changes if c.before is not None]
        else:
            parameters = [of.free(c.after) + of.where(c.before) for c in changes if c.before and c.after]
        try:
            cursor.executemany(getattr(of, action), parameters)
        except self._engine.dialect.loaded_dbapi.IntegrityError as error:
            raise _conflict(row_type, str(error)) from error
        if cursor.rowcount != len(changes):
            raise _conflict(row_type, f"{cursor.rowcount} of {len(changes)} rows as expected")

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A cursor in a transaction that holds the write lock from its start; a broken connection is not kept."""
        try:
            if self._writer is None:
                self._writer = self._engine.raw_connection()
            cursor = self._writer.cursor()
            if self._sqlite:
                cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                if self._sqlite:
                    cursor.execute("COMMIT")
                else:
                    self._writer.commit()
            except BaseException:
                self._abandon(cursor)
                raise
            finally:
                cursor.close()
        except self._engine.dialect.loaded_dbapi.DataError:
            raise  # a value that no disk would take: the asker's fault
        except (self._engine.dialect.loaded_dbapi.Error, DBAPIError) as error:
            self._forget()
            raise StoreError(
                "write the state of workflows",
                found=str(error),
                remedy="nothing was written; free space on the disk if it is full, else see the cause",
                where=str(self._engine.url.database),
            ) from error

    def _abandon(self, cursor: Any) -> None:
        try:
            if self._sqlite:
                cursor.execute("ROLLBACK")
            else:
                self._writer.rollback()
        except self._engine.dialect.loaded_dbapi.Error:
            self._forget()

    def _forget(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.invalidate()

    def read(self, row_type: type[R], where: str = "", parameters: Sequence[Any] = (), *, tail: str = "") -> list[R]:
        """Rows of a table; `where` and `tail` (order, limit) are SQL with `?` for each parameter.

        Raises:
            StoreError: the database cannot be read.
        """
        sql = self._statements[row_type].select + (f" WHERE {where}" if where else "") + (f" {tail}" if tail else "")
        return [row_type(*row) for row in self.query(sql, parameters)]

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Plain SQL of both dialects with `?` for each parameter.

        Raises:
            StoreError: the database cannot be read.
        """
        text = sql if self._sqlite else sql.replace("?", "%s")
        try:
            with self._engine.connect() as connection:
                return [tuple(row) for row in connection.exec_driver_sql(text, tuple(parameters))]
        except DBAPIError as error:
            raise StoreError(
                "read the state of workflows",
                found=str(error.orig),
                remedy="see the cause",
                where=str(self._engine.url.database),
            ) from error

    def close(self) -> None:
        """Lets go of the connection that writes."""
        with self._lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()


def _conflict(row_type: type[Row], found: str) -> ConflictError:
    return ConflictError(
        f"change rows of {row_type.TABLE} from what they were",
        found=found,
        remedy="somebody else has moved them: read them again and decide anew",
    )
