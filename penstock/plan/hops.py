"""Which left edges a window has, and which windows may look ahead."""

from __future__ import annotations

from typing import Final

from penstock.plan.expr import Expression
from penstock.plan.expr.syntax import Binary, Const, Node
from penstock.plan.ir import JoinPlan, RelationPlan, SourcePlan

__all__ = ["HOPS_US", "default_hop_us", "may_look_ahead", "moved_from"]

HOPS_US: Final = (
    86_400_000_000,
    21_600_000_000,
    3_600_000_000,
    900_000_000,
    300_000_000,
    60_000_000,
    10_000_000,
    1_000_000,
)
"""The usual steps of a left edge, longest first: 1 d, 6 h, 1 h, 15 min, 5 min, 1 min, 10 s, 1 s."""


def default_hop_us(width_us: int) -> int:
    """The longest usual step that is at most a 24th of the width; 0 (exact) below 24 s.

    >>> default_hop_us(3_600_000_000)
    60000000
    """
    return next((hop for hop in HOPS_US if hop * 24 <= width_us), 0)


def may_look_ahead(relation: RelationPlan) -> bool:
    """Whether rows of a relation can be known before they happen, so that a window may lie after its query.

    Where the known time is declared as the event time and a delay, they cannot.
    """
    match relation:
        case SourcePlan(time=time, known=known):
            return known is not None and not _delays(known, time)
        case JoinPlan():
            return False
    return may_look_ahead(relation.input)


def _delays(known: Expression, time: Expression | None) -> bool:
    if time is None:
        return True
    (known_base, known_us), (time_base, time_us) = moved_from(known), moved_from(time)
    return known_base == time_base and known_us >= time_us


def moved_from(instant: Expression) -> tuple[Node, int]:
    """An instant as another and the microseconds after it: `scheduled_at - 60min` is (`scheduled_at`, -60 min)."""
    node, us = instant.tree, 0
    while (
        isinstance(node, Binary)
        and node.op in ("+", "-")
        and isinstance(node.right, Const)
        and node.right.kind == "duration"
    ):
        us += node.right.value if node.op == "+" else -node.right.value
        node = node.left
    return node, us
