"""SQL scalar expressions over one row of Python values, by walking the tree: a small subset, plainly."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlglot import exp, parse_one

from penstock.define.values import UNITS_US
from penstock.errors import EngineError
from penstock.testing.oracle.rows import plain

__all__ = ["evaluate", "is_true"]

_WIDE = Context(prec=120)
_DURATION = re.compile(r"'(?:[^']|'')*'|\b(?:\d+(?:us|ms|s|min|h|d|w))+\b")
_PART = re.compile(r"(\d+)(us|ms|s|min|h|d|w)")
_CALL = re.compile(r"'(?:[^']|'')*'|\b([a-z_]\w*)\s*\(", re.IGNORECASE)
_WORDS = {"and", "or", "not", "in", "is", "like", "between", "case", "when", "then", "else", "as"}
_WORDS |= {"cast", "try_cast", "decimal", "interval_us"}

Scope = Mapping[str, Any]
Functions = Mapping[str, Callable[..., Any]]


def is_true(text: str, scope: Scope, functions: Functions | None = None) -> bool:
    """Whether a condition holds; null is false."""
    return evaluate(text, scope, functions) is True


def evaluate(text: str, scope: Scope, functions: Functions | None = None) -> Any:
    """The value of an expression; no expression fails on data: what has no value is null.

    Args:
        scope: values by column name; a name may hold a dot.
        functions: the user's own row functions.
    """
    return plain(_Walk(scope, functions or {}).value(_parse(text)))


@lru_cache(maxsize=4096)
def _parse(text: str) -> Any:
    def duration(found: re.Match[str]) -> str:
        if found[0].startswith("'"):
            return found[0]
        return f"interval_us({sum(int(n) * UNITS_US[unit] for n, unit in _PART.findall(found[0]))})"

    def call(found: re.Match[str]) -> str:
        # Every call stays anonymous, so that SQLGlot neither rewrites nor refuses it.
        if found[1] is None or found[1].lower() in _WORDS:
            return found[0]
        return f"call_{found[1].lower()}("

    return parse_one(_CALL.sub(call, _DURATION.sub(duration, text)), dialect="duckdb")


class _Walk:
    def __init__(self, scope: Scope, functions: Functions) -> None:
        self.scope, self.functions = scope, functions

    def value(self, node: exp.Expression) -> Any:
        match node:
            case exp.Paren():
                return self.value(node.this)
            case exp.Column() | exp.Dot():
                return self._column(node)
            case exp.Literal():
                return node.this if node.is_string else _number(node.this)
            case exp.Boolean():
                return node.this
            case exp.Null():
                return None
            case exp.And() | exp.Or() | exp.Not() | exp.Is() | exp.Between() | exp.In() | exp.Case():
                return self._logic(node)
            case exp.NullSafeEQ() | exp.NullSafeNEQ():
                same = _compare("=", *_pair(self.value(node.this), self.value(node.expression), none=True))
                return same if isinstance(node, exp.NullSafeEQ) else not same
            case exp.Neg():
                value = self.value(node.this)
                return None if value is None else _fit(-value)
            case exp.Bracket():
                return self._item(self.value(node.this), self.value(node.expressions[0]), node)
            case exp.Cast() | exp.TryCast():
                return _cast(self.value(node.this), node.to.sql())
            case exp.Anonymous():
                return self._call(node.name.lower(), [self.value(arg) for arg in node.expressions])
        if type(node) in _OPERATORS:
            left, right = self.value(node.this), self.value(node.expression)
            found = None if left is None or right is None else _OPERATORS[type(node)](left, right)
            return found if found is None or not node.args.get("negate") else not found  # NOT LIKE is one node
        raise EngineError("the oracle does not know this expression", found=repr(node), remedy="add it, plainly")

    def _column(self, node: exp.Expression) -> Any:
        name = node.sql().replace('"', "")
        if name not in self.scope:
            raise EngineError("there is no such column", found=repr(name), remedy=f"columns: {sorted(self.scope)}")
        return self.scope[name]

    def _logic(self, node: exp.Expression) -> Any:
        match node:
            case exp.And() | exp.Or():
                stop = isinstance(node, exp.Or)
                values = (self.value(node.this), self.value(node.expression))
                return stop if stop in values else None if None in values else not stop
            case exp.Not():
                value = self.value(node.this)
                return None if value is None else not value
            case exp.Is():
                return self.value(node.this) is self.value(node.expression)
            case exp.Between():
                value, low, high = (self.value(node.args[part]) for part in ("this", "low", "high"))
                above = None if value is None or low is None else _compare(">=", *_pair(value, low))
                below = None if value is None or high is None else _compare("<=", *_pair(value, high))
                return False if False in (above, below) else None if None in (above, below) else True
            case exp.In():
                value = self.value(node.this)
                items = [self.value(item) for item in node.expressions]
                if value is None:
                    return None
                found = any(item is not None and _compare("=", *_pair(value, item)) for item in items)
                return True if found else None if None in items else False
        return self._case(node)

    def _case(self, node: exp.Expression) -> Any:
        for branch in node.args["ifs"]:
            condition = self.value(branch.this)
            if node.this is not None:
                subject = self.value(node.this)
                condition = None not in (subject, condition) and _compare("=", *_pair(subject, condition))
            if condition is True:
                return self.value(branch.args["true"])
        return self.value(node.args["default"]) if node.args.get("default") is not None else None

    def _item(self, value: Any, index: Any, node: exp.Expression) -> Any:
        if value is None or index is None:
            return None
        if isinstance(value, Mapping):
            return value.get(index)
        if isinstance(node.expressions[0], exp.Literal) and index >= 0:
            index += 1  # the dialect counts literal indices from 0
        place = index - 1 if index > 0 else len(value) + index
        return value[place] if index and 0 <= place < len(value) else None

    def _call(self, name: str, args: list[Any]) -> Any:
        name = name.removeprefix("call_")
        if name in self.functions:
            return self.functions[name](*args)
        if name == "coalesce":
            return next((arg for arg in args if arg is not None), None)
        if name == "if":
            return args[1] if args[0] is True else args[2] if len(args) > 2 else None
        if name in ("greatest", "least"):
            values = [arg for arg in args if arg is not None]
            return (max if name == "greatest" else min)(values) if values else None
        if name == "nullif":
            equal = None not in args and _compare("=", *_pair(*args))
            return None if equal else args[0]
        if name not in _FUNCTIONS:
            raise EngineError("the oracle does not know this function", found=repr(name), remedy="add it, plainly")
        return None if None in args else _FUNCTIONS[name](*args)


def _number(text: str) -> Any:
    return int(text) if text.isdigit() else float(text) if "e" in text.lower() else Decimal(text)


def _fit(value: Any) -> Any:
    """Ints are of 64 bits, decimals of 38 digits, floats are finite; null where a result is not."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    if isinstance(value, float):
        return value + 0.0 if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return value if abs(value.scaleb(-min(0, int(value.as_tuple().exponent)), _WIDE)) < Decimal(10) ** 38 else None
    return value


def _pair(left: Any, right: Any, none: bool = False) -> tuple[Any, Any]:
    """Two values brought to one type: float with any number is float, a date beside text is read from it."""
    if none and None in (left, right):
        return left is None, right is None
    if isinstance(left, date) and isinstance(right, str):
        return left, date.fromisoformat(right)
    if isinstance(right, date) and isinstance(left, str):
        return date.fromisoformat(left), right
    if isinstance(left, float) or isinstance(right, float):
        return float(left), float(right)
    return left, right


def _compare(op: str, left: Any, right: Any) -> bool:
    match op:
        case "=":
            return bool(left == right)
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
    return bool(left >= right)


def _arithmetic(op: str) -> Callable[[Any, Any], Any]:
    def run(left: Any, right: Any) -> Any:
        if isinstance(left, date):
            days = timedelta(microseconds=right)
            return left + days if op == "+" else left - days
        left, right = _pair(left, right)
        if isinstance(left, Decimal) or isinstance(right, Decimal):
            left, right = Decimal(left), Decimal(right)
            return _fit({"+": _WIDE.add, "-": _WIDE.subtract, "*": _WIDE.multiply}[op](left, right))
        try:
            return _fit(left + right if op == "+" else left - right if op == "-" else left * right)
        except OverflowError:
            return None

    return run


def _divide(left: Any, right: Any) -> float | None:
    left, right = float(left), float(right)
    return None if right == 0 else _fit(left / right)


def _modulo(left: Any, right: Any) -> Any:
    left, right = _pair(left, right)
    if right == 0:
        return None
    if isinstance(left, float):
        return math.fmod(left, right) + 0.0
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return _WIDE.remainder(Decimal(left), Decimal(right))
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


def _whole(left: int, right: int) -> int | None:
    if right == 0:
        return None
    found = abs(left) // abs(right)
    whole: int | None = _fit(found if (left < 0) == (right < 0) else -found)
    return whole


def _like(text: str, pattern: str) -> bool:
    found = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(found, text, re.DOTALL) is not None


def _cast(value: Any, kind: str) -> Any:
    kind = kind.lower()
    if value is None:
        return None
    if kind in ("double", "float"):
        return float(value)
    if kind in ("text", "varchar"):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind in ("int", "bigint", "integer") and isinstance(value, int | Decimal | str):
        return _fit(int(value))
    raise EngineError("the oracle does not know this cast", found=f"{value!r} to {kind}", remedy="add it, plainly")


def _local(x: int, zone: str) -> datetime:
    utc = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=x)  # noqa: UP017
    return utc.astimezone(ZoneInfo(zone))


_OPERATORS: dict[type[exp.Expression], Callable[[Any, Any], Any]] = {
    exp.Add: _arithmetic("+"),
    exp.Sub: _arithmetic("-"),
    exp.Mul: _arithmetic("*"),
    exp.Div: _divide,
    exp.IntDiv: _whole,
    exp.Mod: _modulo,
    exp.EQ: lambda a, b: _compare("=", *_pair(a, b)),
    exp.NEQ: lambda a, b: not _compare("=", *_pair(a, b)),
    exp.LT: lambda a, b: _compare("<", *_pair(a, b)),
    exp.LTE: lambda a, b: _compare("<=", *_pair(a, b)),
    exp.GT: lambda a, b: _compare(">", *_pair(a, b)),
    exp.GTE: lambda a, b: _compare(">=", *_pair(a, b)),
    exp.DPipe: lambda a, b: a + b,
    exp.Like: _like,
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "interval_us": lambda us: us,
    "abs": lambda x: _fit(abs(x)),
    "lower": lambda s: s.lower(),
    "upper": lambda s: s.upper(),
    "length": len,
    "trim": lambda s: s.strip(" "),
    "concat": lambda *texts: "".join(texts),
    "year": lambda x, zone="UTC": _local(x, zone).year,
    "month": lambda x, zone="UTC": _local(x, zone).month,
    "day": lambda x, zone="UTC": _local(x, zone).day,
    "hour": lambda x, zone="UTC": _local(x, zone).hour,
    "minute": lambda x, zone="UTC": _local(x, zone).minute,
}
