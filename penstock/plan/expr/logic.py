"""Comparisons, three-valued logic, LIKE and membership: each binds its operands, or gives None if they do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr.bound import Bound, apply
from penstock.plan.expr.kernels import Kernel, arrow, rowwise, scalar
from penstock.plan.expr.like import like_kernel, like_row, text_join
from penstock.plan.expr.operators import cast, unify
from penstock.plan.expr.syntax import Node
from penstock.plan.expr.types import BOOL, INT, JSON, NULL, TEXT, Type

__all__ = [
    "COMPARISONS",
    "boolean",
    "compare",
    "concat",
    "distinct",
    "is_false",
    "is_true",
    "like",
    "logical",
    "member",
]
__all__ += ["choose", "typed"]

COMPARISONS = {
    "=": "equal", "<>": "not_equal", "<": "less", ">": "greater", "<=": "less_equal", ">=": "greater_equal",
}  # fmt: skip
_NESTED = frozenset({"list", "map", "struct"})
_MANY = 4  # from so many literals on, IN is one look-up

_if_else, _coalesce = arrow("if_else"), arrow("coalesce")
_false, _true, _unknown = scalar(False, BOOL), scalar(True, BOOL), scalar(None, BOOL)
_invert, _and, _or, _equal, _is_null = arrow("invert"), arrow("and"), arrow("or"), arrow("equal"), arrow("is_null")


def is_true(values: Any) -> Any:
    """True where true, else false."""
    return _coalesce(values, _false)


def is_false(values: Any) -> Any:
    """True where false, else false."""
    return _invert(_coalesce(values, _true))


def choose(condition: Any, then: Any, otherwise: Any) -> Any:
    """`then` where the condition is true, else `otherwise`."""
    if isinstance(condition, pa.Scalar):
        return then if condition.as_py() else otherwise
    if condition.null_count:
        condition = _coalesce(condition, _false)
    return _if_else(condition, then, otherwise)


def typed(value: Bound, kind: Type, zone: str) -> Bound:
    """A NULL of unknown type given one; any other value as it is."""
    return (cast(value, kind, zone) or value) if value.type == NULL else value


def boolean(value: Bound, zone: str) -> Bound | None:
    """A bool, or NULL as one."""
    held = typed(value, BOOL, zone)
    return held if held.type == BOOL else None


def logical(op: str, left: Bound, right: Bound, node: Node, zone: str) -> Bound | None:
    """AND and OR, three-valued."""
    one, two = boolean(left, zone), boolean(right, zone)
    if one is None or two is None:
        return None
    kernel = arrow("and_kleene" if op == "AND" else "or_kleene")
    return apply(node, kernel, (one, two), BOOL, one.nullable or two.nullable, f"({{0}} {op} {{1}})")


def compare(op: str, left: Bound, right: Bound, node: Node, zone: str) -> Bound | None:
    """The six comparisons."""
    pair = unify(left, right, zone)
    if pair is None:
        return None
    kind, nullable, text = pair[0].type, pair[0].nullable or pair[1].nullable, f"({{0}} {op} {{1}})"
    if kind == NULL:
        pair = typed(pair[0], INT, zone), typed(pair[1], INT, zone)
    elif kind.name in _NESTED:
        if op not in ("=", "<>"):
            return None
        same = rowwise(_same if op == "=" else _different, (kind, kind), BOOL)
        return apply(node, same, pair, BOOL, nullable, text)
    return apply(node, arrow(COMPARISONS[op]), pair, BOOL, nullable, text)


def _same(left: Any, right: Any) -> bool:
    return bool(left == right)


def _different(left: Any, right: Any) -> bool:
    return bool(left != right)


def distinct(left: Bound, right: Bound, node: Node, zone: str) -> Bound | None:
    """IS DISTINCT FROM: two nulls are not distinct."""
    pair = unify(left, right, zone)
    if pair is None or pair[0].type.name in _NESTED:
        return None
    sides = typed(pair[0], INT, zone), typed(pair[1], INT, zone)
    return apply(node, _differ, sides, BOOL, False, "({0} IS DISTINCT FROM {1})")


def _differ(left: Any, right: Any) -> Any:
    both = _coalesce(_equal(left, right), _false)
    neither = _and(_is_null(left), _is_null(right))
    return _invert(_or(both, neither))


def member(value: Bound, items: Sequence[Bound], node: Node, zone: str) -> Bound | int:
    """`value IN (items)`, or the place of an item that does not compare with the value."""
    equals = []
    for at, item in enumerate(items):
        equal = compare("=", value, item, node, zone)
        if equal is None:
            return at
        equals.append(equal)
    found = equals[0]
    for equal in equals[1:]:
        found = logical("OR", found, equal, node, zone) or found
    looked_up = _lookup(value, items, zone)
    if looked_up is not None and value.scalar is None:
        whole = apply(node, looked_up, (value,), BOOL, found.nullable, found.template)
        whole.args = found.args
        return whole
    return found


def _lookup(value: Bound, items: Sequence[Bound], zone: str) -> Kernel | None:
    """The kernel that looks values up among many literals of their type; None where they are few, or no literals."""
    if len(items) < _MANY or value.type.name in _NESTED or value.type == NULL:
        return None
    held = []
    for item in items:
        pair = unify(value, item, zone)
        if pair is None or pair[0].type != value.type or pair[1].scalar is None:
            return None
        held.append(pair[1].scalar)
    valid = [pa.repeat(each, 1) for each in held if each.is_valid]
    if not valid:
        return None
    is_in = arrow("is_in", pc.SetLookupOptions(value_set=pa.concat_arrays(valid), skip_nulls=True))
    some_null = len(valid) < len(held)

    def run(values: Any) -> Any:
        found = is_in(values)
        if some_null:
            found = _if_else(found, _true, _unknown)
        return _if_else(values.is_valid(), found, _unknown) if values.null_count else found

    return run


def concat(left: Bound, right: Bound, node: Node, zone: str) -> Bound | None:
    """`a || b` of texts and of plain values as text."""
    if _NESTED & {left.type.name, right.type.name} or "bytes" in (left.type.name, right.type.name):
        return None
    one, two = cast(left, TEXT, zone), cast(right, TEXT, zone)
    if one is None or two is None:
        return None
    return apply(node, text_join("emit_null"), (one, two), TEXT, one.nullable or two.nullable, "({0} || {1})")


def like(op: str, left: Bound, right: Bound, node: Node, zone: str) -> Bound | None:
    """LIKE and ILIKE; a literal pattern is compiled once."""
    one, two = typed(left, TEXT, zone), typed(right, TEXT, zone)
    if one.type not in (TEXT, JSON) or two.type != TEXT:
        return None
    nullable, text, fold = one.nullable or two.nullable, f"({{0}} {op} {{1}})", op == "ILIKE"
    if two.value is not None:
        whole = apply(node, like_kernel(two.value, fold), (one,), BOOL, nullable, text)
        whole.args = (one, two)
        return whole
    run = rowwise(lambda value, pattern: like_row(value, pattern, fold), (TEXT, TEXT), BOOL)
    return apply(node, run, (one, two), BOOL, nullable, text)
