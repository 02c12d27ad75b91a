"""Tables of the lake by the plain names of the definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import sqlglot
from sqlglot import exp

from penstock.errors import DoorError, nearest

__all__ = ["plain_names", "with_full_names"]

_OF_DUCKDB: Final = ("duckdb_", "pg_", "sqlite_", "pragma_")


def plain_names(tables: Sequence[str]) -> dict[str, str]:
    """Plain name -> full name, where the newest version of one definition alone has it.

    >>> plain_names(["dev__default__main__clicks__v1", "dev__default__main__clicks__v2"])
    {'clicks': 'dev__default__main__clicks__v2'}
    """
    newest: dict[tuple[str, ...], tuple[int, str]] = {}
    for table in tables:
        parts = table.split("__")
        if len(parts) == 5 and parts[4][1:].isdigit():
            place = tuple(parts[:4])
            newest[place] = max(newest.get(place, (0, "")), (int(parts[4][1:]), table))
    counts = Counter(place[3] for place in newest)
    return {place[3]: table for place, (_, table) in newest.items() if counts[place[3]] == 1}


def with_full_names(query: str, tables: Sequence[str]) -> str:
    """A query with plain names of tables replaced by their full ones.

    Raises:
        DoorError: it does not parse, or names a table that the lake does not have.
    """
    try:
        tree = sqlglot.parse_one(query, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise DoorError("an SQL query", found=str(error).splitlines()[0], remedy="mend it") from error
    full = plain_names(tables)
    inner = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if table.db or table.name in inner or not isinstance(table.this, exp.Identifier):
            continue
        if table.name not in full and table.name not in tables and not table.name.startswith(_OF_DUCKDB):
            raise DoorError(
                f"the lake has a table {table.name!r}",
                found=f"{len(tables)} tables" if tables else "no table; `penstock lake sink` makes them",
                remedy=nearest(table.name, [*full, *(t for t in tables if t not in full.values())]),
            )
        if table.name in full:
            alias = table.alias or table.name
            table.set("this", exp.to_identifier(full[table.name], quoted=True))
            table.set("alias", exp.TableAlias(this=exp.to_identifier(alias)))
    return tree.sql(dialect="duckdb")
