"""Operators: how their operands are brought to one type, and their kernels."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from penstock.plan.expr.bound import Bound, Template, apply, constant
from penstock.plan.expr.casts import cast_kernel, parse_date, parse_duration, parse_instant, rescale
from penstock.plan.expr.kernels import INT_MIN, Kernel, arrow, checked, cleaned, numpy_float, rowwise, scalar
from penstock.plan.expr.registry import common_type
from penstock.plan.expr.syntax import Node
from penstock.plan.expr.types import (
    DATE,
    DURATION,
    FLOAT,
    INSTANT,
    INT,
    MAX_PRECISION,
    NULL,
    TEXT,
    Type,
    decimal,
)

__all__ = ["ARITHMETIC", "arithmetic", "convert", "duckdb_type", "guard", "unify"]

ARITHMETIC = ("+", "-", "*", "/", "//", "%", "^", "&", "|", "<<", ">>")


# DuckDB texts


def duckdb_type(kind: Type) -> str:
    """The DuckDB name of a type."""
    match kind.name:
        case "decimal":
            return f"DECIMAL({kind.precision},{kind.scale})"
        case "list":
            return duckdb_type(kind.element) + "[]"
        case "map":
            return f"MAP({duckdb_type(kind.args[0])}, {duckdb_type(kind.args[1])})"
        case "struct":
            return "STRUCT(" + ", ".join(f'"{name}" {duckdb_type(t)}' for name, t in kind.args) + ")"
    return _DUCKDB[kind.name]


_DUCKDB = {
    "bool": "BOOLEAN", "int": "BIGINT", "float": "DOUBLE", "text": "VARCHAR", "date": "DATE", "bytes": "BLOB",
    "instant": "TIMESTAMPTZ", "duration": "INTERVAL", "json": "VARCHAR", "null": "INTEGER",
}  # fmt: skip


def guard(text: str, kind: Type) -> str:
    """DuckDB text brought under the frozen rules of its type: 64-bit ints; floats finite and never -0.0."""
    if kind == FLOAT:
        text = f"CAST({text} AS DOUBLE) + 0.0::DOUBLE"
        for odd in ("nan", "inf", "-inf"):
            text = f"nullif({text}, '{odd}'::DOUBLE)"
        return text
    return f"CAST({text} AS {duckdb_type(kind)})" if kind == INT or kind.name == "decimal" else text


# conversions


def convert(bound: Bound, target: Type, zone: str) -> Bound | None:
    """The value in another type, implicitly; a literal adapts exactly. None where only a CAST would do."""
    if bound.type == target:
        return bound
    literal = bound.literal
    if literal is not None and literal.kind in ("int", "decimal") and target.name == "decimal":
        return cast(bound, target, zone, exact=Decimal(str(literal.value)))
    if literal is not None and literal.kind == "text" and target.name in _LITERAL_READERS:
        value = _LITERAL_READERS[target.name](literal.value)
        if value is None:
            return None
        return constant(bound.node, target, scalar(value, target), literal_sql(target, literal.value))
    if bound.type == NULL or _widens(bound.type, target):
        return cast(bound, target, zone)
    return None


_LITERAL_READERS: dict[str, Callable[[str], int | None]] = {
    "date": parse_date, "instant": parse_instant, "duration": parse_duration,
}  # fmt: skip


def literal_sql(kind: Type, text: str) -> str | None:
    """DuckDB text of a date, instant or duration literal."""
    if kind == DURATION:
        return f"to_microseconds({parse_duration(text)})"
    return f"{duckdb_type(kind)} '{text.strip()}'"


def _widens(source: Type, target: Type) -> bool:
    if target.name in ("list", "map") and source.name == target.name:
        return all(s in (t, NULL) or _widens(s, t) for s, t in zip(source.args, target.args, strict=True))
    pair = (source.name, target.name)
    return pair in {
        ("int", "float"), ("decimal", "float"), ("int", "decimal"), ("decimal", "decimal"), ("json", "text"),
        ("text", "json"),
    }  # fmt: skip


def cast(bound: Bound, target: Type, zone: str, exact: Decimal | None = None) -> Bound | None:
    """The value cast; None where there is no such cast."""
    if bound.type == target:
        return bound
    if exact is not None:
        digits = exact.quantize(Decimal(1).scaleb(-target.scale)) if target.scale >= _places(exact) else exact
        return constant(bound.node, target, scalar(digits, target), f"CAST({digits} AS {duckdb_type(target)})")
    if bound.type.name == "text" and target.name == "json":
        kernel: Kernel | None = lambda values: values  # noqa: E731 the same bytes
    else:
        kernel = cast_kernel(bound.type, target, zone)
    if kernel is None:
        return None
    lossless = (bound.type, target) in ((INT, FLOAT), (DATE, TEXT)) or bound.type.name in ("bool",)
    found = apply(
        bound.node, kernel, [bound], target, bound.nullable or not lossless, _cast_sql(bound.type, target, zone)
    )
    if bound.type == NULL:
        found.nullable = True
    return found


def _cast_sql(source: Type, target: Type, zone: str) -> Template:
    match source.name, target.name:
        case "float", "int":
            return "TRY_CAST(round({0}) AS BIGINT)"
        case "float", "decimal":
            return f"TRY_CAST(CAST({{0}} AS VARCHAR) AS {duckdb_type(target)})"
        case "date", "instant":
            return f"timezone('{zone}', CAST({{0}} AS TIMESTAMP))"
        case "instant", "date":
            return f"CAST(timezone('{zone}', {{0}}) AS DATE)"
        case "instant", "text":
            return "CAST({0} AS VARCHAR)"
        case ("duration", "text") | ("text", "duration" | "json" | "date" | "instant" | "bytes") | ("bytes", "text"):
            return None
        case "text", "float":
            return lambda texts: guard(f"TRY_CAST({texts[0]} AS DOUBLE)", FLOAT)
    return f"TRY_CAST({{0}} AS {duckdb_type(target)})"


def _places(value: Decimal) -> int:
    return max(0, -int(value.as_tuple().exponent))


def literal_decimal(bound: Bound) -> Type | None:
    """The decimal type that a number literal has when it stands beside a decimal."""
    literal = bound.literal
    if literal is None or literal.kind not in ("int", "decimal"):
        return None
    value = Decimal(str(literal.value))
    scale = _places(value)
    whole = max(1, value.adjusted() + 1) if value else 1
    return decimal(whole + scale, scale) if whole + scale <= MAX_PRECISION else None


def unify(left: Bound, right: Bound, zone: str) -> tuple[Bound, Bound] | None:
    """Two operands brought to one type: numbers widen, literals adapt to the other side; None where they cannot."""
    for a, b in ((left, right), (right, left)):
        if b.type.name == "decimal" and a.literal is not None and (own := literal_decimal(a)):
            target = common_type(own, b.type)
            break
        if a.literal is not None and a.literal.kind == "text" and b.type.name in _LITERAL_READERS:
            target = b.type
            break
    else:
        target = common_type(left.type, right.type)
    if target is None:
        return None
    one, two = convert(left, target, zone), convert(right, target, zone)
    return None if one is None or two is None else (one, two)


# arithmetic


def _int_divide(left: int, right: int) -> int | None:
    if right == 0:
        return None
    whole = abs(left) // abs(right)
    return whole if (left < 0) == (right < 0) else -whole


def _int_modulo(left: int, right: int) -> int | None:
    return None if right == 0 else left - right * (_int_divide(left, right) or 0)


def _shift(left: int, right: int) -> int | None:
    return left << right if 0 <= right < 64 and left >= 0 else None


def _shift_right(left: int, right: int) -> int | None:
    return left >> min(right, 63) if right >= 0 else None


_divide, _subtract, _multiply = arrow("divide"), arrow("subtract"), arrow("multiply")
_exact_divide = rowwise(_int_divide, (INT, INT), INT)
_exact_modulo = rowwise(_int_modulo, (INT, INT), INT)


def _truncated(left: Any, right: Any) -> Any:
    try:
        return _divide(left, right)
    except pa.ArrowInvalid:
        return _exact_divide(left, right)


def remainder(left: Any, right: Any) -> Any:
    """The remainder of ints with the sign of the dividend; null for a divisor of 0."""
    try:
        return _subtract(left, _multiply(_divide(left, right), right))
    except pa.ArrowInvalid:
        return _exact_modulo(left, right)


def _fmod(left: Any, right: Any) -> Any:
    import numpy as np

    return numpy_float(np.fmod)(left, right)


_INT_KERNELS: dict[str, tuple[Kernel, Template]] = {
    "+": (checked("add_checked", lambda a, b: a + b), "TRY({0} + {1})"),
    "-": (checked("subtract_checked", lambda a, b: a - b), "TRY({0} - {1})"),
    "*": (checked("multiply_checked", lambda a, b: a * b), "TRY({0} * {1})"),
    "//": (_truncated, "TRY({0} // nullif({1}, 0))"),
    "%": (remainder, "TRY({0} % nullif({1}, 0))"),
    "&": (arrow("bit_wise_and"), "({0} & {1})"),
    "|": (arrow("bit_wise_or"), "({0} | {1})"),
    "<<": (rowwise(_shift, (INT, INT), INT), "TRY({0} << {1})"),
    ">>": (rowwise(_shift_right, (INT, INT), INT), "TRY(CASE WHEN {1} >= 0 THEN {0} >> least({1}, 63) END)"),
}
_FLOAT_KERNELS: dict[str, tuple[Kernel, str]] = {
    "+": (cleaned(arrow("add")), "({0} + {1})"),
    "-": (cleaned(arrow("subtract")), "({0} - {1})"),
    "*": (cleaned(arrow("multiply")), "({0} * {1})"),
    "/": (cleaned(arrow("divide")), "({0} / {1})"),
    "%": (_fmod, "({0} % {1})"),
    "^": (cleaned(arrow("power")), "TRY({0} ^ {1})"),
}
_WIDE = Context(prec=120)
_DECIMAL_OPS: dict[str, Callable[[Decimal, Decimal], Decimal | None]] = {
    "+": _WIDE.add,
    "-": _WIDE.subtract,
    "*": _WIDE.multiply,
    "%": lambda a, b: _WIDE.remainder(a, b) if b else None,
}


def arithmetic(op: str, left: Bound, right: Bound, node: Node, zone: str) -> Bound | None:
    """The operator over two bound operands, or None where it takes no such operands."""
    names = {left.type.name, right.type.name}
    if names & {"instant", "date", "duration"}:
        return _temporal(op, left, right, node, zone)
    if not names <= {"int", "float", "decimal", "null"}:
        return None
    if op in ("&", "|", "<<", ">>", "//"):
        wanted: Type | None = INT
    elif op in ("/", "^"):
        wanted = FLOAT
    else:
        wanted = FLOAT if names == {"null"} else None
    if wanted is not None:
        one, two = convert(left, wanted, zone), convert(right, wanted, zone)
        pair = None if one is None or two is None else (one, two)
    elif "decimal" in names and "float" not in names:
        return _decimal_arithmetic(op, left, right, node, zone)
    else:
        pair = unify(left, right, zone)
        if pair is not None and pair[0].type.name == "decimal":
            return _decimal_arithmetic(op, left, right, node, zone)
    if pair is None:
        return None
    kind = pair[0].type
    if kind == FLOAT:
        kernel, text = _FLOAT_KERNELS[op]
        return apply(node, kernel, pair, FLOAT, True, lambda texts: guard(text.format(*texts), FLOAT))
    kernel, template = _INT_KERNELS[op]
    nullable = op not in ("&", "|") or pair[0].nullable or pair[1].nullable
    return apply(node, kernel, pair, INT, nullable, template)


def _as_decimal(bound: Bound, zone: str) -> Bound | None:
    if bound.type.name == "decimal":
        return bound
    own = literal_decimal(bound) or (decimal(19, 0) if bound.type in (INT, NULL) else None)
    return None if own is None else convert(bound, own, zone)


def _decimal_arithmetic(op: str, left: Bound, right: Bound, node: Node, zone: str) -> Bound | None:
    one, two = _as_decimal(left, zone), _as_decimal(right, zone)
    if one is None or two is None:
        return None
    a, b = one.type, two.type
    scale = a.scale + b.scale if op == "*" else max(a.scale, b.scale)
    if op == "*":
        natural = a.precision + b.precision
    else:
        natural = max(a.precision - a.scale, b.precision - b.scale) + scale + (op in "+-")
    if scale > MAX_PRECISION:
        return None
    kind = decimal(min(natural, MAX_PRECISION), scale)
    slow = rowwise(_DECIMAL_OPS[op], (a, b), kind) if op == "%" else _exact_decimal(op, a, b, kind)
    kernel = slow if op == "%" or natural >= MAX_PRECISION else _decimal_kernel(op, kind)
    divisor = "nullif({1}, 0)" if op == "%" else "{1}"
    # with both sides under 19 digits DuckDB multiplies in 64 bits, and finds overflow where there is none
    wide = decimal(max(19, a.precision), a.scale)
    text = f"TRY_CAST(TRY(CAST({{0}} AS {duckdb_type(wide)}) {op} {divisor}) AS {duckdb_type(kind)})"
    return apply(node, kernel, (one, two), kind, True, text)


def _exact_decimal(op: str, a: Type, b: Type, kind: Type) -> Kernel:
    from penstock.plan.expr.casts import quantized

    run = _DECIMAL_OPS[op]
    return rowwise(lambda x, y: quantized(run(x, y) or Decimal(0), kind), (a, b), kind)


def _decimal_kernel(op: str, kind: Type) -> Kernel:
    run = arrow({"+": "add", "-": "subtract", "*": "multiply"}[op])
    fit = rescale(kind)
    return lambda left, right: fit(run(left, right))


# dates, instants, durations

_INT_OF = {"instant": 1, "duration": 1}


def _microseconds(name: str, op: Callable[[int, int], int], a: Type, b: Type, kind: Type) -> Kernel:
    fast, slow = arrow(name), rowwise(op, (a, b), kind)
    integer = pa.int64()

    def run(left: Any, right: Any) -> Any:
        try:
            return fast(left.cast(integer), right.cast(integer)).cast(kind.arrow)
        except pa.ArrowInvalid:
            return slow(left, right)

    return run


def _temporal(op: str, left: Bound, right: Bound, node: Node, zone: str) -> Bound | None:
    if NULL in (left.type, right.type):
        return None
    left, right = _meet(op, left, right, zone)
    if op == "*" and right.type == DURATION:
        left, right = right, left
    if op == "+" and left.type in (INT, DURATION) and right.type in (DATE, INSTANT):
        left, right = right, left
    a, b = left.type, right.type
    name = {"+": "add_checked", "-": "subtract_checked"}.get(op, "")
    plus, minus = (lambda x, y: x + y), (lambda x, y: x - y)
    exact = plus if op == "+" else minus
    match a.name, op, b.name:
        case ("instant" | "duration", "+" | "-", "duration"):
            return apply(node, _microseconds(name, exact, a, b, a), (left, right), a, True, f"TRY({{0}} {op} {{1}})")
        case "instant", "-", "instant":
            text = "to_microseconds(epoch_us({0}) - epoch_us({1}))"
            return apply(node, _microseconds(name, minus, a, b, DURATION), (left, right), DURATION, True, text)
        case "date", "+" | "-", "int":
            text = f"TRY({{0}} {op} CAST({{1}} AS INTEGER))"
            return apply(node, _days(name, exact), (left, right), DATE, True, text)
        case "date", "-", "date":
            days = _days_between
            return apply(node, days, (left, right), INT, left.nullable or right.nullable, "({0} - {1})")
        case "duration", "*", "int":
            kernel = rowwise(lambda x, y: x * y, (a, b), DURATION)
            return apply(node, kernel, (left, right), DURATION, True, "TRY(to_microseconds(epoch_us({0}) * {1}))")
        case "duration", "/", "duration":
            kernel = rowwise(lambda x, y: x / y if y else None, (a, b), FLOAT)
            text = "({0} / {1})"
            return apply(node, kernel, (left, right), FLOAT, True, None if text else text)
    return None


def _days(name: str, op: Callable[[int, int], int]) -> Kernel:
    """A date and a number of days added or subtracted; null outside the range of dates."""
    fast, slow = arrow(name), rowwise(op, (DATE, INT), DATE)
    days, wide, date = pa.int32(), pa.int64(), pa.date32()

    def run(left: Any, right: Any) -> Any:
        try:
            return fast(left.cast(days).cast(wide), right).cast(days).cast(date)
        except pa.ArrowInvalid:
            return slow(left, right)

    return run


def _days_between(left: Any, right: Any) -> Any:
    days, wide = pa.int32(), pa.int64()
    return _subtract(left.cast(days).cast(wide), right.cast(days).cast(wide))


def _meet(op: str, left: Bound, right: Bound, zone: str) -> tuple[Bound, Bound]:
    """A date beside a duration or an instant is the start of that day in the zone."""
    if op in ("+", "-") and left.type == DATE and right.type in (DURATION, INSTANT):
        return cast(left, INSTANT, zone) or left, right
    if op in ("+", "-") and right.type == DATE and left.type in (DURATION, INSTANT):
        return left, cast(right, INSTANT, zone) or right
    pair = unify(left, right, zone) if {left.type, right.type} & {TEXT} else None
    return pair or (left, right)


def negate(value: Bound, node: Node) -> Bound | None:
    """Unary minus."""
    kind = value.type
    match kind.name:
        case "int":
            kernel = _negate_int
        case "float":
            kernel = cleaned(arrow("negate"))
        case "decimal":
            kernel = arrow("negate")
        case "duration":
            kernel = rowwise(lambda x: -x, (kind,), kind)
        case _:
            return None
    return apply(node, kernel, (value,), kind, value.nullable or kind == INT, _negate_sql(kind))


def _negate_sql(kind: Type) -> Template:
    if kind == FLOAT:
        return lambda texts: guard(f"(-({texts[0]}))", FLOAT)
    return "TRY(CAST(-({0}) AS BIGINT))" if kind == INT else "(-({0}))"


_negate_fast = arrow("negate_checked")
_negate_slow = rowwise(lambda x: None if x == INT_MIN else -x, (INT,), INT)


def _negate_int(values: Any) -> Any:
    try:
        return _negate_fast(values)
    except pa.ArrowInvalid:
        return _negate_slow(values)
