"""Expressions compiled once and evaluated on tables of any number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from penstock.errors import DataError, ExpressionError, Location, nearest
from penstock.plan.expr.binder import bind
from penstock.plan.expr.bound import Bound, to_duckdb
from penstock.plan.expr.kernels import clean_nested
from penstock.plan.expr.parser import parse
from penstock.plan.expr.syntax import Node, depth, write
from penstock.plan.expr.types import NULL, Column, Schema
from penstock.plan.expr.user import UserFunction
from penstock.plan.expr.zones import UTC, check_zone

__all__ = ["Expression", "compile"]

_MAX_DEPTH = 200  # far below what the stack holds
_HOLD_FLOATS = frozenset({"float", "list", "map", "struct"})

NO_FUNCTIONS: Mapping[str, UserFunction] = MappingProxyType({})


class Expression:
    """A SQL scalar expression, typed, with the columns it reads; made by `compile`.

    Attributes:
        text: the canonical text; equal for texts that differ in spacing, case of keywords, or parentheses.
        type: the type of its values.
        nullable: False only where no row with the schema's nullability can give null.
        columns: the input columns it reads, its lineage.
        tree: the syntax tree.
    """

    __slots__ = ("_bound", "_inputs", "columns", "nullable", "text", "tree", "type")

    def __init__(self, tree: Node, bound: Bound, inputs: tuple[Column, ...]) -> None:
        self.text, self.tree = write(tree), tree
        self.type, self.nullable, self.columns = bound.type, bound.nullable, bound.columns
        self._bound, self._inputs = bound, inputs

    def evaluate(self, table: pa.Table | pa.RecordBatch) -> Any:
        """The values, one per row, of exactly `type.arrow`.

        Args:
            table: holds the columns of the expression by name; more columns do not matter. Narrower Arrow types
                (int32, dictionaries...) are widened. NaN and infinities in its float columns count as null.

        Returns:
            An array for a record batch, a chunked array for a table.

        Raises:
            DataError: a column is missing or of another type; a user's function failed.
        """
        if isinstance(table, pa.RecordBatch):
            return self._batch(table)
        if table.num_columns and table.num_rows:
            names = [column.name for column in self._inputs]
            if names and len(set(names) - set(table.column_names)) == 0:
                table = table.select(names)
            batches = table.to_batches()
            return pa.chunked_array([self._batch(batch) for batch in batches], self.type.arrow)
        empty = pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)
        return pa.chunked_array([self._batch(empty)], self.type.arrow)

    def _batch(self, batch: pa.RecordBatch) -> Any:
        n = batch.num_rows
        frame: list[Any] = [n]
        for column in self._inputs:
            frame.append(_input(batch, column))
        found = self._bound.run(frame)
        if isinstance(found, pa.Scalar):
            return pa.repeat(found, n)
        if len(found) != n:
            raise AssertionError(f"{self.text} gave {len(found)} values for {n} rows")
        return found if found.type == self.type.arrow else found.cast(self.type.arrow)

    def sql(self, dialect: str = "duckdb") -> str:
        """SQL of a dialect that gives the same values, frozen rules included.

        Raises:
            ExpressionError: the dialect is not built, or has no equivalent of a function used.
        """
        if dialect != "duckdb":
            raise ExpressionError(
                "this dialect is not built",
                found=repr(dialect),
                remedy="duckdb is; Flink and Spark come with their engines",
            )
        text = to_duckdb(self._bound)
        if text is None:
            raise ExpressionError(
                "DuckDB has no equivalent of a function used here",
                found=self.text,
                remedy="evaluate it as a column first",
            )
        return text

    def __repr__(self) -> str:
        return f"Expression({self.text!r}: {self.type}{'' if self.nullable else ' not null'})"


def _input(batch: pa.RecordBatch, column: Column) -> Any:
    try:
        values = batch.column(column.name)
    except KeyError:
        raise DataError(
            "a column that an expression reads is not in the batch",
            found=repr(column.name),
            remedy=nearest(column.name, batch.schema.names),
        ) from None
    wanted = column.type.arrow
    if values.type != wanted:
        values = _widened(values, column)
    return clean_nested(values, column.type) if column.type.name in _HOLD_FLOATS else values


def _widened(values: Any, column: Column) -> Any:
    wanted = column.type.arrow
    if pa.types.is_timestamp(values.type) and not values.type.tz:
        raise DataError(
            f"column {column.name} holds local times, which are no instants until a zone is named",
            found=str(values.type),
            remedy="give the source a zone, as in zone='America/New_York' (or 'UTC')",
        )
    try:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        return values.cast(wanted, safe=not pa.types.is_temporal(wanted))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"column {column.name} is {column.type}", found=f"{values.type}: {error}", remedy="convert it at the door"
        ) from error


def compile(
    text: str,
    schema: Schema,
    functions: Mapping[str, UserFunction] = NO_FUNCTIONS,
    where: Location | None = None,
    *,
    zone: str = UTC,
) -> Expression:
    """Compiles a SQL scalar expression against the columns it may read. Equal calls share one result.

    Args:
        text: the expression, in DuckDB's grammar; see docs/functions.md.
        schema: the columns.
        functions: the user's own row functions, by name; they come before built-in ones.
        where: the definition, for errors.
        zone: where dates and instants meet, and the zone of functions of local time called without one.

    Raises:
        ExpressionError: the text does not parse or type; the error points at the place.

    >>> half = compile("a / 2", Schema.of(a="int"))
    >>> half.evaluate(pa.table({"a": [1, 2]})).to_pylist(), half.type.name, sorted(half.columns)
    ([0.5, 1.0], 'float', ['a'])
    """
    try:
        if check_zone(zone):
            raise ExpressionError("there is no such zone", found=repr(zone), remedy=check_zone(zone))
        return _compiled(text, schema, tuple((name.lower(), function) for name, function in functions.items()), zone)
    except ExpressionError as error:
        error.where = error.where or where
        raise


@lru_cache(maxsize=16_384)
def _compiled(text: str, schema: Schema, functions: tuple[tuple[str, UserFunction], ...], zone: str) -> Expression:
    tree = parse(text)
    if depth(tree) > _MAX_DEPTH:
        raise ExpressionError(
            f"an expression is at most {_MAX_DEPTH} operators deep",
            found=text[:60] + "...",
            remedy="name a part as its own column, or use IN",
        )
    bound, inputs = bind(text, tree, schema, dict(functions), zone)
    if bound.type == NULL:
        raise ExpressionError("the expression has no type", found=text, remedy="write CAST(NULL AS float)")
    return Expression(tree, bound, inputs)
