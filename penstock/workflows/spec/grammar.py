"""The tree of a predicate and its parser: text -> typed tree, or an error that points at the place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from penstock.define.values import duration_us, format_duration
from penstock.errors import WorkflowError, nearest

__all__ = ["And", "Binary", "Compare", "Covers", "Fact", "Flag", "Literal", "Node", "Not", "Or", "Param", "Term"]
__all__ += ["KINDS", "Word", "parse"]

KINDS: Final = {
    "watermark": "instant",
    "frontier": "instant",
    "offset": "integer",
    "rows": "integer",
    "mature": "number",
    "lag": "duration",
    "quality": "text",
    "status": "text",
    "model": "text",
    "snapshot": "any",
}
"""Kind of fact -> type of its value. `interval` is read by `done(x)`, `signal` and `approved` are flags."""


@dataclass(frozen=True, slots=True)
class Fact:
    """The value of a fact."""

    kind: str
    subject: str

    def text(self) -> str:
        """As it is written."""
        return f"{self.kind}({self.subject})"


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text, a duration or a truth value, of type `of`."""

    value: int | float | str | bool
    of: str

    def text(self) -> str:
        """As it is written."""
        return format_duration(int(self.value)) if self.of == "duration" else json.dumps(self.value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Word:
    """`start` or `end` of the run's interval, or `now`: instants."""

    name: str

    def text(self) -> str:
        """As it is written."""
        return self.name


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the run; its type is checked against the workflow's parameters."""

    name: str

    def text(self) -> str:
        """As it is written."""
        return f"param.{self.name}"


@dataclass(frozen=True, slots=True)
class Binary:
    """A sum or a difference."""

    sign: str
    left: Term
    right: Term

    def text(self) -> str:
        """As it is written."""
        return f"{self.left.text()} {self.sign} {self.right.text()}"


Term = Fact | Literal | Word | Param | Binary


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison."""

    test: str
    left: Term
    right: Term

    def text(self) -> str:
        """As it is written."""
        return f"{self.left.text()} {self.test} {self.right.text()}"


@dataclass(frozen=True, slots=True)
class Covers:
    """`done(x)`: the done intervals of a batch node cover [start, end), by default the run's interval."""

    subject: str
    start: Term | None = None
    end: Term | None = None

    def text(self) -> str:
        """As it is written."""
        inside = f", {self.start.text()}, {self.end.text()}" if self.start and self.end else ""
        return f"done({self.subject}{inside})"


@dataclass(frozen=True, slots=True)
class Flag:
    """A signal that was given, or an approval."""

    kind: str
    subject: str

    def text(self) -> str:
        """As it is written."""
        return f"{self.kind}({self.subject})"


@dataclass(frozen=True, slots=True)
class Not:
    """Negation; unknown stays unknown."""

    part: Node

    def text(self) -> str:
        """As it is written."""
        return f"not ({self.part.text()})"


@dataclass(frozen=True, slots=True)
class And:
    """All of them."""

    parts: tuple[Node, ...]

    def text(self) -> str:
        """As it is written."""
        return " and ".join(f"({p.text()})" if isinstance(p, Or) else p.text() for p in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """Any of them."""

    parts: tuple[Node, ...]

    def text(self) -> str:
        """As it is written."""
        return " or ".join(p.text() for p in self.parts)


Node = Or | And | Not | Compare | Covers | Flag | Fact | Literal | Word | Param | Binary

_TOKEN = re.compile(
    r"""\s*(?:(?P<duration>\d+(?:us|ms|min|s|h|d|w)\b)
      | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\w))
      | (?P<text>"(?:[^"\\]|\\.)*"|'[^']*')
      | (?P<name>[a-z_][\w]*(?:[./@][\w]+)*)
      | (?P<op>>=|<=|==|!=|[><()+,-])
      | (?P<end>\Z))""",
    re.VERBOSE | re.IGNORECASE,
)
_TESTS = (">=", ">", "<=", "<", "==", "!=")
_MAX_DEPTH = 50


class _Token(NamedTuple):
    kind: str
    value: str
    at: int


def parse(text: str, subject: Callable[[str], str]) -> Node:
    """The tree of a predicate; `subject` gives the stored name of each subject.

    Raises:
        WorkflowError: it does not parse, or the types do not fit.
    """
    parser = _Parser(text, subject)
    node = parser.either()
    token = parser.peek()
    if token.kind != "end":
        raise parser.refuse(token.at, "the predicate should end here", "join conditions by `and` or `or`")
    if not isinstance(node, Or | And | Not | Compare | Covers | Flag | Fact):
        raise parser.refuse(0, "a predicate is a condition", "compare it, as in `watermark(x) >= end`")
    return node


class _Parser:
    def __init__(self, text: str, subject: Callable[[str], str]) -> None:
        self.text, self.subject, self.depth = text, subject, 0
        self.tokens, self.at = self._tokens(), 0

    def _tokens(self) -> list[_Token]:
        found, at = [], 0
        while True:
            match = _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                raise self.refuse(
                    at, f"{self.text[at]!r} means nothing here", "see docs/design/workflow.md, predicates"
                )
            kind = match.lastgroup or ""
            found.append(_Token(kind, match[kind], match.start(kind)))
            if kind == "end":
                return found
            at = match.end()

    def refuse(self, at: int, reason: str, remedy: str) -> WorkflowError:
        shown = f"at column {at + 1} of\n    {self.text}\n    {' ' * at}^"
        return WorkflowError(reason, found=shown, remedy=remedy)

    def peek(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        self.at += token.kind != "end"
        return token

    def accept(self, *values: str) -> _Token | None:
        token = self.peek()
        return self.take() if token.kind in ("op", "name") and token.value in values else None

    def expect(self, value: str) -> None:
        if not self.accept(value):
            raise self.refuse(self.peek().at, f"{value!r} is missing", f"put {value!r} here")

    # conditions

    def either(self) -> Node:
        first = self.peek().at
        parts = [self.all()]
        while self.accept("or"):
            parts.append(self.all())
        return parts[0] if len(parts) == 1 else Or(tuple(self.condition(part, first) for part in parts))

    def all(self) -> Node:
        first = self.peek().at
        parts = [self.negated()]
        while self.accept("and"):
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else And(tuple(self.condition(part, first) for part in parts))

    def negated(self) -> Node:
        token = self.accept("not")
        if not token:
            return self.comparison()
        self.deeper(token.at)
        part = self.condition(self.negated(), token.at)
        self.depth -= 1
        return Not(part)

    def deeper(self, at: int) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.refuse(at, f"a predicate is nested at most {_MAX_DEPTH} deep", "write it flatter")

    def condition(self, node: Node, at: int) -> Node:
        if isinstance(node, Or | And | Not | Compare | Covers | Flag):
            return node
        raise self.refuse(at, f"{node.text()} is no condition", f"compare it, as in `{node.text()} >= ...`")

    def comparison(self) -> Node:
        at = self.peek().at
        left = self.sum()
        token = self.peek()
        if not (token.kind == "op" and token.value in _TESTS):
            return left
        self.take()
        if isinstance(left, Or | And | Not | Compare | Covers | Flag):
            raise self.refuse(at, "a condition is not compared", "leave the comparison away")
        right = self.term(self.sum(), token.at)
        self.comparable(token, left, right)
        return Compare(token.value, left, right)

    def comparable(self, token: _Token, left: Term, right: Term) -> None:
        a, b = self.type(left, token.at), self.type(right, token.at)
        fits = a == b or "any" in (a, b) or {a, b} <= {"integer", "number"}
        if not fits:
            raise self.refuse(token.at, f"{_a(a)} is not compared with {_a(b)}", _hint(a, b))
        if token.value not in ("==", "!=") and {a, b} & {"text", "boolean"}:
            raise self.refuse(token.at, f"a {a if a != 'any' else b} has no order here", "use == or !=")

    # values

    def term(self, node: Node, at: int) -> Term:
        if isinstance(node, Or | And | Not | Compare | Covers | Flag):
            raise self.refuse(at, f"{node.text()} is a condition, not a value", "join conditions by `and` or `or`")
        return node

    def sum(self) -> Node:
        node = self.atom()
        while token := self.accept("+", "-"):
            node = Binary(token.value, self.term(node, token.at), self.term(self.atom(), token.at))
            self.type(node, token.at)
        return node

    def atom(self) -> Node:
        token = self.take()
        match token.kind, token.value:
            case "op", "(":
                self.deeper(token.at)
                inner = self.either()
                self.depth -= 1
                self.expect(")")
                return inner
            case "op", "-":
                number = self.take()
                if number.kind not in ("number", "duration"):
                    raise self.refuse(number.at, "a number or a duration is missing after -", "write it as in -5min")
                return _literal(number, -1)
            case (("number" | "duration" | "text"), _):
                return _literal(token)
            case "name", _:
                return self.named(token)
        raise self.refuse(token.at, "a fact, a value or ( is missing", "write it as in `watermark(x) >= end + 5min`")

    def named(self, token: _Token) -> Node:
        name = token.value
        if name in ("true", "false"):
            return Literal(name == "true", "boolean")
        if self.accept("("):
            return self.call(token)
        if name in ("start", "end", "now", "interval.start", "interval.end"):
            return Word(name.removeprefix("interval."))
        if name.startswith("param."):
            return Param(name.removeprefix("param."))
        known = (*KINDS, "done", "signal", "approved", "start", "end", "now")
        raise self.refuse(token.at, f"{name} is no value", f"{nearest(name, known)}; a fact is written kind(subject)")

    def call(self, token: _Token) -> Node:
        kind, subject = token.value, self.take()
        if kind not in KINDS and kind not in ("done", "signal", "approved"):
            raise self.refuse(token.at, f"there is no kind of fact {kind!r}", nearest(kind, (*KINDS, "done", "signal")))
        if subject.kind != "name":
            raise self.refuse(subject.at, f"{kind}() needs a name", f"write it as in {kind}(samples)")
        name = self.subject(subject.value)
        if kind == "done" and self.accept(","):
            start = self.instant(self.peek().at)
            self.expect(",")
            end = self.instant(self.peek().at)
            self.expect(")")
            return Covers(name, start, end)
        self.expect(")")
        if kind == "done":
            return Covers(name)
        if kind in ("signal", "approved"):
            return Flag(kind, subject.value)
        return Fact(kind, name)

    def instant(self, at: int) -> Term:
        node = self.term(self.sum(), at)
        if self.type(node, at) not in ("instant", "any"):
            raise self.refuse(at, "an interval is given by two instants", "write done(x, start - 1d, end)")
        return node

    def type(self, node: Term, at: int) -> str:
        match node:
            case Fact(kind):
                return KINDS[kind]
            case Literal(_, of):
                return of
            case Word():
                return "instant"
            case Param():
                return "any"
            case Binary(sign, left, right):
                return self.sum_type(sign, self.type(left, at), self.type(right, at), at)

    def sum_type(self, sign: str, left: str, right: str, at: int) -> str:
        if "any" in (left, right):
            return "any"
        match left, sign, right:
            case "instant", "-", "instant":
                return "duration"
            case (("instant" | "duration"), _, "duration"):
                return left
            case "duration", "+", "instant":
                return "instant"
            case (("integer" | "number"), _, ("integer" | "number")):
                return "integer" if left == right == "integer" else "number"
        raise self.refuse(at, f"{_a(left)} {sign} {_a(right)} is nothing", _hint(left, right))


def _literal(token: _Token, sign: int = 1) -> Literal:
    match token.kind:
        case "duration":
            return Literal(sign * duration_us(token.value), "duration")
        case "text":
            return Literal(json.loads(token.value) if token.value[0] == '"' else token.value[1:-1], "text")
    number = float(token.value) if re.search(r"[.eE]", token.value) else int(token.value)
    return Literal(sign * number, "number" if isinstance(number, float) else "integer")


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aei" else f"a {kind}"


def _hint(left: str, right: str) -> str:
    if {left, right} == {"instant", "integer"} or {left, right} == {"duration", "integer"}:
        return "give the number a unit, as in 10min"
    if {left, right} == {"instant", "duration"}:
        return "write an instant plus a duration, as in `end + 10min`"
    return "compare values of one type"
