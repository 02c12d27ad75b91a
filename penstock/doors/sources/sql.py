"""SQL tables as a source, read on by a column that only grows."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

import pyarrow as pa
import sqlalchemy as sa

from penstock.doors.sources.interface import Options, SourcePosition
from penstock.errors import DataError, DoorError, nearest

__all__ = ["SqlSource"]

BATCH_ROWS: Final = 8_192


class SqlSource:
    """A table or view behind SQLAlchemy, in the order of its cursor column.

    The cursor only grows, and a row is visible before a greater cursor is: rows that a slow transaction commits
    behind the position are not found. Rows that share the cursor value of the position are told apart by a digest of
    their values, so ties that arrive later are read and none is read twice; identical rows are counted. Rows whose
    cursor is null are never read.
    """

    kind: ClassVar[str] = "sql"
    option_names: ClassVar[tuple[str, ...]] = ("url", "table", "cursor")
    pushed: ClassVar[bool] = False

    def schema(self, options: Options) -> pa.Schema:
        """The columns as the database declares them.

        Raises:
            DoorError: the database or the table is not there, or a column's type is not known.
        """
        with _table(options) as (_, table):
            return _arrow_schema(table, options)

    def read(
        self, options: Options, position: SourcePosition | None = None
    ) -> Iterator[tuple[pa.RecordBatch, SourcePosition]]:
        """Batches from a position on.

        Raises:
            DoorError: the database or the table is not there.
            DataError: a value is not of its column's type.
        """
        with _table(options) as (connection, table):
            schema, cursor = _arrow_schema(table, options), table.c[options.text("cursor")]
            at = _At(position)
            query = sa.select(table).where(cursor.is_not(None)).order_by(cursor)
            if at.value is not None:
                query = query.where(cursor >= at.value)
            index = schema.get_field_index(cursor.name)
            streamed = connection.execution_options(stream_results=True, yield_per=BATCH_ROWS)
            for rows in _fetched(streamed.execute(query), options):
                new = at.take(rows, index)
                if new:
                    yield _batch(new, schema, options), at.position()

    def sample(self, options: Options, n: int) -> pa.Table:
        """The first `n` rows by the cursor."""
        found, rows = [], 0
        for batch, _ in self.read(options):
            found.append(batch)
            rows += batch.num_rows
            if rows >= n:
                break
        return pa.Table.from_batches(found, None if found else self.schema(options)).slice(0, n)


def _fetched(result: sa.CursorResult[Any], options: Options) -> Iterator[Sequence[Any]]:
    try:
        yield from result.partitions(BATCH_ROWS)
    except ValueError as error:  # SQLite keeps times as text, whatever was put in
        raise DataError(
            "every value is of its column's declared type",
            found=str(error)[:200],
            remedy="mend the row, or read a view that casts the column",
            where=f"{options.shown('url')}, table {options.shown('table')}",
        ) from error


class _At:
    """The cursor's value reached, and how often each row with that value was read."""

    def __init__(self, position: SourcePosition | None) -> None:
        position = position or {}
        self.value: Any = _decode(position["cursor"]) if position else None
        self.seen: dict[str, int] = dict(position.get("seen", {}))
        self.old: dict[str, int] = dict(self.seen)
        self.old_value = self.value

    def take(self, rows: Sequence[Any], index: int) -> list[Any]:
        """The rows that are new, in order; moves the position behind them."""
        new = []
        for row in rows:
            value = row[index]
            if value != self.value:
                self.value, self.seen = value, {}
            digest = _digest(row)
            if value == self.old_value and self.old.get(digest, 0) > 0:
                self.old[digest] -= 1
                continue
            self.seen[digest] = self.seen.get(digest, 0) + 1
            new.append(row)
        return new

    def position(self) -> SourcePosition:
        return {"cursor": _encode(self.value), "seen": dict(self.seen)}


def _digest(row: Sequence[Any]) -> str:
    return hashlib.blake2b(repr(tuple(row)).encode(), digest_size=8).hexdigest()


def _encode(value: Any) -> list[Any]:
    match value:
        case bool() | int() | float() | str():
            return ["plain", value]
        case datetime():
            return ["datetime", value.isoformat()]
        case date():
            return ["date", value.isoformat()]
        case Decimal():
            return ["decimal", str(value)]
    raise DoorError(
        "the cursor is a number, a text or a time",
        found=repr(value),
        remedy="choose another cursor column",
    )


def _decode(encoded: Sequence[Any]) -> Any:
    match encoded:
        case "datetime", str(text):
            return datetime.fromisoformat(text)
        case "date", str(text):
            return date.fromisoformat(text)
        case "decimal", str(text):
            return Decimal(text)
    return encoded[1]


@contextmanager
def _table(options: Options) -> Iterator[tuple[sa.Connection, sa.Table]]:
    """A connection and the reflected table; errors never show what the environment put into the URL."""
    name, where = options.text("table"), f"{options.shown('url')}, table {options.shown('table')}"
    engine = None
    try:
        engine = sa.create_engine(options.text("url"), poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            yield connection, _reflect(connection, name, options, where)
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        cause = getattr(error, "orig", None) or error
        raise DoorError(
            "the database can be read",
            found=f"{type(cause).__name__}: {options.scrub(_without_password(str(cause), options))[:300]}",
            remedy="look at the URL, the network, and the driver's installation",
            where=where,
        ) from None
    finally:
        if engine is not None:
            engine.dispose()


def _without_password(text: str, options: Options) -> str:
    try:
        password = sa.make_url(options.text("url")).password
    except sa.exc.ArgumentError:
        return text.replace(options.text("url"), options.shown("url"))
    return text.replace(str(password), "***") if password else text


def _reflect(connection: sa.Connection, name: str, options: Options, where: str) -> sa.Table:
    schema, _, plain = name.rpartition(".")
    inspector = sa.inspect(connection)
    known = [*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)]
    if plain not in known:
        raise DoorError("there is such a table", found=repr(plain), remedy=nearest(plain, known), where=where)
    table = sa.Table(plain, sa.MetaData(), schema=schema or None, autoload_with=connection)
    cursor = options.text("cursor")
    if cursor not in table.c:
        raise DoorError(
            "the cursor is a column of the table",
            found=repr(cursor),
            remedy=nearest(cursor, table.c.keys()),
            where=where,
        )
    return table


def _arrow_schema(table: sa.Table, options: Options) -> pa.Schema:
    return pa.schema([pa.field(c.name, _arrow_type(c, options), c.nullable is not False) for c in table.c])


def _arrow_type(column: sa.Column[Any], options: Options) -> pa.DataType:
    kind = column.type
    match kind:
        case sa.Boolean():
            return pa.bool_()
        case sa.Integer():
            return pa.int64()
        case sa.Float():
            return pa.float64()
        case sa.Numeric():
            return pa.decimal128(kind.precision or 38, kind.scale or (0 if kind.precision else 9))
        case sa.DateTime():
            return pa.timestamp("us", "UTC" if kind.timezone else None)
        case sa.Date():
            return pa.date32()
        case sa.LargeBinary():
            return pa.binary()
        case sa.String() | sa.Enum() | sa.Uuid():
            return pa.string()
    raise DoorError(
        f"the column {column.name!r} is of a type that can be read",
        found=str(kind),
        remedy="read a view that casts it to text or a number",
        where=f"{options.shown('url')}, table {options.shown('table')}",
    )


def _batch(rows: Sequence[Any], schema: pa.Schema, options: Options) -> pa.RecordBatch:
    arrays = []
    for index, field in enumerate(schema):
        values = [row[index] for row in rows]
        if pa.types.is_string(field.type):
            values = [v if v is None or isinstance(v, str) else str(v) for v in values]
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            row = next(i for i in itertools.count() if not _fits(values[i], field.type))
            raise DataError(
                f"column {field.name!r} holds {field.type}",
                found=repr(values[row]),
                remedy="mend the row, or read a view that casts the column",
                where=f"{options.shown('url')}, table {options.shown('table')}, row {tuple(rows[row])[:3]!r}...",
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True
