"""Tables of the lake by the plain names of the definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import sqlglot
from sqlglot import exp

from penstock.errors import DoorError

__all__ = ["plain_names", "with_full_names"]


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
        DoorError: it does not parse.
    """
    try:
        tree = sqlglot.parse_one(query, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise DoorError("an SQL query", found=str(error).splitlines()[0], remedy="mend it") from error
    full = plain_names(tables)
    inner = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if not table.db and table.name in full and table.name not in inner:
            alias = table.alias or table.name
            table.set("this", exp.to_identifier(full[table.name], quoted=True))
            table.set("alias", exp.TableAlias(this=exp.to_identifier(alias)))
    return tree.sql(dialect="duckdb")
