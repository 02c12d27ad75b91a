"""Which signature of a function a call means, and why a name is no function here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from penstock.errors import nearest
from penstock.plan.expr import operators
from penstock.plan.expr.bound import Bound
from penstock.plan.expr.registry import Overload, functions, match, spread
from penstock.plan.expr.types import FLOAT, INT, Type

__all__ = ["Chosen", "choose_overload", "guarded", "may_be_null", "why_no_function"]

_AGGREGATE_NAMES = """
count sum avg mean min max first last any_value median mode stddev stddev_samp stddev_pop var_samp var_pop variance
array_agg list string_agg group_concat bool_and bool_or arg_min arg_max approx_count_distinct quantile corr
approx_quantile histogram
"""
_AGGREGATES = frozenset(_AGGREGATE_NAMES.split())
_WINDOWS = frozenset({"row_number", "rank", "dense_rank", "lag", "lead", "ntile", "percent_rank", "nth_value"})
_WINDOWS |= {"first_value", "last_value"}
_IMPURE = {
    "now": "pass the instant as a column", "current_timestamp": "pass the instant as a column",
    "current_date": "pass the instant as a column", "today": "windows so far today are said in a group: ps.today(zone)",
    "random": "derive it from the row: hash64(id)", "uuid": "derive it from the row: sha256(id)",
    "gen_random_uuid": "derive it from the row: sha256(id)",
}  # fmt: skip
_OF_SEVERAL = {"min": "; the least of several values is least(a, b)", "max": "; the greatest is greatest(a, b)"}
_READ = frozenset({"instant", "date", "duration"})  # types that a text literal is read as
_ADAPTED, _NEEDS_LITERAL = 10, 100  # costs above any conversion


class Chosen(NamedTuple):
    """A signature that fits a call: the types its arguments convert to, and its type variables."""

    cost: int
    overload: Overload
    types: tuple[Type, ...]
    variables: dict[str, Type]


def choose_overload(overloads: Sequence[Overload], args: Sequence[Bound], zone: str) -> Chosen | None:
    """The signature that fits with the least conversion; text literals may stand for dates and instants.

    Where only a literal would do and there is none, the signature is chosen so that the error can say so.
    """
    best: Chosen | None = None
    for overload in overloads:
        found = match(overload, [arg.type for arg in args])
        extra = 0
        if found is None:
            found, extra = match(overload, _adapted(overload, args, zone)), _ADAPTED
        if found is None:
            continue
        params = spread(overload, len(args))
        if any(p.constant and arg.scalar is None for p, arg in zip(params, args, strict=True)):
            extra += _NEEDS_LITERAL
        if best is None or found[0] + extra < best.cost:
            best = Chosen(found[0] + extra, overload, found[1], found[2])
    return best


def _adapted(overload: Overload, args: Sequence[Bound], zone: str) -> list[Type]:
    """The types of the arguments, with literals read as what stands beside them or is asked for."""
    types = [arg.type for arg in args]
    beside = next((t for t in types if t.name in _READ or t.name == "decimal"), None)
    for at, (param, arg) in enumerate(zip(spread(overload, len(args)), args, strict=False)):
        wanted = Type(param.pattern.name) if param.pattern.name in _READ else None
        if len(param.pattern.name) == 1:
            wanted = beside
        if wanted and arg.literal is not None and operators.convert(arg, wanted, zone):
            types[at] = wanted
    return types


def guarded(template: Any, kind: Type) -> Any:
    """DuckDB text of a call, brought under the frozen rules of its type."""
    if template is None or not (kind in (INT, FLOAT) or kind.name == "decimal"):
        return template
    if callable(template):
        return lambda texts: operators.guard(template(texts), kind)
    return lambda texts: operators.guard(template.format(*texts), kind)


def may_be_null(rule: str, args: Sequence[Bound]) -> bool:
    """Whether a call may give null, by the rule of its signature."""
    match rule:
        case "maybe":
            return True
        case "never":
            return False
        case "all":
            return all(arg.nullable for arg in args)
    return any(arg.nullable for arg in args)


def why_no_function(name: str, users: Collection[str]) -> tuple[str, str]:
    """Reason and remedy for a name that is no function of expressions."""
    if name in _AGGREGATES:
        remedy = "use it in a group: stream.by(key).over('1h').features(...)" + _OF_SEVERAL.get(name, "")
        return f"{name} aggregates rows, an expression sees one row", remedy
    if name in _WINDOWS:
        return f"{name} is a window function", "windows are said in a group: stream.by(key).over('1h')"
    if name in _IMPURE:
        return f"{name}() is no function of the row", _IMPURE[name]
    return f"there is no function {name}", nearest(name, [*functions(), *users])
