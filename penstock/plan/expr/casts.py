"""Casts: which there are, and their kernels. A value that does not fit the target is null, never an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr.kernels import INT_MAX, INT_MIN, Kernel, arrow, rowwise, to_float
from penstock.plan.expr.syntax import duration_text
from penstock.plan.expr.types import DATE, FLOAT, INT, MAX_PRECISION, TEXT, Type
from penstock.plan.expr.zones import from_local, to_local

__all__ = ["EPOCH", "cast_kernel", "parse_date", "parse_duration", "parse_instant", "rescale"]

EPOCH = datetime(1970, 1, 1)
_INT = pa.int64()
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})\Z", re.ASCII)
_INSTANT = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)? ?(?:(Z)|([+-])(\d{2})(?::?(\d{2}))?)\Z",
    re.ASCII | re.IGNORECASE,
)
_EXACT = Context(prec=100, rounding=ROUND_HALF_UP)
_BOOLS = dict.fromkeys(("true", "t", "yes", "y", "1"), True) | dict.fromkeys(("false", "f", "no", "n", "0"), False)
_SPACE = " \t\n\r\v\f"


def cast_kernel(source: Type, target: Type, zone: str) -> Kernel | None:
    """The kernel from one type to another, or None where there is no such cast.

    Args:
        source: the type of the values.
        target: the type asked for.
        zone: where dates and instants meet.
    """
    if source == target:
        return lambda values: values
    match source.name, target.name:
        case "null", _:
            return arrow("cast", pc.CastOptions.safe(target.arrow))
        case ("bool", "int") | ("text", "bytes") | ("json", "text"):
            return arrow("cast", pc.CastOptions.safe(target.arrow))
        case ("int" | "decimal" | "bool", "float"):
            return to_float
        case ("int" | "float", "bool"):
            return arrow("cast", pc.CastOptions.safe(target.arrow))
        case ("int" | "decimal", "decimal"):
            return rescale(target)
        case "float", "int":
            return _float_to_int
        case _, "text":
            return _to_text(source)
        case "text", _:
            return _from_text(target)
        case ("float", "decimal") | ("decimal", "int"):
            return rowwise(
                lambda v: quantized(Decimal(repr(v)) if isinstance(v, float) else v, target), (source,), target
            )
        case "date", "instant":
            back = from_local(zone)
            return _midnight(back)
        case "instant", "date":
            local = to_local(zone)
            return lambda values: local(values).cast(pa.date32(), safe=False)
        case "list", "list":
            return _list_kernel(cast_kernel(source.element, target.element, zone), target)
    return None


def _midnight(back: Kernel) -> Kernel:
    def run(values: Any) -> Any:
        try:
            return back(values.cast(pa.timestamp("us")))
        except pa.ArrowInvalid:
            near = rowwise(lambda day: day if abs(day) < 100_000_000 else None, (DATE,), DATE)
            return back(near(values).cast(pa.timestamp("us")))

    return run


_float_fits = rowwise(lambda v: int(v) if INT_MIN <= v < 2.0**63 else None, (FLOAT,), INT)
_away = arrow("round", pc.RoundOptions(0, "half_towards_infinity"))


def _float_to_int(values: Any) -> Any:
    whole = _away(values)
    try:
        return whole.cast(pa.int64())
    except pa.ArrowInvalid:
        return _float_fits(whole)


def rescale(target: Type) -> Kernel:
    """The kernel from ints or decimals to a decimal: rounds half away from zero; null where it does not fit."""
    kind = target.arrow

    def exact(value: int | Decimal) -> Any:
        return quantized(Decimal(value), target)

    whole = 19 + target.scale  # the digits of an int at this scale
    wide = pa.decimal128(whole, target.scale) if whole <= MAX_PRECISION else pa.decimal256(whole, target.scale)

    def run(values: Any) -> Any:
        try:
            return (values.cast(wide) if values.type == _INT else values).cast(kind)
        except pa.ArrowInvalid:
            source = target if pa.types.is_decimal256(values.type) else Type.from_arrow(values.type)
            return rowwise(exact, (source,), target)(values)

    return run


def quantized(value: Decimal, target: Type) -> Any:
    """A decimal rounded into `target` (or int), or None where it does not fit."""
    if target == INT:
        whole = int(value.quantize(Decimal(1), context=_EXACT))
        return whole if INT_MIN <= whole <= INT_MAX else None
    try:
        held = value.quantize(Decimal(1).scaleb(-target.scale), context=_EXACT)
    except InvalidOperation:
        return None
    return held if abs(held.scaleb(target.scale, context=_EXACT)) < 10**target.precision else None


def _list_kernel(inner: Kernel | None, target: Type) -> Kernel | None:
    if inner is None:
        return None

    def run(values: Any) -> Any:
        if isinstance(values, pa.Scalar):
            return run(pa.repeat(values, 1))[0]
        lists = values.cast(pa.list_(values.type.value_type))
        cast = pa.ListArray.from_arrays(
            lists.offsets, inner(lists.values), mask=lists.is_null() if lists.null_count else None
        )
        return cast.cast(target.arrow)

    return run


# text


def float_text(value: float) -> str:
    """The shortest text that reads back as the float: 1.0, 0.1, 1e+16."""
    return repr(value)


def _instant_text(us: int) -> str | None:
    try:
        at = EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return None
    fraction = f".{at.microsecond:06d}".rstrip("0") if at.microsecond else ""
    return f"{at:%H:%M:%S}".join((f"{at.year:04d}-{at:%m-%d} ", f"{fraction}+00"))


def _date_text(day: int) -> str | None:
    number = day + _EPOCH_DAY
    return date.fromordinal(number).isoformat() if 1 <= number <= date.max.toordinal() else None


def _bytes_text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _to_text(source: Type) -> Kernel | None:
    writers: dict[str, Callable[[Any], str | None]] = {
        "float": float_text,
        "date": _date_text,
        "instant": _instant_text,
        "duration": duration_text,
        "decimal": lambda value: f"{value:f}",
        "bytes": _bytes_text,
    }
    if source.name in ("int", "bool"):
        return arrow("cast", pc.CastOptions.safe(pa.string()))
    writer = writers.get(source.name)
    return None if writer is None else rowwise(writer, (source,), TEXT)


def _from_text(target: Type) -> Kernel | None:
    from penstock.plan.expr.functions.json import valid_or_none

    readers: dict[str, Callable[[str], Any]] = {
        "int": lambda text: _numeric(text, INT),
        "float": _float,
        "decimal": lambda text: _numeric(text, target),
        "bool": lambda text: _BOOLS.get(text.strip(_SPACE).lower()),
        "date": parse_date,
        "instant": parse_instant,
        "duration": parse_duration,
        "json": valid_or_none,
    }
    reader = readers.get(target.name)
    return None if reader is None else rowwise(reader, (TEXT,), target)


def _numeric(text: str, target: Type) -> Any:
    text = text.strip(_SPACE)
    if not _NUMBER.match(text) or len(text) > 400:
        return None
    value = Decimal(text)
    return quantized(value, target) if value.adjusted() < 60 else None


def _float(text: str) -> float | None:
    text = text.strip(_SPACE)
    return float(text) if _NUMBER.match(text) else None


def parse_date(text: str) -> int | None:
    """Days since 1970-01-01 of an ISO date, or None."""
    found = _DATE.match(text.strip(_SPACE))
    try:
        return date(*map(int, found.groups())).toordinal() - _EPOCH_DAY if found else None
    except ValueError:
        return None


def parse_instant(text: str) -> int | None:
    """Microseconds since the epoch of an ISO instant with Z or an offset, or None; more digits are cut off."""
    found = _INSTANT.match(text.strip(_SPACE))
    if not found:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, oh, om = found.groups()
    try:
        at = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0))
    except ValueError:
        return None
    us = (at - EPOCH) // timedelta(microseconds=1) + int((fraction or "").ljust(6, "0")[:6])
    offset = (int(oh or 0) * 60 + int(om or 0)) * 60_000_000
    if offset >= 24 * 3_600_000_000:
        return None
    return us + offset if sign == "-" else us - offset


_DURATION = re.compile(r"(-?)((?:\d+(?:w|d|h|min|s|ms|us))+)\Z", re.ASCII)


def parse_duration(text: str) -> int | None:
    """Microseconds of a duration as the literal writes it (`-90min`, `1h30min`), or None."""
    from penstock.plan.expr.parser import duration_us

    found = _DURATION.match(text.strip(_SPACE))
    if not found:
        return None
    return -duration_us(found[2]) if found[1] else duration_us(found[2])
