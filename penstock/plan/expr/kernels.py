"""Kernels on columns: what Arrow compute does not do by itself, under the frozen rules of expressions.

A kernel takes Arrow arrays of one length, or scalars for constants (never only scalars), and returns an array.
No kernel raises on data: what has no value is null. Floats are finite and never -0.0 going in and coming out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Context
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr.types import FLOAT, INT, Type

__all__ = [
    "Kernel",
    "arrow",
    "checked",
    "clean",
    "clean_nested",
    "cleaned",
    "from_rows",
    "ints",
    "length_of",
    "numpy_float",
    "numpy_int",
    "one",
    "rowwise",
    "scalar",
    "to_float",
    "to_rows",
    "vector",
]

Kernel = Callable[..., Any]

INT_MIN, INT_MAX = -(2**63), 2**63 - 1


def one(value: Any, kind: Type) -> pa.Array:
    """A column of one Python value of a plain type, made of buffers.

    Arrow's own conversion of Python objects imports pandas where it is installed, which takes longer than a plan may.
    Instants and durations are ints of microseconds, dates ints of days.
    """
    if value is None:
        return pa.nulls(1, kind.arrow)
    match kind.name:
        case "text" | "json":
            held = value.encode()
            offsets = np.array([0, len(held)], np.int32)
            return pa.Array.from_buffers(kind.arrow, 1, [None, pa.py_buffer(offsets), pa.py_buffer(held)])
        case "bool":
            return pa.Array.from_buffers(kind.arrow, 1, [None, pa.py_buffer(bytes([bool(value)]))])
        case "int" | "float" | "date" | "instant" | "duration":
            return pa.Array.from_buffers(kind.arrow, 1, [None, pa.py_buffer(np.array([value], _NUMPY[kind.name]))])
        case "decimal":
            held = int(value.scaleb(kind.scale, _EXACT)).to_bytes(16, "little", signed=True)
            return pa.Array.from_buffers(kind.arrow, 1, [None, pa.py_buffer(held)])
    return pa.array([value], kind.arrow)


_EXACT = Context(prec=100)
_NUMPY = {"int": np.int64, "float": np.float64, "date": np.int32, "instant": np.int64, "duration": np.int64}


def scalar(value: Any, kind: Type) -> pa.Scalar:
    """A Python value as `one` takes it, as a scalar."""
    return one(value, kind)[0]


def ints(values: np.ndarray[Any, Any]) -> pa.Array:
    """A column of int64 over a NumPy array, without a copy."""
    held = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(held), [None, pa.py_buffer(held)])


_FLOAT_NULL = pa.nulls(1, pa.float64())
_FLOAT_ZERO = one(0.0, FLOAT)


def arrow(name: str, options: pc.FunctionOptions | None = None) -> Kernel:
    """The Arrow compute function of that name as a kernel, with its options fixed."""
    call = pc.get_function(name).call

    def run(*args: Any) -> Any:
        return call(args, options)

    return run


_add, _sum, _finite, _if_else = arrow("add"), arrow("sum"), arrow("is_finite"), arrow("if_else")
_plus_zero, _null_float = _FLOAT_ZERO[0], _FLOAT_NULL[0]


def clean(values: Any) -> Any:
    """Floats with NaN and the infinities made null and -0.0 made 0.0."""
    if len(values) == 1:
        value = values[0].as_py()
        if value is None or (value and value - value == 0.0):
            return values
        return _FLOAT_ZERO if value == 0.0 else _FLOAT_NULL
    total = _sum(values).as_py()
    if total is not None and total - total != 0.0:
        values = _if_else(_finite(values), values, _null_float)
    return _add(values, _plus_zero)


def clean_nested(values: Any, kind: Type) -> Any:
    """Lists, maps and structs whose floats are made clean; a column without NaN and infinities as it is."""
    if kind == FLOAT:
        return clean(values)
    if not any(_odd(leaf) for leaf in _float_leaves(values, kind)):
        return values
    return pa.array([_cleaned_value(value, kind) for value in values.to_pylist()], kind.arrow)


def _odd(leaf: Any) -> bool:
    total = _sum(leaf).as_py()
    return total is not None and total - total != 0.0


def _float_leaves(values: Any, kind: Type) -> Iterator[Any]:
    match kind.name:
        case "float":
            yield values
        case "list":
            yield from _float_leaves(values.flatten(), kind.element)
        case "map":
            yield from _float_leaves(values.items, kind.element)
        case "struct":
            for at, (_, part) in enumerate(kind.args):
                yield from _float_leaves(values.field(at), part)


def _cleaned_value(value: Any, kind: Type) -> Any:
    if value is None:
        return None
    match kind.name:
        case "float":
            return value + 0.0 if value - value == 0.0 else None
        case "list":
            return [_cleaned_value(item, kind.element) for item in value]
        case "map":
            return [(key, _cleaned_value(item, kind.element)) for key, item in value]
        case "struct":
            return {name: _cleaned_value(value[name], part) for name, part in kind.args}
    return value


def cleaned(kernel: Kernel) -> Kernel:
    """The kernel with its floats made clean."""

    def run(*args: Any) -> Any:
        return clean(kernel(*args))

    return run


_TO_FLOAT = pc.CastOptions(target_type=pa.float64(), allow_int_overflow=True, allow_float_truncate=True)
to_float = arrow("cast", _TO_FLOAT)


def to_rows(values: Any, kind: Type) -> Any:
    """Python values of a column, one by one; a scalar repeats. Instants and durations are ints of microseconds.

    Dates are ints of days since 1970-01-01.
    """
    if kind.name in ("instant", "duration"):
        values = values.cast(pa.int64())
    elif kind.name == "date":
        values = values.cast(pa.int32())
    if isinstance(values, pa.Scalar):
        return repeat(values.as_py())
    return values.to_pylist()


def from_rows(rows: Sequence[Any], kind: Type) -> pa.Array:
    """A column of Python values as `to_rows` gives them; an int out of 64 bits is null."""
    single = len(rows) == 1
    if kind.name == "float":
        return (
            clean(one(rows[0], kind) if single else pa.array(rows, pa.float64())) if rows else pa.nulls(0, kind.arrow)
        )
    if kind.name in ("int", "instant", "duration"):
        held = [None if row is None or not INT_MIN <= row <= INT_MAX else row for row in rows]
        return one(held[0], kind) if single else pa.array(held, pa.int64()).cast(kind.arrow)
    if kind.name == "date":
        held = [None if row is None or not -(2**31) <= row < 2**31 else row for row in rows]
        return one(held[0], kind) if single else pa.array(held, pa.int32()).cast(kind.arrow)
    return one(rows[0], kind) if single else pa.array(rows, kind.arrow)


def rowwise(call: Callable[..., Any], kinds: Sequence[Type], result: Type, skip_null: bool = True) -> Kernel:
    """A kernel that calls a Python function row by row; unless told otherwise a null argument gives null uncalled.

    Args:
        call: takes one value per argument as `to_rows` gives them; returns a value of `result` or None.
        kinds: the types of the arguments.
        result: the type of the result.
        skip_null: False hands null arguments to the function as None.
    """
    if len(kinds) == 1 and skip_null:

        def run_one(values: Any) -> Any:
            return from_rows([None if v is None else call(v) for v in to_rows(values, kinds[0])], result)

        return run_one

    def run(*args: Any) -> Any:
        columns = [to_rows(arg, kind) for arg, kind in zip(args, kinds, strict=True)]
        rows = zip(*columns, strict=False)
        if skip_null:
            return from_rows([None if any(v is None for v in row) else call(*row) for row in rows], result)
        return from_rows([call(*row) for row in rows], result)

    return run


def checked(name: str, exact: Callable[[int, int], int]) -> Kernel:
    """Integer arithmetic with null for what is out of 64 bits: Arrow's checked kernel, Python's where it refuses."""
    fast = arrow(name)
    slow = rowwise(exact, (INT, INT), INT)

    def run(left: Any, right: Any) -> Any:
        try:
            return fast(left, right)
        except pa.ArrowInvalid:
            return slow(left, right)

    return run


def numpy_float(ufunc: Callable[..., Any]) -> Kernel:
    """A NumPy function of floats as a kernel; null in, null out; NaN, infinities and domain errors are null."""

    def run(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            values = [a.as_py() if isinstance(a, pa.Scalar) else a.to_numpy(zero_copy_only=False) for a in args]
            found = ufunc(*[math.nan if v is None else v for v in values])
        return clean(pa.array(found, pa.float64(), from_pandas=True))

    return run


def numpy_int(function: Callable[..., np.ndarray[Any, Any]]) -> Kernel:
    """A function of NumPy int64 arrays that has a value for every int, as a kernel; null in, null out."""

    def run(*args: Any) -> Any:
        columns = [arg.cast(_INT64) if arg.type != _INT64 else arg for arg in args]
        flat = [c.as_py() or 0 if isinstance(c, pa.Scalar) else _without_nulls(c).to_numpy() for c in columns]
        found = ints(function(*flat))
        for column in columns:
            if isinstance(column, pa.Scalar):
                found = found if column.is_valid else pa.nulls(len(found), _INT64)
            elif column.null_count:
                found = _if_else(column.is_valid(), found, _null_int)
        return found

    return run


def _without_nulls(column: Any) -> Any:
    return column.fill_null(0) if column.null_count else column


_INT64 = pa.int64()
_null_int = pa.nulls(1, _INT64)[0]


def vector(values: Any, n: int) -> pa.Array:
    """The array itself, or a scalar repeated n times."""
    return pa.repeat(values, n) if isinstance(values, pa.Scalar) else values


def length_of(args: Sequence[Any]) -> int:
    """The number of rows of a kernel's arguments."""
    return next(len(a) for a in args if not isinstance(a, pa.Scalar))
