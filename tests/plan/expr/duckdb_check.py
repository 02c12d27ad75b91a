"""An expression evaluated here and, by the text of `Expression.sql`, in DuckDB."""

from __future__ import annotations

import math
from typing import Any

import duckdb
import pyarrow as pa

from penstock.plan.expr import Schema, Type, compile

CONNECTION = duckdb.connect(config={"threads": 1})
CONNECTION.execute("SET GLOBAL TimeZone = 'UTC'")


def in_duckdb(text: str, table: pa.Table, kind: Type) -> list[Any]:
    if kind.name == "duration":
        text, wanted = f"epoch_us({text})", pa.int64()
    else:
        wanted = kind.arrow
    cursor = CONNECTION.cursor()
    cursor.register("rows", table)
    found = cursor.sql(f"SELECT {text} AS v FROM rows").to_arrow_table().column("v").cast(wanted)
    cursor.close()
    return plain(found)


def plain(found: Any) -> list[Any]:
    """Python values; instants and durations, which may lie beyond Python's years, as ints."""
    temporal = pa.types.is_timestamp(found.type) or pa.types.is_duration(found.type)
    return (found.cast(pa.int64()) if temporal else found).to_pylist()  # type: ignore[no-any-return]


def same(ours: Any, theirs: Any, near: bool) -> bool:
    if near and isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12)
    return bool(ours == theirs)


def compare(text: str, schema: Schema, rows: list[dict[str, Any]], near: bool = False) -> None:
    """Asserts that both give the same values; `near` leaves the last digits of floats open."""
    expression = compile(text, schema)
    table = pa.Table.from_pylist(rows, schema=schema.arrow) if schema else pa.table({"n": [0] * len(rows)})
    ours = plain(expression.evaluate(table))
    sql = expression.sql("duckdb")
    theirs = in_duckdb(sql, table, expression.type)
    for row, a, b in zip(rows, ours, theirs, strict=True):
        assert same(a, b, near), f"{text} on {row}: {a!r}, DuckDB {b!r} by {sql}"
