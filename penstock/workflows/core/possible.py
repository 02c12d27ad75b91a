"""Whether a predicate can still become true, the nodes that have ended being as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.workflows.spec.grammar import And, Node, Not, Or
from penstock.workflows.spec.predicate import FactRef, Lookup, Predicate, Scope

__all__ = ["can_come_true"]


def can_come_true(
    predicate: Predicate, settled: Callable[[FactRef], bool], lookups: Sequence[Lookup], scope: Scope
) -> bool:
    """False when whatever may still happen cannot make it true.

    A comparison of which every fact is settled stays as it is; one with a settled fact that is unknown stays unknown,
    and every other may become true and false.

    Args:
        predicate: what is waited for.
        settled: whether a fact can change no more.
        lookups: the facts as they may be seen; one is enough.
        scope: interval and parameters of the run.
    """
    return _outcomes(predicate.root, settled, lookups, scope)[0]


def _outcomes(
    tree: Node, settled: Callable[[FactRef], bool], lookups: Sequence[Lookup], scope: Scope
) -> tuple[bool, bool]:
    """(it can come true, it can come false)."""
    match tree:
        case Or(parts):
            found = [_outcomes(part, settled, lookups, scope) for part in parts]
            return any(true for true, _ in found), all(false for _, false in found)
        case And(parts):
            found = [_outcomes(part, settled, lookups, scope) for part in parts]
            return all(true for true, _ in found), any(false for _, false in found)
        case Not(part):
            true, false = _outcomes(part, settled, lookups, scope)
            return false, true
    leaf = Predicate("", tree)
    fixed = [ref for ref in leaf.reads if settled(ref)]
    if any(all(lookup(*ref) is None for lookup in lookups) for ref in fixed):
        return False, False
    if len(fixed) < len(leaf.reads) or leaf.uses_now:
        return True, True
    values = [leaf.evaluate(lookup, scope) for lookup in lookups]
    return True in values, False in values
