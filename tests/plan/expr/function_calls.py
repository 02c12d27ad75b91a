"""Calls of every signature of every function, as texts over columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from penstock.plan.expr import Column, Schema, Type
from penstock.plan.expr.registry import Function, Overload, functions
from penstock.plan.expr.types import DATE

# Literals for the arguments that must be literals, by function; one set of them per case.
LITERALS: dict[str, list[tuple[str, ...]]] = {
    "round": [(), ("0",), ("2",), ("-2",)],
    "trim": [(), ("'aA'",)],
    "ltrim": [(), ("'aA'",)],
    "rtrim": [(), ("'aA'",)],
    "substring": [("1",), ("2", "3"), ("-3", "2"), ("0", "2"), ("3", "-2")],
    "replace": [("'a'", "'xy'"), ("''", "'x'"), ("'é'", "''")],
    "translate": [("'aé'", "'x'"), ("'ab'", "'bay'")],
    "contains": [("'a'",), ("''",)],
    "starts_with": [("'a'",), ("''",)],
    "ends_with": [("'b'",), ("''",)],
    "regexp_matches": [("'[ab]+'",), ("'^a'", "'i'"), ("'a.b'", "'s'")],
    "regexp_full_match": [("'[a-c]*'",), ("'a|abc'",), ("'A.*'", "'i'")],
    "regexp_extract": [("'[a-c]+'",), ("'(a)(.)'", "2"), ("'(?:x)?(b)'", "1", "'i'")],
    "regexp_replace": [("'a'", "'-'"), ("'(a)(.)'", r"'\2\1'", "'g'")],
    "date_part": [("'hour'",), ("'dow'", "'America/New_York'"), ("'week'",), ("'isoyear'", "'Asia/Shanghai'")],
    "date_trunc": [(f"'{u}'",) for u in ("second", "minute", "hour", "day", "week", "month", "quarter", "year")]
    + [("'day'", "'Asia/Kolkata'")],
    "date_diff": [(f"'{u}'",) for u in ("second", "minute", "hour", "day", "week", "month", "quarter", "year")]
    + [("'day'", "'Asia/Kolkata'")],
    "time_bucket": [("15min",), ("1w",), ("7us",)],
    "strftime": [("'%Y-%m-%dT%H:%M:%S.%f %j %y %I %p %a %A %b %B %g%%'",), ("'%H %d'", "'Asia/Kolkata'")],
    "strptime": [("'%Y-%m-%d'",)],
    "utc_offset": [("'America/New_York'",), ("'UTC'",)],
    "json_extract": [("'$.a'",), ("'a'",), ("'$.a[1].b'",), ("'/a/0'",), ("'$[1]'",)],
    "json_extract_string": [("'$.a'",), ("'a'",), ("'$.a[1].b'",), ("'$.d'",), ("'$[0]'",)],
    "json_array_length": [(), ("'$.a'",)],
    "json_keys": [(), ("'$.a'",)],
    "json_type": [(), ("'$.a'",), ("'$[1]'",)],
    "hash_bucket": [("10",)],
    # a local time that occurs twice is the first of the two here, the second in DuckDB
    "add_months": [(), ("'Asia/Kolkata'",)],
    "add_days": [(), ("'Asia/Kolkata'",)],
    "make_timestamptz": [(), ("'Asia/Kolkata'",)],
    "list_transform": [("lambda v: v IS NULL",), ("v -> v",), ("lambda v, i: i * 2",), ("(v, i) -> coalesce(v, v)",)],
    "list_filter": [("lambda v: v IS NOT NULL",), ("lambda v, i: i > 1",), ("v -> v = v",)],
    "json_exists": [("'$.a'",), ("'$.d'",), ("'$[0]'",)],
}
ZONED = [(), ("'America/New_York'",), ("'Asia/Kolkata'",)]
VARIABLES = [{"T": "int", "K": "text", "V": "float"}, {"T": "text", "K": "int", "V": "text"}]


def cases(only_in_duckdb: bool) -> Iterator[Any]:
    seen: set[int] = set()
    for function in functions().values():
        if id(function) in seen:
            continue
        seen.add(id(function))
        for overload in function.overloads:
            if only_in_duckdb and overload.duckdb is None:
                continue
            variables = VARIABLES if any(f"{v}" in overload.signature.split("(")[1] for v in "TK") else VARIABLES[:1]
            for held in variables:
                name = overload.signature + (f" T={held['T']}" if len(variables) > 1 else "")
                yield pytest.param(function, overload, held, id=name)


def written(pattern: Any, variables: dict[str, str]) -> str:
    name: str = variables.get(
        pattern.name, {"decimal": "decimal(12,2)", "lambda": "text"}.get(pattern.name, pattern.name)
    )
    return name + (f"<{', '.join(written(p, variables) for p in pattern.args)}>" if pattern.args else "")


def calls(
    function: Function, overload: Overload, variables: dict[str, str], nullable: bool = True
) -> list[tuple[str, Schema]]:
    """Texts that call the overload, with the schema of their columns."""
    kinds = [Type.parse(written(p.pattern, variables)) for p in overload.params]
    constants = [p for p in overload.params if p.constant]
    sets = LITERALS.get(function.name, ZONED) if constants else [()]
    if kinds and DATE in kinds:
        sets = [held for held in sets if held[:1] not in (("'hour'",), ("'minute'",), ("'second'",))]
    found = []
    for literals in sets:
        if sum(not p.optional for p in constants) <= len(literals) <= len(constants):
            left, args, columns = list(literals), [], []
            for at, (param, kind) in enumerate(zip(overload.params, kinds, strict=True)):
                if param.constant:
                    args += [left.pop(0)] if left else []
                else:
                    columns.append(Column(f"x{at}", kind, nullable))
                    args.append(f"x{at}")
            found.append((f"{function.name}({', '.join(args)})", Schema(columns)))
    return found
