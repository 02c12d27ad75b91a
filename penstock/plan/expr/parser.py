"""Tokens into the tree of an expression, by operator precedence.

The grammar is DuckDB's for scalar expressions. It is read here and not by SQLGlot because a plan of a thousand
expressions must parse in milliseconds (importing SQLGlot alone takes longer than the whole plan may), because
SQLGlot rewrites or refuses calls that are legal here (`hour(x, zone)`), and because errors point at a column.
"""

from __future__ import annotations

import re

from penstock.errors import ExpressionError
from penstock.plan.expr.lexer import Token, refuse, tokenize
from penstock.plan.expr.syntax import (
    POWERS,
    UNITS,
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Const,
    Index,
    Lambda,
    Member,
    Name,
    Node,
    Unary,
    quote_name,
)

__all__ = ["duration_us", "parse"]

_OPERATORS = {op: POWERS[op] for op in ("+", "-", "*", "/", "//", "%", "||", "|", "&", "<<", ">>", "->", "->>", "^")}
_OPERATORS |= {op: POWERS[op] for op in ("=", "<>", "<", ">", "<=", ">=")} | {"!=": POWERS["<>"], "**": POWERS["^"]}
_SPELLINGS = {"!=": "<>", "**": "^"}
_WORDS = {"OR": 1, "AND": 2, "IS": 4, "IN": 6, "BETWEEN": 6, "LIKE": 6, "ILIKE": 6, "NOT": 6}
_WORDS |= {"ISNULL": 4, "NOTNULL": 4}
_MAX_DEPTH = 200

_REFUSED_WORDS = {
    "SELECT": ("a subquery", "join or read the other table in a definition, then name its column"),
    "WITH": ("a subquery", "join or read the other table in a definition, then name its column"),
    "EXISTS": ("a subquery", "join the other stream in a definition, then name its column"),
    "OVER": ("a window function", "windows are said in a group: stream.by(key).over('1h')"),
    "SIMILAR": ("SIMILAR TO", "write regexp_full_match(text, pattern)"),
    "GLOB": ("GLOB", "write LIKE, or regexp_matches(text, pattern)"),
    "COLLATE": ("COLLATE", "text compares by its UTF-8 bytes; compare lower(x) to ignore case"),
    "LAMBDA": ("a lambda outside a call", "write list_transform(x, lambda v: v + 1)"),
    "DISTINCT": ("DISTINCT", "use the aggregate distinct(...) in a group"),
}
_INTERVAL_UNITS = {
    "week": "w", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms", "microsecond": "us"
}  # fmt: skip


def parse(text: str) -> Node:
    """The tree of one scalar expression.

    Raises:
        ExpressionError: the text is no scalar expression; the error points at the place.
    """
    parser = _Parser(text)
    node = parser.expression(0)
    token = parser.peek()
    if token.kind != "end":
        raise parser.unexpected(token)
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at, self.depth = text, tokenize(text), 0, 0

    # tokens

    def peek(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += token.kind != "end"
        return token

    def accept(self, value: str) -> bool:
        token = self.tokens[self.at]
        if token.value == value and token.kind in ("op", "keyword"):
            self.at += 1
            return True
        return False

    def expect(self, value: str) -> None:
        if not self.accept(value):
            token = self.peek()
            if token.value in _REFUSED_WORDS and token.kind == "keyword":
                raise self.unexpected(token)
            shown = repr(token.value) if token.kind != "end" else "the end"
            raise refuse(self.text, token.at, f"{value} is expected here, not {shown}", f"write {value}")

    def word(self, *words: str) -> bool:
        """Takes a name that is a keyword only in this place."""
        token = self.peek()
        if token.kind == "name" and token.value.upper() in words:
            self.at += 1
            return True
        return False

    def unexpected(self, token: Token) -> ExpressionError:
        if token.kind == "end":
            return refuse(self.text, token.at, "the expression ends where a value is expected", "complete it")
        if token.kind == "keyword" and token.value in _REFUSED_WORDS:
            what, remedy = _REFUSED_WORDS[token.value]
            return refuse(self.text, token.at, f"{what} is no part of a scalar expression", remedy)
        if token.kind == "keyword":
            quoted = f'"{token.value.lower()}"'
            return refuse(
                self.text, token.at, f"{token.value} is out of place here", f"a column of that name is written {quoted}"
            )
        return refuse(
            self.text, token.at, f"{token.value!r} is out of place here", "remove it, or complete what it joins"
        )

    # operators

    def expression(self, power: int) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise refuse(
                self.text, self.peek().at, f"nested more than {_MAX_DEPTH} deep", "name a part as its own column"
            )
        left = self.prefix()
        while True:
            token = self.tokens[self.at]
            if token.kind == "op":
                own = _OPERATORS.get(token.value, 0)
            elif token.kind == "keyword":
                own = _WORDS.get(token.value, 0)
            else:
                own = 0
            if own == 0 or own <= power:
                break
            self.at += 1
            if token.kind == "op":
                op = _SPELLINGS.get(token.value, token.value)
                left = Binary(op, left, self.expression(own), at=token.at)
            else:
                left = self.word_operator(token, left, own)
        self.depth -= 1
        return left

    def word_operator(self, token: Token, left: Node, own: int) -> Node:
        match token.value:
            case "OR" | "AND":
                return Binary(token.value, left, self.expression(own), at=token.at)
            case "ISNULL":
                return Unary("IS NULL", left, at=token.at)
            case "NOTNULL":
                return Unary("NOT", Unary("IS NULL", left, at=token.at), at=token.at)
            case "IS":
                return self.is_(left, token.at)
        negated = token.value == "NOT"
        kind = self.take() if negated else token
        node: Node
        match kind.value:
            case "IN":
                node = self.membership(left, token.at)
            case "BETWEEN":
                low = self.expression(POWERS["IN"])
                self.expect("AND")
                node = Between(left, low, self.expression(POWERS["IN"]), at=token.at)
            case "LIKE" | "ILIKE":
                node = Binary(kind.value, left, self.expression(POWERS["LIKE"]), at=token.at)
            case _:
                raise self.unexpected(kind)
        return Unary("NOT", node, at=token.at) if negated else node

    def is_(self, left: Node, at: int) -> Node:
        negated = self.accept("NOT")
        token = self.take()
        node: Node
        if token.kind == "keyword" and token.value in ("NULL", "TRUE", "FALSE"):
            node = Unary(f"IS {token.value}", left, at=at)
        elif token.kind == "keyword" and token.value == "DISTINCT":
            self.expect("FROM")
            node = Binary("IS DISTINCT FROM", left, self.expression(POWERS["IS"]), at=at)
        else:
            raise self.unexpected(token)
        return Unary("NOT", node, at=at) if negated else node

    def membership(self, left: Node, at: int) -> Node:
        opened = self.peek()
        if not self.accept("("):
            # `x IN list` asks for a list value, as in DuckDB
            return Call("list_contains", (self.expression(POWERS["IN"]), left), at=at)
        items = self.arguments(")")
        if not items:
            raise refuse(self.text, opened.at, "IN needs at least one value", "write x IN (1, 2)")
        return Member(left, items, at=at)

    # values

    def prefix(self) -> Node:
        token = self.take()
        if token.kind == "op":
            return self.prefix_operator(token)
        if token.kind == "keyword" and token.value == "NOT":
            return Unary("NOT", self.expression(POWERS["NOT"] - 1), at=token.at)
        return self.postfix(self.primary(token))

    def prefix_operator(self, token: Token) -> Node:
        match token.value:
            case "(":
                inside = self.expression(0)
                self.expect(")")
                return self.postfix(inside)
            case "[":
                return self.postfix(Call("list_value", self.arguments("]"), at=token.at))
            case "+":
                return self.expression(POWERS["unary"] - 1)
            case "-" | "~":
                value = self.expression(POWERS["unary"] - 1)
                if token.value == "-" and isinstance(value, Const) and value.kind in ("int", "decimal", "duration"):
                    return _negate(value, token.at)
                return Unary(token.value, value, at=token.at)
        raise self.unexpected(token)

    def primary(self, token: Token) -> Node:
        match token.kind:
            case "number":
                return _number(token)
            case "duration":
                return Const("duration", duration_us(token.value), at=token.at)
            case "text":
                return Const("text", token.value, at=token.at)
            case "quoted":
                return self.name(token)
            case "name":
                return self.call_or_name(token)
            case "keyword":
                return self.keyword(token)
        raise self.unexpected(token)

    def keyword(self, token: Token) -> Node:
        match token.value:
            case "NULL":
                return Const("null", None, at=token.at)
            case "TRUE" | "FALSE":
                return Const("bool", token.value == "TRUE", at=token.at)
            case "CASE":
                return self.case(token.at)
            case "CAST" | "TRY_CAST":
                self.expect("(")
                value = self.expression(0)
                self.expect("AS")
                target = self.type_text()
                self.expect(")")
                return Cast(value, target, at=token.at)
        raise self.unexpected(token)

    def call_or_name(self, token: Token) -> Node:
        following, word = self.peek(), token.value.lower()
        if following.kind == "op" and following.value == "(":
            self.at += 1
            return self.call(word, token)
        if following.kind == "text" and word in ("date", "timestamp", "timestamptz", "instant"):
            self.at += 1
            return Const("date" if word == "date" else "instant", following.value, at=token.at)
        if word == "interval" and following.kind in ("text", "number"):
            return self.interval(token.at)
        return self.name(token)

    def call(self, word: str, token: Token) -> Node:
        if word == "extract":
            part = self.take()
            self.expect("FROM")
            value = self.expression(0)
            self.expect(")")
            return Call("date_part", (Const("text", part.value.lower(), at=part.at), value), at=token.at)
        if self.peek().value in ("*", "DISTINCT") and self.peek().kind in ("op", "keyword"):
            remedy = "aggregates are said in a group: stream.by(key).over('1h').features(...)"
            raise refuse(self.text, token.at, f"{word}({self.peek().value.lower()}) aggregates rows", remedy)
        node = Call(word, self.arguments(")", arrows=word in _WITH_LAMBDA), at=token.at)
        if self.peek().kind == "keyword" and self.peek().value == "OVER":
            raise self.unexpected(self.peek())
        return node

    def name(self, token: Token) -> Node:
        parts = [token.value]
        while self.accept("."):
            part = self.take()
            if part.kind not in ("name", "quoted", "keyword", "duration"):
                raise self.unexpected(part)
            # after a dot any word is a name; keywords keep the spelling of the source
            parts.append(self.text[part.at : part.at + len(part.value)] if part.kind == "keyword" else part.value)
        return Name(tuple(parts), at=token.at)

    def postfix(self, node: Node) -> Node:
        while True:
            token = self.peek()
            if self.accept("["):
                index = self.expression(0)
                if self.peek().value == ":" and self.peek().kind == "op":
                    raise refuse(self.text, token.at, "slices are a function", "write list_slice(x, begin, end)")
                self.expect("]")
                node = Index(node, index, at=token.at)
            elif self.accept("::"):
                node = Cast(node, self.type_text(), at=token.at)
            elif not isinstance(node, Name) and self.accept("."):
                part = self.take()
                if part.kind not in ("name", "quoted"):
                    raise self.unexpected(part)
                node = Call("struct_extract", (node, Const("text", part.value, at=part.at)), at=token.at)
            else:
                return node

    def arguments(self, close: str, *, arrows: bool = False) -> tuple[Node, ...]:
        """The arguments up to a bracket; where `arrows`, `x -> body` is a lambda and not a path into JSON."""
        if self.accept(close):
            return ()
        found = [self.argument(close, arrows)]
        while self.accept(","):
            found.append(self.argument(close, arrows))
        self.expect(close)
        return tuple(found)

    def argument(self, close: str, arrows: bool) -> Node:
        at = self.peek().at
        if close == ")" and self.accept("LAMBDA"):
            params = self.parameters()
            self.expect(":")
            return Lambda(params, self.expression(0), at=at)
        arrow = _ARROW.match(
            " ".join(t.value if t.kind == "op" else t.kind for t in self.tokens[self.at : self.at + 7])
        )
        if not arrows or arrow is None:
            return self.expression(0)
        opened = self.accept("(")
        params = self.parameters()
        if opened:
            self.expect(")")
        self.expect("->")
        return Lambda(params, self.expression(0), at=at)

    def at_arrow(self) -> bool:
        """Whether parameters and an arrow come next."""
        ahead = self.tokens[self.at : self.at + 6]
        return bool(_ARROW.match(" ".join(token.value if token.kind == "op" else token.kind for token in ahead)))

    def parameters(self) -> tuple[str, ...]:
        names: list[str] = []
        while not names or self.accept(","):
            token = self.take()
            if token.kind not in ("name", "quoted"):
                raise self.unexpected(token)
            if token.value in names:
                raise refuse(self.text, token.at, f"the lambda has two parameters {token.value}", "rename one")
            names.append(token.value)
        return tuple(names)

    def case(self, at: int) -> Node:
        subject = None if self.peek().value == "WHEN" else self.expression(0)
        whens: list[tuple[Node, Node]] = []
        while self.accept("WHEN"):
            condition = self.expression(0)
            if subject is not None:
                condition = Binary("=", subject, condition, at=condition.at)
            self.expect("THEN")
            whens.append((condition, self.expression(0)))
        if not whens:
            raise self.unexpected(self.peek())
        otherwise = self.expression(0) if self.accept("ELSE") else Const("null", None, at=at)
        self.expect("END")
        return Case(tuple(whens), otherwise, at=at)

    def type_text(self) -> str:
        """Takes the tokens of a type and writes it as `str(Type)` does."""
        from penstock.errors import PlanError
        from penstock.plan.expr.types import Type

        start, depth, parts = self.peek(), 0, list[str]()
        while True:
            token = self.peek()
            op = token.value if token.kind == "op" else ""
            closing = {")": 1, ">": 1, ">>": 2}.get(op, 0)
            array = op == "[" and self.tokens[self.at + 1].value == "]"
            inside = depth > 0 or op in ("(", "<") or array or not parts or token.value.lower() in _TYPE_WORDS
            if token.kind == "end" or depth < closing or not inside:
                break
            depth += (op in ("(", "<")) - closing
            taken = 2 if array else 1
            parts += ["[]" if array else quote_name(token.value) if token.kind == "quoted" else token.value]
            self.at += taken
        try:
            return str(Type.parse(" ".join(parts).replace(">>", "> >")))
        except PlanError as error:
            raise refuse(self.text, start.at, f"{' '.join(parts) or 'nothing'} is no type", error.remedy) from None

    def interval(self, at: int) -> Node:
        amount = self.take()
        words = amount.value.split()
        if len(words) == 1 and self.peek().kind == "name":
            words.append(self.take().value)
        unit = _INTERVAL_UNITS.get(words[1].lower().rstrip("s")) if len(words) == 2 else None
        if unit is None or not re.fullmatch(r"-?\d+", words[0]):
            raise refuse(
                self.text, at, "an interval is a whole number of weeks, days, hours, minutes, seconds or less",
                "write 30d, 12h, 60min, 5s; months and years with add_months(x, n)",
            )  # fmt: skip
        return Const("duration", int(words[0]) * UNITS[unit], at=at)


_WITH_LAMBDA = frozenset({"list_transform", "array_transform", "list_apply", "array_apply", "apply"})
_WITH_LAMBDA |= {"list_filter", "array_filter", "filter"}
_ARROW = re.compile(r"(name|quoted) ->( |$)|\( (name|quoted)( , (name|quoted))? \) ->( |$)")
_TYPE_WORDS = frozenset({"precision", "with", "time", "zone"})
_DURATION = re.compile(r"(\d+)([a-z]+)")


def duration_us(text: str) -> int:
    """Microseconds of a duration literal."""
    return sum(int(amount) * UNITS[unit] for amount, unit in _DURATION.findall(text))


def _number(token: Token) -> Const:
    if token.value.isdigit():
        return Const("int", int(token.value), at=token.at)
    return Const("decimal", token.value.lower(), at=token.at)


def _negate(value: Const, at: int) -> Const:
    if value.kind == "decimal":
        text = value.value
        return Const("decimal", text[1:] if text.startswith("-") else "-" + text, at=at)
    return Const(value.kind, -value.value, at=at)
