"""Expressions that use each other: one that stands too early, or a circle, told as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from penstock.errors import Location, PlanError
from penstock.plan.expr.parser import parse
from penstock.plan.expr.syntax import Name, walk

__all__ = ["refuse_order"]


def refuse_order(
    expressions: Sequence[tuple[str, str]], name: str, visible: AbstractSet[str], what: str, where: Location | None
) -> None:
    """Tells of an expression that did not compile when the reason is that it uses one said later, or itself.

    Args:
        expressions: (name, text) in order, each of which may use those before it.
        name: of the one that did not compile.
        visible: columns that it may use.

    Raises:
        PlanError: it is part of a circle, or leads to one, or uses one that is said after it.
    """
    names = {other for other, _ in expressions} - visible
    uses = {other: _used(text, names) for other, text in expressions}
    circle = _circle(name, uses)
    if circle:
        raise PlanError(
            f"{what}, {name}: an expression does not rest on itself",
            found=f"a cycle: {' -> '.join(circle)}",
            remedy="make one of them from other columns",
            where=where,
        )
    if uses[name]:
        later = ", ".join(uses[name])
        raise PlanError(
            f"{what}, {name}: there is no column {uses[name][0]} yet",
            found=f"{later}, said after {name}",
            remedy=f"say {later} before {name}",
            where=where,
        )


def _used(text: str, names: AbstractSet[str]) -> list[str]:
    """Which of the names an expression mentions, each once."""
    try:
        tree = parse(text)
    except PlanError:
        return []
    mentioned = [part.parts[0] for part in walk(tree) if isinstance(part, Name)]
    return [name for name in dict.fromkeys(mentioned) if name in names]


def _circle(start: str, uses: Mapping[str, Sequence[str]]) -> list[str]:
    """A circle that an expression is on, or leads to, as drawn: the first name stands at the end again."""
    path: list[str] = []

    def follow(name: str) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        path.append(name)
        for other in uses[name]:
            if found := follow(other):
                return found
        path.pop()
        return []

    return follow(start)
