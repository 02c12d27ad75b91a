"""Aggregates as a user writes them: what is computed over the rows of a window."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from penstock.define.values import duration_us, here
from penstock.errors import DefinitionError, Location

__all__ = [
    "Agg",
    "Aggregate",
    "any",
    "count",
    "decayed_count",
    "decayed_sum",
    "distinct",
    "first",
    "last",
    "last_n",
    "max",
    "mean",
    "min",
    "ratio",
    "share",
    "std",
    "sum",
    "variance",
]


@dataclass(frozen=True, eq=False)
class Agg:
    """An aggregate with its arguments (SQL expressions over the input's columns) and modifiers.

    Attributes:
        op: count, sum, mean, share, min, max, variance, std, first, last, last_n, distinct, distinct_approx,
            decayed_sum, decayed_count, ratio, custom; any (of joins and two hops only).
        condition: rows count only where this is true.
        bucket: the result is a map from this expression's value to the result.
        n: of last_n. limit: of exact distinct. half_life_us: of decay. custom: a user's own aggregate.
    """

    op: str
    args: tuple[str, ...] = ()
    condition: str | None = None
    bucket: str | None = None
    n: int = 0
    limit: int = 0
    half_life_us: int = 0
    custom: type[Aggregate] | None = None
    at: Location | None = field(default=None, repr=False)

    def where(self, condition: str) -> Agg:
        """Counts only rows where `condition` is true; null is false."""
        both = condition if self.condition is None else f"({self.condition}) and ({condition})"
        return replace(self, condition=both)

    def per(self, expression: str) -> Agg:
        """One result per value of `expression`, as a map; rows where it is null are dropped."""
        if self.bucket is not None:
            raise DefinitionError(
                "an aggregate has one .per()", found=repr(expression), remedy="use one expression", where=here()
            )
        return replace(self, bucket=expression)


class Aggregate:
    """Base of a user's own aggregate: a commutative monoid over plain data.

    Subclasses give `lift(self, *values) -> state`, `merge(self, p, q) -> state` (associative, commutative) and
    `finalize(self, state) -> value` with a return annotation. States are None, bools, numbers, text, and lists and
    dicts of these. `penstock check` runs the laws. Used as `Entropy.of("category")`.
    """

    version: ClassVar[int] = 1

    def lift(self, *values: Any) -> Any:
        """The state of one row, from its argument values, none of which is null."""
        raise NotImplementedError(f"{type(self).__name__} needs lift(self, value)")

    def merge(self, p: Any, q: Any) -> Any:
        """The state of two disjoint sets of rows."""
        raise NotImplementedError(f"{type(self).__name__} needs merge(self, p, q)")

    def finalize(self, s: Any) -> Any:
        """The result, from the state of at least one row."""
        raise NotImplementedError(f"{type(self).__name__} needs finalize(self, s)")

    @classmethod
    def of(cls, *args: str) -> Agg:
        """This aggregate of the given expressions."""
        return _agg("custom", *args, custom=cls)


def _agg(op: str, *args: str, **options: Any) -> Agg:
    where = here()
    for arg in args:
        if not isinstance(arg, str) or not arg.strip():
            raise DefinitionError(
                f"{op} takes SQL expressions as text", found=repr(arg), remedy=f'write {op}("amount")', where=where
            )
    return Agg(op, args, at=where, **options)


def _optional(x: str | None) -> tuple[str, ...]:
    return () if x is None else (x,)


def count(x: str | None = None) -> Agg:
    """Rows; with an argument, its values that are not null."""
    return _agg("count", *_optional(x))


def sum(x: str | None = None) -> Agg:
    """Sum; null when there is nothing to add. The argument is left out in a two-hop read only."""
    return _agg("sum", *_optional(x))


def mean(x: str | None = None) -> Agg:
    """Mean of the values that are not null. The argument is left out in a two-hop read only."""
    return _agg("mean", *_optional(x))


def share(condition: str) -> Agg:
    """Share of rows where the condition is true among those where it is not null."""
    return _agg("share", condition)


def min(x: str | None = None) -> Agg:
    """Least value. The argument is left out in a two-hop read only."""
    return _agg("min", *_optional(x))


def max(x: str | None = None) -> Agg:
    """Greatest value. The argument is left out in a two-hop read only."""
    return _agg("max", *_optional(x))


def variance(x: str) -> Agg:
    """Sample variance (n - 1); null for fewer than two values."""
    return _agg("variance", x)


def std(x: str) -> Agg:
    """Sample standard deviation (n - 1); null for fewer than two values."""
    return _agg("std", x)


def first(x: str | None = None) -> Agg:
    """First value in order that is not null. The argument is left out in a two-hop read only."""
    return _agg("first", *_optional(x))


def last(x: str | None = None) -> Agg:
    """Last value in order that is not null. The argument is left out in a two-hop read only."""
    return _agg("last", *_optional(x))


def last_n(n: int, *columns: str) -> Agg:
    """The newest n rows' values, newest first: a list, of structs when there are several columns.

    Rows where every column is null are skipped.
    """
    if not isinstance(n, int) or n < 1 or not columns:
        raise DefinitionError(
            "last_n takes how many and which columns", found=repr((n, *columns)), remedy='write last_n(50, "item_id")'
        )
    return _agg("last_n", *columns, n=n)


def distinct(x: str, *, approx: bool = False, limit: int = 10_000) -> Agg:
    """How many different values; exact up to `limit` (above it null, with status), or approximate (HyperLogLog)."""
    return _agg("distinct_approx", x) if approx else _agg("distinct", x, limit=limit)


def decayed_sum(x: str, half_life: str) -> Agg:
    """Sum of values that weigh half as much after each `half_life`."""
    return _agg("decayed_sum", x, half_life_us=_half_life_us(half_life))


def decayed_count(half_life: str) -> Agg:
    """Count of rows that weigh half as much after each `half_life`."""
    return _agg("decayed_count", half_life_us=_half_life_us(half_life))


def _half_life_us(half_life: str) -> int:
    us = duration_us(half_life, "a half-life")
    if us <= 0:
        raise DefinitionError(
            "a half-life is longer than nothing", found=repr(half_life), remedy='write "1h"', where=here()
        )
    return us


def ratio(numerator: str, denominator: str) -> Agg:
    """Sum of one expression by the sum of another; null when the denominator is 0 or null."""
    return _agg("ratio", numerator, denominator)


def any() -> Agg:
    """Whether there was a row at all: a reducer of joins."""
    return _agg("any")
