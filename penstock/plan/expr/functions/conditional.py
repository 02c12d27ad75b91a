"""Functions that choose between values."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr.kernels import Kernel, arrow, length_of, scalar, vector
from penstock.plan.expr.registry import Family, Site
from penstock.plan.expr.types import BOOL

__all__ = ["CONDITIONAL"]

CONDITIONAL = Family("conditional", "Choices")
_coalesce, _if_else = arrow("coalesce"), arrow("if_else")
_equal = arrow("equal")
_false = scalar(False, BOOL)


def _first(site: Site) -> Kernel:
    def run(*args: Any) -> Any:
        if site.types[0].name in ("list", "map", "struct"):
            return _first_nested(*args)
        return vector(_coalesce(*args), length_of(args))

    return run


def _first_nested(*args: Any) -> Any:
    found = vector(args[-1], length_of(args))
    for arg in args[-2::-1]:
        held = vector(arg, len(found))
        found = _if_else(held.is_valid(), held, found)
    return found


CONDITIONAL.add("coalesce(T, T*) -> T", "The first value that is not null.", make=_first, nulls="all")
CONDITIONAL.add(
    "ifnull(T, T) -> T", "The value, or the other where it is null.", make=_first, nulls="all", aliases=("nvl",)
)


def _null_if(left: Any, right: Any) -> Any:
    n = length_of((left, right))
    return _if_else(_coalesce(_equal(left, right), _false), pa.nulls(1, left.type)[0], vector(left, n))


CONDITIONAL.add("nullif(T, T) -> T", "Null where the two are equal, else the first.", kernel=_null_if, nulls="maybe")


def _if(condition: Any, then: Any, otherwise: Any) -> Any:
    n = length_of((condition, then, otherwise))
    return _if_else(vector(_coalesce(condition, _false), n), vector(then, n), vector(otherwise, n))


CONDITIONAL.add(
    "if(bool, T, T) -> T",
    "The first value where the condition is true, else the second.",
    kernel=_if,
    duckdb="CASE WHEN {0} THEN {1} ELSE {2} END",
    aliases=("iff",),
    rule="a null condition is not true",
    nulls="values",
)
_SKIP = pc.ElementWiseAggregateOptions(skip_nulls=True)
CONDITIONAL.add(
    "greatest(T, T*) -> T",
    "The greatest of the values, nulls left out.",
    nulls="all",
    kernel=arrow("max_element_wise", _SKIP),
    rule="text by its bytes",
)
CONDITIONAL.add(
    "least(T, T*) -> T",
    "The least of the values, nulls left out.",
    nulls="all",
    kernel=arrow("min_element_wise", _SKIP),
    rule="text by its bytes",
)
