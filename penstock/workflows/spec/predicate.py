"""Predicates over facts: a small typed language, stored as text, never run as code.

The grammar stands in `docs/design/workflow.md`. Truth is three-valued: a comparison with a fact that nobody has told
yet is unknown, `not` of it too, and what is unknown starts nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from penstock.workflows.spec.grammar import (
    And,
    Binary,
    Compare,
    Covers,
    Fact,
    Flag,
    Literal,
    Not,
    Or,
    Param,
    Term,
    Word,
)
from penstock.workflows.spec.grammar import Node as Tree
from penstock.workflows.spec.grammar import parse as _parse

__all__ = ["FactRef", "Lookup", "Predicate", "Scope", "Unmet", "parse"]

Lookup = Callable[[str, str], Any]
"""(kind, subject) -> the value now, or None while unknown. An `interval` fact is a sequence of (start_us, end_us)."""

_TESTS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
_FLIPPED: Final = {">=": "<=", ">": "<", "<=": ">=", "<": ">", "==": "==", "!=": "!="}
_MONOTONE: Final = frozenset({"watermark", "frontier", "offset"})


class FactRef(NamedTuple):
    """A fact that a predicate reads: its kind and its subject."""

    kind: str
    subject: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a predicate may use besides facts: the run's interval and parameters, and the present.

    Instants are UTC microseconds; `start_us` and `end_us` are None for a run without an interval.
    """

    now_us: int
    start_us: int | None = None
    end_us: int | None = None
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Unmet:
    """A comparison that is not true: its text, what stands there now, and what would have to.

    `fact` is the single fact on which it hangs, if there is one; `present` is None while that is unknown.
    """

    text: str
    fact: FactRef | None
    present: Any
    required: Any


@dataclass(frozen=True, slots=True)
class Predicate:
    """A parsed predicate, or a bare fact whose every new value counts (`snapshot(items)`)."""

    text: str
    root: Tree

    @property
    def bare(self) -> FactRef | None:
        """The fact, if the text is just a fact and no condition."""
        return FactRef(self.root.kind, self.root.subject) if isinstance(self.root, Fact) else None

    @property
    def reads(self) -> tuple[FactRef, ...]:
        """The facts it reads, each once, in the order of the text."""
        return tuple(dict.fromkeys(ref for node in _walk(self.root) if (ref := _ref(node))))

    @property
    def uses_now(self) -> bool:
        """Whether the passing of time alone may change it."""
        return any(isinstance(node, Word) and node.name == "now" for node in _walk(self.root))

    @property
    def uses_interval(self) -> bool:
        """Whether it needs the interval of a run."""
        return any(
            (isinstance(node, Word) and node.name in ("start", "end")) or (isinstance(node, Covers) and not node.start)
            for node in _walk(self.root)
        )

    @property
    def parameters(self) -> frozenset[str]:
        """The run parameters it names."""
        return frozenset(node.name for node in _walk(self.root) if isinstance(node, Param))

    def compared(self) -> tuple[tuple[str, str], ...]:
        """(kind of fact, text it is compared with), to see whether the fact can ever be that."""
        return tuple(
            (fact.kind, str(word.value))
            for node in _walk(self.root)
            if isinstance(node, Compare)
            for fact, word in ((node.left, node.right), (node.right, node.left))
            if isinstance(fact, Fact) and isinstance(word, Literal) and word.of == "text"
        )

    def evaluate(self, lookup: Lookup, scope: Scope) -> bool | None:
        """True, False, or None while something it needs is unknown."""
        value = _value(self.root, lookup, scope)
        return value if value is None or isinstance(value, bool) else None

    def thresholds(self, scope: Scope) -> tuple[tuple[str, str, int], ...]:
        """(kind, subject, value): where growing facts cross into or out of a comparison, so that a stream can be told.

        Only of comparisons between one watermark, frontier or offset and something that stands still in this scope.
        """
        found = (_threshold(node, scope) for node in _walk(self.root) if isinstance(node, Compare))
        return tuple(dict.fromkeys(item for item in found if item))

    def watched(self, scope: Scope) -> tuple[FactRef, ...]:
        """The facts of which any change may matter: all that have a use outside of `thresholds`."""
        covered = [node for node in _walk(self.root) if isinstance(node, Compare) and _threshold(node, scope)]
        inside = {id(part) for node in covered for part in _walk(node)}
        return tuple(dict.fromkeys(r for n in _walk(self.root) if id(n) not in inside and (r := _ref(n))))

    def changes_at(self, lookup: Lookup, scope: Scope) -> int | None:
        """The next instant after now at which time alone turns a comparison, facts being as they are; None if never."""
        times = [
            at
            for node in _walk(self.root)
            if isinstance(node, Compare) and (at := _turn(node, lookup, scope)) is not None
        ]
        return min(times, default=None)

    def unmet(self, lookup: Lookup, scope: Scope) -> tuple[Unmet, ...]:
        """The comparisons and flags that keep it from being true, in the order of the text; empty when it is true."""
        return tuple(_unmet(self.root, lookup, scope)) if self.evaluate(lookup, scope) is not True else ()


def parse(text: str, *, workflow: str = "", nodes: frozenset[str] | set[str] = frozenset()) -> Predicate:
    """Reads a predicate; a subject that is one of `nodes` stands for `workflow.node`.

    Raises:
        WorkflowError: it does not parse or its types do not fit; the error points at the place.
    """
    return Predicate(text, _parse(text, lambda name: f"{workflow}.{name}" if name in nodes else name))


def _walk(node: Tree) -> Iterator[Tree]:
    yield node
    match node:
        case Or(parts) | And(parts):
            for part in parts:
                yield from _walk(part)
        case Not(part):
            yield from _walk(part)
        case Compare(_, left, right) | Binary(_, left, right):
            yield from _walk(left)
            yield from _walk(right)
        case Covers(_, start, end) if start is not None and end is not None:
            yield from _walk(start)
            yield from _walk(end)


def _ref(node: Tree) -> FactRef | None:
    match node:
        case Fact(kind, subject) | Flag(kind, subject):
            return FactRef(kind, subject)
        case Covers(subject):
            return FactRef("interval", subject)
    return None


def _value(node: Tree, lookup: Lookup, scope: Scope) -> Any:
    match node:
        case Or(parts):
            return _either([_value(part, lookup, scope) for part in parts], True)
        case And(parts):
            return _either([_value(part, lookup, scope) for part in parts], False)
        case Not(part):
            inner = _value(part, lookup, scope)
            return None if inner is None else not inner
        case Compare(test, left, right):
            return _test(test, _value(left, lookup, scope), _value(right, lookup, scope))
        case Flag(kind, subject):
            return None if lookup(kind, subject) is None else bool(lookup(kind, subject))
        case Covers():
            return _covers(node, lookup, scope)
        case Binary(sign, left, right):
            a, b = _value(left, lookup, scope), _value(right, lookup, scope)
            return None if a is None or b is None else a + b if sign == "+" else a - b
        case Fact(kind, subject):
            return lookup(kind, subject)
        case Literal(value):
            return value
        case Word(name):
            return {"now": scope.now_us, "start": scope.start_us, "end": scope.end_us}[name]
        case Param(name):
            return (scope.parameters or {}).get(name)


def _either(values: list[Any], decisive: bool) -> bool | None:
    if decisive in values:
        return decisive
    return None if None in values else not decisive


def _test(test: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    try:
        return _TESTS[test](left, right)
    except TypeError:  # a fact or a parameter of another type than the language's: it can never be met
        return None


def _covers(node: Covers, lookup: Lookup, scope: Scope) -> bool | None:
    start = scope.start_us if node.start is None else _value(node.start, lookup, scope)
    end = scope.end_us if node.end is None else _value(node.end, lookup, scope)
    done = lookup("interval", node.subject)
    if start is None or end is None or done is None:
        return None
    reached = start
    for low, high in sorted(done):
        if low > reached:
            break
        reached = max(reached, high)
    return bool(reached >= end)


def _unknown(kind: str, subject: str) -> None:
    return None


def _linear(node: Term, lookup: Lookup, scope: Scope) -> tuple[int | float, int] | None:
    """A sum as constant + slope * now; None if something in it is unknown or no number."""
    match node:
        case Word("now"):
            return 0, 1
        case Binary(sign, left, right):
            a, b = _linear(left, lookup, scope), _linear(right, lookup, scope)
            if a is None or b is None:
                return None
            return (a[0] + b[0], a[1] + b[1]) if sign == "+" else (a[0] - b[0], a[1] - b[1])
    value = _value(node, lookup, scope)
    return None if value is None or isinstance(value, str | bool) else (value, 0)


def _turn(node: Compare, lookup: Lookup, scope: Scope) -> int | None:
    left, right = _linear(node.left, lookup, scope), _linear(node.right, lookup, scope)
    if left is None or right is None or left[1] == right[1]:
        return None
    slope, gap = left[1] - right[1], right[0] - left[0]  # turns where slope * now == gap
    at = -(-gap // slope)  # the first whole instant at or after it
    now = scope.now_us
    test = _TESTS[node.test]
    before = test(left[0] + left[1] * now, right[0] + right[1] * now)
    for instant in (at - 1, at, at + 1):
        if instant > now and test(left[0] + left[1] * instant, right[0] + right[1] * instant) != before:
            return int(instant)
    return None


def _threshold(node: Compare, scope: Scope) -> tuple[str, str, int] | None:
    for side, other, test in ((node.left, node.right, node.test), (node.right, node.left, _FLIPPED[node.test])):
        found = _growing(side)
        fixed = _linear(other, _unknown, scope)
        if found is None or fixed is None or fixed[1] != 0 or test in ("==", "!="):
            continue
        fact, shift = found
        moved = _linear(shift, _unknown, scope) if shift is not None else (0, 0)
        if moved is None or moved[1] != 0:
            continue
        edge = fixed[0] - moved[0]
        return fact.kind, fact.subject, int(edge) + (1 if test in (">", "<=") else 0)
    return None


def _growing(node: Term) -> tuple[Fact, Term | None] | None:
    """A growing fact alone, or with something added to it."""
    match node:
        case Fact(kind) if kind in _MONOTONE:
            return node, None
        case Binary("+", Fact(kind) as fact, shift) if kind in _MONOTONE:
            return fact, shift
        case Binary("-", Fact(kind) as fact, Literal(value, of)) if kind in _MONOTONE and not isinstance(value, str):
            return fact, Literal(-value, of)
    return None


def _unmet(node: Tree, lookup: Lookup, scope: Scope) -> Iterator[Unmet]:
    match node:
        case Or(parts) | And(parts):
            for part in parts:
                if _value(part, lookup, scope) is not True:
                    yield from _unmet(part, lookup, scope)
        case Compare(test, left, right):
            fact = next((ref for part in _walk(node) if (ref := _ref(part))), None)
            a, b = _value(left, lookup, scope), _value(right, lookup, scope)
            if _ref(left) is None and _ref(right) is not None:
                a, b, test = b, a, _FLIPPED[test]
            yield Unmet(node.text(), fact, a, b)
        case Not():
            yield Unmet(node.text(), None, None, None)
        case Covers():
            start = scope.start_us if node.start is None else _value(node.start, lookup, scope)
            end = scope.end_us if node.end is None else _value(node.end, lookup, scope)
            yield Unmet(node.text(), _ref(node), lookup("interval", node.subject), (start, end))
        case Flag():
            yield Unmet(node.text(), _ref(node), lookup(node.kind, node.subject), True)
