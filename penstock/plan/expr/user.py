"""A user's own row function as a function of expressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from penstock.define.function import Function
from penstock.errors import DataError
from penstock.plan.expr.annotations import annotated_type
from penstock.plan.expr.kernels import Kernel, clean
from penstock.plan.expr.types import Type

__all__ = ["UserFunction"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A Python function of one row, called for each.

    Instants reach it as datetimes in UTC, durations as timedeltas, dates as dates, decimals as Decimals.

    Attributes:
        name: how expressions call it.
        arguments: the types of its arguments.
        optional: for each argument, whether it takes None; where it does not, a null gives null uncalled.
        result: the type it returns.
        nullable: whether it may return None.
        call: the function.
        source: the hash of its source, its version.
    """

    name: str
    arguments: tuple[Type, ...]
    optional: tuple[bool, ...]
    result: Type
    nullable: bool
    call: Callable[..., Any]
    source: str = ""

    @classmethod
    def of(cls, function: Function) -> UserFunction:
        """The function of a definition (`@ps.function`), typed by its annotations.

        As `annotated_type` has it; with `| None` an argument takes nulls, a result gives them.

        Raises:
            PlanError: an annotation names none of these.
        """
        what, where = f"function {function.name}", function.at
        typed = [annotated_type(note, f"{what}, {name}", where) for name, note in function.arguments]
        result, nullable = annotated_type(function.returns, f"{what}, its result", where)
        return cls(
            function.name,
            tuple(kind for kind, _ in typed),
            tuple(optional for _, optional in typed),
            result,
            nullable,
            function.call,
            function.source_hash,
        )

    @property
    def signature(self) -> str:
        """Its signature in words: `tier(float?) -> text`."""
        shown = ", ".join(f"{kind}{'?' if o else ''}" for kind, o in zip(self.arguments, self.optional, strict=True))
        return f"{self.name}({shown}) -> {self.result}{'?' if self.nullable else ''}"

    def kernel(self) -> Kernel:
        """The function over columns.

        The kernel raises DataError where the function raises or returns a value of another type.
        """
        required = [not o for o in self.optional]

        def run(*args: Any) -> Any:
            n = next((len(a) for a in args if not isinstance(a, pa.Scalar)), 1)
            columns = [_values(a, kind, n) for a, kind in zip(args, self.arguments, strict=True)]
            found = []
            for row in zip(*columns, strict=True):
                skip = any(value is None and must for value, must in zip(row, required, strict=True))
                found.append(None if skip else self._one(row))
            return self._column(found)

        return run

    def _one(self, row: tuple[Any, ...]) -> Any:
        try:
            found = self.call(*row)
        except Exception as error:
            raise DataError(
                f"the function {self.name} failed",
                found=f"{type(error).__name__}: {error} on ({', '.join(map(repr, row))})",
                remedy=f"make {self.name} return a {self.result} for these arguments",
            ) from error
        if found is None and not self.nullable:
            raise DataError(
                f"the function {self.name} returned None on ({', '.join(map(repr, row))})",
                remedy=f"annotate its result as `... | None`, or return a {self.result}",
            )
        return found

    def _column(self, rows: list[Any]) -> pa.Array:
        kind = self.result
        if kind.name == "instant":
            rows = [_instant(value) for value in rows]
        try:
            found = pa.array(rows, pa.int64() if kind.name == "instant" else kind.arrow)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataError(
                f"the function {self.name} returned values that are no {kind}",
                found=str(error),
                remedy=f"return {kind}, or annotate the result as it is",
            ) from error
        if kind.name == "float":
            return clean(found)
        return found.cast(kind.arrow) if kind.name == "instant" else found


def _instant(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise DataError(
                "a row function returned a local time", found=repr(value), remedy="return an aware datetime, in UTC"
            )
        return (value - _EPOCH) // _US
    return value


def _values(values: Any, kind: Type, n: int) -> list[Any]:
    if isinstance(values, pa.Scalar):
        values = pa.repeat(values, n)
    if kind.name == "instant":
        return [None if us is None else _aware(us) for us in values.cast(pa.int64()).to_pylist()]
    if kind.name == "duration":
        return [None if us is None else timedelta(microseconds=us) for us in values.cast(pa.int64()).to_pylist()]
    found: list[Any] = values.to_pylist()
    return found


def _aware(us: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=us)
    except OverflowError as error:
        raise DataError(
            "an instant lies outside the years 1 to 9999", found=repr(us), remedy="drop such rows before the function"
        ) from error
