"""Functions of lists. Positions count from 1, from the end if negative; nulls in a list are elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr.access import list_at
from penstock.plan.expr.functions.text import TEXTS
from penstock.plan.expr.kernels import Kernel, arrow, ints, length_of, vector
from penstock.plan.expr.kernels import rowwise as _rowwise
from penstock.plan.expr.lambdas import filtered, list_of_body, transformed
from penstock.plan.expr.registry import Family, Site

__all__ = ["LISTS"]

LISTS = Family("lists", "Lists")
_add = LISTS.add
_ORDERED = frozenset({"bool", "int", "float", "decimal", "text", "date", "instant", "duration", "bytes", "null"})


def _rows(call: Callable[..., Any], *, skip_null: bool = True) -> Callable[[Site], Kernel]:
    """The maker of a row function over lists whose elements can be ordered and compared."""

    def make(site: Site) -> Kernel:
        for at, kind in enumerate(site.types):
            if kind.name == "list" and kind.element.name not in _ORDERED:
                raise site.refuse(at, f"elements of {kind} do not compare", "read a field of them first")
        return _rowwise(call, site.types, site.result, skip_null)

    return make


_count = arrow("list_value_length")
_to_int = arrow("cast", pc.CastOptions.safe(pa.int64()))
TEXTS.add("length(list<T>) -> int", kernel=lambda values: _to_int(_count(values)))


def _list_value(site: Site) -> Kernel:
    kind = site.result.arrow

    def run(*args: Any) -> Any:
        n, width = length_of(args), len(args)
        columns = [vector(arg, n) for arg in args]
        stacked = pa.concat_arrays(columns)
        # element j of row i lies at j * n + i
        order = ints(np.arange(n * width).reshape(width, n).T.ravel())
        offsets = ints(np.arange(n + 1) * width).cast(pa.int32())
        return pa.ListArray.from_arrays(offsets, stacked.take(order)).cast(kind)

    return run


_add(
    "list_value(T, T*) -> list<T>",
    "The list of the values; [a, b] too.",
    make=_list_value,
    nulls="never",
    aliases=("list_pack",),
)
_add(
    "list_extract(list<T>, int) -> T",
    "An element; list[n] too.",
    kernel=list_at,
    nulls="maybe",
    aliases=("list_element", "array_extract"),
    rule="null where there is none",
)


def _position(values: Sequence[Any], wanted: Any) -> int | None:
    for at, value in enumerate(values, 1):
        if value == wanted and value is not None:
            return at
    return None


_add(
    "list_contains(list<T>, T) -> bool",
    "True if the value is an element; x IN list too.",
    make=_rows(lambda values, wanted: wanted in values),
    aliases=("array_contains", "list_has", "array_has"),
)
_add(
    "list_position(list<T>, T) -> int",
    "Position of the first such element, null if there is none.",
    make=_rows(_position),
    duckdb="CASE WHEN {1} IS NOT NULL THEN list_position({0}, {1}) END",
    nulls="maybe",
    aliases=("list_indexof", "array_position", "array_indexof"),
)


def _kept(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _sum_ints(values: Sequence[int | None]) -> int | None:
    kept = _kept(values)
    return sum(kept) if kept else None


def _sum_floats(values: Sequence[float | None]) -> float | None:
    kept = _kept(values)
    try:
        return math.fsum(kept) if kept else None
    except OverflowError:
        return None


def _mean(values: Sequence[float | None]) -> float | None:
    total, n = _sum_floats(values), len(_kept(values))
    return None if total is None else total / n


def _deviation(values: Sequence[float | None]) -> float | None:
    kept = _kept(values)
    if len(kept) < 2:
        return None
    mean = _mean(kept)
    try:
        if mean is None:
            return None
        away = [v - mean for v in kept]  # the mean is rounded; what that adds is taken off again
        total = math.fsum(d * d for d in away) - math.fsum(away) ** 2 / len(away)
        return math.sqrt(max(total, 0.0) / (len(away) - 1))
    except OverflowError:
        return None


def _median(values: Sequence[float | None]) -> float | None:
    kept = sorted(_kept(values))
    half = len(kept) // 2
    if not kept:
        return None
    return float(kept[half] if len(kept) % 2 else kept[half - 1] / 2 + kept[half] / 2)


def _product(values: Sequence[float | None]) -> float | None:
    kept = _kept(values)
    return float(math.prod(kept)) if kept else None


_EMPTY = "nulls left out; null for none left"
_add(
    "list_sum(list<int>) -> int",
    "Sum of the elements.",
    row=_sum_ints,
    nulls="maybe",
    rule=_EMPTY + "; null on overflow",
    duckdb="TRY_CAST(list_sum({0}) AS BIGINT)",
)
_add("list_sum(list<float>) -> float", row=_sum_floats, nulls="maybe")
_add(
    "list_avg(list<float>) -> float",
    "Mean of the elements.",
    row=_mean,
    nulls="maybe",
    rule=_EMPTY,
    aliases=("list_mean",),
)
_add(
    "list_median(list<float>) -> float",
    "Middle element, or the mean of the two.",
    row=_median,
    nulls="maybe",
    rule=_EMPTY,
)
_add(
    "list_stddev_samp(list<float>) -> float",
    "Sample standard deviation (n - 1).",
    row=_deviation,
    nulls="maybe",
    rule=_EMPTY + "; null for one",
    aliases=("list_stddev",),
)
_add("list_product(list<float>) -> float", "Product of the elements.", row=_product, nulls="maybe", rule=_EMPTY)
_add(
    "list_min(list<T>) -> T",
    "Least element.",
    make=_rows(lambda v: min(_kept(v), default=None)),
    nulls="maybe",
    rule=_EMPTY,
    aliases=("array_min",),
)
_add(
    "list_max(list<T>) -> T",
    "Greatest element.",
    make=_rows(lambda v: max(_kept(v), default=None)),
    nulls="maybe",
    rule=_EMPTY,
    aliases=("array_max",),
)
_add("list_count(list<T>) -> int", "Number of elements that are not null.", row=lambda v: len(_kept(v)))
_add(
    "list_first(list<T>) -> T",
    "The first element.",
    row=lambda v: v[0] if v else None,
    nulls="maybe",
)
_add(
    "list_last(list<T>) -> T",
    "The last element.",
    row=lambda v: v[-1] if v else None,
    nulls="maybe",
)


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(_kept(values)))


_add(
    "list_distinct(list<T>) -> list<T>",
    "Its different elements, in order of appearance, without nulls.",
    make=_rows(_distinct),
    duckdb="list_filter({0}, lambda e, i: e IS NOT NULL AND list_position({0}, e) = i)",
    rule="in order of appearance (DuckDB: in no order)",
    aliases=("array_distinct",),
)
_add(
    "list_unique(list<T>) -> int",
    "Number of its different elements, without nulls.",
    make=_rows(lambda v: len(_distinct(v))),
    aliases=("array_unique",),
)


def _sorted(values: Sequence[Any], backwards: bool) -> list[Any]:
    return [None] * (len(values) - len(_kept(values))) + sorted(_kept(values), reverse=backwards)


def _sorted_ascending(values: Sequence[Any]) -> list[Any]:
    return _sorted(values, False)


def _sorted_descending(values: Sequence[Any]) -> list[Any]:
    return _sorted(values, True)


_add(
    "list_sort(list<T>) -> list<T>",
    "In ascending order, nulls first; text by its bytes.",
    make=_rows(_sorted_ascending),
    duckdb="list_sort({0}, 'ASC', 'NULLS FIRST')",
    aliases=("array_sort",),
)
_add(
    "list_reverse_sort(list<T>) -> list<T>",
    "In descending order, nulls first.",
    make=_rows(_sorted_descending),
    duckdb="list_sort({0}, 'DESC', 'NULLS FIRST')",
    aliases=("array_reverse_sort",),
)
_add("list_reverse(list<T>) -> list<T>", "Backwards.", row=lambda v: v[::-1], aliases=("array_reverse",))


def _slice(values: list[Any], begin: int, end: int) -> list[Any]:
    n = len(values)
    first = begin if begin >= 0 else max(n + begin + 1, 0)
    last = end if end >= 0 else n + end + 1
    return values[max(first, 1) - 1 : max(last, 0)]


_add(
    "list_slice(list<T>, int, int) -> list<T>",
    "The elements from one position to another, both included.",
    row=_slice,
    aliases=("array_slice",),
)
_add(
    "list_concat(list<T>, list<T>) -> list<T>",
    "The first followed by the second; a || b too.",
    row=lambda a, b: a + b,
    duckdb="CASE WHEN {0} IS NULL OR {1} IS NULL THEN NULL ELSE list_concat({0}, {1}) END",
    aliases=("list_cat", "array_concat", "array_cat"),
)
_add(
    "list_append(list<T>, T) -> list<T>",
    "With a value behind.",
    make=lambda site: _rowwise(lambda v, x: None if v is None else [*v, x], site.types, site.result, False),
    duckdb="CASE WHEN {0} IS NULL THEN NULL ELSE list_append({0}, {1}) END",
    aliases=("array_append",),
)
_add(
    "list_prepend(T, list<T>) -> list<T>",
    "With a value before.",
    make=lambda site: _rowwise(lambda x, v: None if v is None else [x, *v], site.types, site.result, False),
    duckdb="CASE WHEN {1} IS NULL THEN NULL ELSE list_prepend({0}, {1}) END",
    aliases=("array_prepend",),
)


_add(
    "list_transform(list<T>, lambda!) -> list<U>",
    "What a lambda gives for each element: list_transform(x, lambda v: v + 1).",
    make=transformed,
    result=list_of_body,
    aliases=("array_transform", "list_apply", "array_apply", "apply"),
    rule="x -> ... and (x, i) -> ... too, i counting from 1; columns of the row may be used",
)
_add(
    "list_filter(list<T>, lambda!) -> list<T>",
    "The elements for which a lambda is true: list_filter(x, lambda v: v > 0).",
    make=filtered,
    aliases=("array_filter", "filter"),
    rule="those for which it is null are left out",
)


def _any(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return not set(_kept(a)).isdisjoint(_kept(b))


def _all(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return set(_kept(b)) <= set(_kept(a))


def _common(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    wanted = set(_kept(b))
    return [value for value in _distinct(a) if value in wanted]


_add(
    "list_has_any(list<T>, list<T>) -> bool",
    "True if the two share an element that is not null.",
    make=_rows(_any),
    aliases=("array_has_any",),
)
_add(
    "list_has_all(list<T>, list<T>) -> bool",
    "True if every element of the second, nulls left out, is in the first.",
    make=_rows(_all),
    aliases=("array_has_all",),
)
_add(
    "list_intersect(list<T>, list<T>) -> list<T>",
    "The elements of the first that are in the second, each once, in order.",
    make=_rows(_common),
    duckdb=None,
    aliases=("array_intersect",),
)


def _jaccard(a: Sequence[Any], b: Sequence[Any]) -> float | None:
    one, two = set(_kept(a)), set(_kept(b))
    return len(one & two) / len(one | two) if one or two else None


_add(
    "list_jaccard(list<T>, list<T>) -> float",
    "Elements shared over elements in either.",
    make=_rows(_jaccard),
    duckdb=None,
    nulls="maybe",
    rule="null where both are empty",
)


def _joined(site: Site) -> Kernel:
    glue = str(site.constants[1])
    return _rowwise(lambda v: glue.join(_kept(v)), site.types[:1], site.result)


_add(
    "array_to_string(list<text>, text!) -> text",
    "Joined with a text between, nulls left out.",
    make=_joined,
    aliases=("list_to_string",),
    duckdb="CASE WHEN {0} IS NOT NULL THEN coalesce(array_to_string({0}, {1}), '') END",
)


def _vectors(call: Callable[[list[float], list[float]], float | None]) -> Callable[..., float | None]:
    def run(a: list[float | None], b: list[float | None]) -> float | None:
        if len(a) != len(b) or None in a or None in b or not a:
            return None
        try:
            return call(a, b)  # type: ignore[arg-type] # no None is left
        except (OverflowError, ZeroDivisionError):
            return None

    return run


def _dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


_VECTOR_RULE = "null where lengths differ, an element is null, or there are none"


def _vector_sql(name: str) -> str:
    whole = "len({0}) = len({1}) AND len({0}) > 0 AND list_count({0}) = len({0}) AND list_count({1}) = len({1})"
    # DuckDB refuses nulls also in rows that CASE leaves out
    sides = (f"list_transform({{{at}}}, lambda e: coalesce(e, 0))" for at in (0, 1))
    return f"CASE WHEN {whole} THEN {name}({', '.join(sides)}) END"


_add(
    "list_dot_product(list<float>, list<float>) -> float",
    "Sum of the products of elements.",
    row=_vectors(_dot),
    nulls="maybe",
    rule=_VECTOR_RULE,
    duckdb=_vector_sql("list_dot_product"),
    aliases=("list_inner_product",),
)
_add(
    "list_distance(list<float>, list<float>) -> float",
    "Euclidean distance.",
    row=_vectors(math.dist),
    nulls="maybe",
    rule=_VECTOR_RULE,
    duckdb=_vector_sql("list_distance"),
)
_add(
    "list_cosine_similarity(list<float>, list<float>) -> float",
    "Cosine of the angle between.",
    row=_vectors(lambda a, b: _dot(a, b) / (math.hypot(*a) * math.hypot(*b))),
    nulls="maybe",
    rule=_VECTOR_RULE + "; null for a zero vector",
    duckdb=_vector_sql("list_cosine_similarity"),
)
