"""What an aggregate gives: the type of its result from the types of its arguments."""

from __future__ import annotations

from penstock.errors import Location, PlanError
from penstock.plan.expr.types import BOOL, FLOAT, INT, Type, decimal

__all__ = ["BUCKET_TYPES", "counts", "fold_type"]

BUCKET_TYPES = ("text", "int", "bool", "date")
_ORDERED = ("int", "float", "decimal", "bool", "date", "instant", "duration")
_NUMBERS = ("int", "float", "decimal")
_TAKES = {
    "sum": (*_NUMBERS, "duration"),
    "mean": _NUMBERS,
    "share": ("bool",),
    "min": _ORDERED,
    "max": _ORDERED,
    "variance": _NUMBERS,
    "std": _NUMBERS,
    "ratio": _NUMBERS,
    "decayed_sum": _NUMBERS,
}


def counts(op: str, bucketed: bool) -> bool:
    """Whether an aggregate of nothing is 0, and so never null. (Exact distinct is null above its limit.)"""
    return op in ("count", "distinct_approx") and not bucketed


def fold_type(op: str, argument: Type, what: str, where: Location | None) -> Type:
    """The type of an aggregate of one argument (of a ratio: of each).

    count, distinct: int. sum: the type itself, of 128 bits while it adds (int: null when the end does not fit 64);
    decimals widen to 38 digits. mean, share, variance, std, ratio, decayed_sum: float. min, max, first, last: the type.

    Raises:
        PlanError: the aggregate does not take values of this type.
    """
    legal = _TAKES.get(op)
    if legal is not None and argument.name not in legal:
        raise PlanError(
            f"{what}: {op} takes {', '.join(legal)}", found=f"a value of {argument}", remedy=_remedy(op, argument),
            where=where,
        )  # fmt: skip
    match op:
        case "count" | "distinct" | "distinct_approx":
            return INT
        case "any":
            return BOOL
        case "sum":
            return decimal(38, argument.scale) if argument.name == "decimal" else argument
        case "min" | "max" | "first" | "last":
            return argument
    assert legal is not None, op
    return FLOAT


def _remedy(op: str, argument: Type) -> str:
    if argument == BOOL:
        return "use share(...) for the share of true, or count().where(...) for how many"
    if op == "share":
        return 'give a condition, as in share("amount > 100")'
    if argument.name == "text" and op in ("min", "max"):
        return "first(), last() and distinct() take text"
    return "give a number"
