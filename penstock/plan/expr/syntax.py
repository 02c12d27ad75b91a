"""The tree of a SQL scalar expression, and its canonical text.

`write` gives one text per tree whatever the spacing, case of keywords, or redundant parentheses of the source;
`parse(write(tree)) == tree`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Between",
    "Binary",
    "Call",
    "Case",
    "Cast",
    "Const",
    "Index",
    "Lambda",
    "Member",
    "Name",
    "Node",
    "Unary",
    "depth",
    "walk",
    "write",
]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the tree; `at` is its offset in the source text and does not count in comparisons."""

    at: int = field(compare=False, repr=False, kw_only=True, default=0)


@dataclass(frozen=True, slots=True)
class Const(Node):
    """A literal. `kind` is int, decimal (value: the digits as text), text, bool, null, duration (us), date, instant."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A dotted reference to a column or to a field of one."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`op` is `-`, `~`, NOT, IS NULL, IS TRUE or IS FALSE (negations are NOT of these)."""

    op: str
    value: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """An operator between two values; AND, OR, LIKE, ILIKE and IS DISTINCT FROM too."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Between(Node):
    """`value BETWEEN low AND high`, both ends included."""

    value: Node
    low: Node
    high: Node


@dataclass(frozen=True, slots=True)
class Member(Node):
    """`value IN (items)`."""

    value: Node
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function by its lower-case name; `[a, b]` is `list_value(a, b)`."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Case(Node):
    """CASE WHEN condition THEN value ... ELSE otherwise END; CASE x WHEN y is CASE WHEN x = y."""

    whens: tuple[tuple[Node, Node], ...]
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Cast(Node):
    """CAST or TRY_CAST to the type written in `target`; both give null where a value does not fit."""

    value: Node
    target: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`value[index]`: an element of a list (from 1, or from the end with -1), the value of a map's key."""

    value: Node
    index: Node


@dataclass(frozen=True, slots=True)
class Lambda(Node):
    """`lambda x, i: body`, an argument of a function of lists; `x -> body` and `(x, i) -> body` too."""

    params: tuple[str, ...]
    body: Node


# Binding powers, loosest first, as in DuckDB's grammar.
POWERS = {
    "OR": 1, "AND": 2, "NOT": 3, "IS": 4,
    "=": 5, "<>": 5, "<": 5, ">": 5, "<=": 5, ">=": 5, "IS DISTINCT FROM": 4,
    "IN": 6, "LIKE": 6, "ILIKE": 6,
    "||": 7, "|": 7, "&": 7, "<<": 7, ">>": 7, "->": 7, "->>": 7,
    "+": 8, "-": 8, "*": 9, "/": 9, "//": 9, "%": 9, "^": 10, "unary": 11, "postfix": 12,
}  # fmt: skip

_UNITS = (
    ("w", 604_800_000_000), ("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000),
    ("s", 1_000_000), ("ms", 1_000), ("us", 1),
)  # fmt: skip
UNITS = dict(_UNITS)


def walk(node: Node) -> Iterator[Node]:
    """The node and everything under it, parents first."""
    yield node
    for child in _children(node):
        yield from walk(child)


def depth(node: Node) -> int:
    """How many nodes lie above each other."""
    deepest, level = 0, [node]
    while level:
        deepest, level = deepest + 1, [child for parent in level for child in _children(parent)]
    return deepest


def _children(node: Node) -> tuple[Node, ...]:
    match node:
        case Unary(value=value) | Cast(value=value):
            return (value,)
        case Binary(left=left, right=right):
            return (left, right)
        case Index(value=value, index=index):
            return (value, index)
        case Lambda(body=body):
            return (body,)
        case Between(value=value, low=low, high=high):
            return (value, low, high)
        case Member(value=value, items=items):
            return (value, *items)
        case Call(args=args):
            return args
        case Case(whens=whens, otherwise=otherwise):
            return (*(child for when in whens for child in when), otherwise)
    return ()


def quote(text: str) -> str:
    """A text literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """An identifier, in double quotes where it needs them."""
    from penstock.plan.expr.lexer import KEYWORDS

    plain = name.isidentifier() and name.isascii() and name.upper() not in KEYWORDS
    return name if plain else '"' + name.replace('"', '""') + '"'


def duration_text(us: int) -> str:
    """A duration literal in its largest whole unit: `30d`, `90min`."""
    for unit, size in _UNITS[1:]:
        if us % size == 0:
            return f"{us // size}{unit}"
    raise AssertionError("a microsecond divides everything")


def write(node: Node, power: int = 0) -> str:
    """The canonical text of a tree, parenthesised only where the grammar needs it."""
    text, own = _write(node)
    return f"({text})" if own < power else text


def _write(node: Node) -> tuple[str, int]:
    match node:
        case Const():
            return _write_const(node)
        case Name(parts=parts):
            return ".".join(map(quote_name, parts)), POWERS["postfix"]
        case Binary(op=op, left=left, right=right):
            own = POWERS[op]
            return f"{write(left, own)} {op} {write(right, own + 1)}", own
        case Unary(op="NOT", value=value):
            return f"NOT {write(value, POWERS['NOT'])}", POWERS["NOT"]
        case Unary(op=op, value=value) if op.startswith("IS"):
            return f"{write(value, POWERS['IS'])} {op}", POWERS["IS"]
        case Unary(op=op, value=value):
            return f"{op}{write(value, POWERS['postfix'])}", POWERS["unary"]
        case Between(value=value, low=low, high=high):
            own = POWERS["IN"]
            return f"{write(value, own)} BETWEEN {write(low, own + 1)} AND {write(high, own + 1)}", own
        case Member(value=value, items=items):
            inside = ", ".join(map(write, items))
            return f"{write(value, POWERS['IN'])} IN ({inside})", POWERS["IN"]
        case Call(name=name, args=args):
            return f"{quote_name(name)}({', '.join(map(write, args))})", POWERS["postfix"]
        case Cast(value=value, target=target):
            return f"CAST({write(value)} AS {target})", POWERS["postfix"]
        case Index(value=value, index=index):
            return f"{write(value, POWERS['postfix'])}[{write(index)}]", POWERS["postfix"]
        case Lambda(params=params, body=body):
            return f"lambda {', '.join(map(quote_name, params))}: {write(body)}", 0
        case Case(whens=whens, otherwise=otherwise):
            branches = [f"WHEN {write(condition)} THEN {write(value)}" for condition, value in whens]
            return f"CASE {' '.join(branches)} ELSE {write(otherwise)} END", POWERS["postfix"]
    raise AssertionError(f"unknown node {node!r}")


def _write_const(node: Const) -> tuple[str, int]:
    own = POWERS["postfix"]
    match node.kind:
        case "text":
            return quote(node.value), own
        case "null":
            return "NULL", own
        case "bool":
            return ("TRUE" if node.value else "FALSE"), own
        case "duration":
            text = duration_text(node.value)
            return text, POWERS["unary"] if node.value < 0 else own
        case "date" | "instant":
            return f"{node.kind.upper()} {quote(node.value)}", own
    return str(node.value), POWERS["unary"] if str(node.value).startswith("-") else own
