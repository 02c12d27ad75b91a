"""Text of an expression into tokens, and the errors that point into the text."""

from __future__ import annotations

import re
from typing import NamedTuple

from penstock.errors import ExpressionError

__all__ = ["KEYWORDS", "Token", "refuse", "tokenize"]

# Words that cannot name a column unless quoted.
_WORDS = """
AND OR NOT IS NULL TRUE FALSE CASE WHEN THEN ELSE END IN BETWEEN LIKE ILIKE SIMILAR CAST TRY_CAST AS DISTINCT SELECT
FROM WHERE OVER EXISTS GROUP ORDER HAVING UNION INTERSECT EXCEPT WITH LIMIT JOIN ON USING WINDOW QUALIFY INSERT UPDATE
DELETE CREATE DROP ALTER ANY ALL SOME COLLATE GLOB ISNULL NOTNULL LAMBDA
"""
KEYWORDS = frozenset(_WORDS.split())


class Token(NamedTuple):
    """`kind` is number, duration, text, name, quoted, keyword, op or end; `value` is upper case for keywords."""

    kind: str
    value: str
    at: int


_PATTERN = re.compile(
    r"""(?P<space>\s+)
      | (?P<duration>\d+(?:w|d|h|min|s|ms|us)(?:\d+(?:w|d|h|min|s|ms|us))*(?!\w))
      | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
      | (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")+")
      | (?P<name>[^\W\d]\w*)
      | (?P<op>::|<>|!=|<=|>=|\|\||<<|>>|->>|->|//|\*\*|[-+*/%=<>(),.\[\]&|~^:{}])
    """,
    re.VERBOSE,
)
_REFUSED = {
    ";": "an expression is one value; `;` would begin another statement",
    "$": "an expression takes no parameters",
    "?": "an expression takes no parameters",
    "'": "this text literal is not closed",
    '"': "this quoted name is not closed",
    "@": "@ is no operator here",
    "!": "! is no operator here",
}


def refuse(text: str, at: int, reason: str, remedy: str) -> ExpressionError:
    """An error whose `found` shows the expression with a caret under offset `at`."""
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : end if end >= 0 else len(text)]
    return ExpressionError(
        reason, found=f"at column {at - start + 1} of\n    {line}\n    {' ' * (at - start)}^", remedy=remedy
    )


def tokenize(text: str) -> list[Token]:
    """The tokens of `text`, with an `end` token behind.

    Raises:
        ExpressionError: a character begins no token; a literal is not closed.
    """
    tokens = []
    at, match = 0, _PATTERN.match
    while at < len(text):
        found = match(text, at)
        if found is None:
            raise _no_token(text, at)
        kind, value = found.lastgroup or "", found[0]
        if kind != "space":
            if kind == "name" and value.upper() in KEYWORDS:
                kind, value = "keyword", value.upper()
            elif kind == "text":
                value = value[1:-1].replace("''", "'")
            elif kind == "quoted":
                value = value[1:-1].replace('""', '"')
            elif kind == "op" and text.startswith(("--", "/*"), at):
                raise refuse(text, at, "an expression holds no comments", "write the comment in the definition's file")
            tokens.append(Token(kind, value, at))
        at = found.end()
    tokens.append(Token("end", "", len(text)))
    return tokens


def _no_token(text: str, at: int) -> ExpressionError:
    char = text[at]
    if char.isdigit():
        return refuse(
            text,
            at,
            "a number runs into a word",
            "durations are written 30d, 12h, 60min, 5s, 100ms, 7us or 1w; months and years with add_months(x, n)",
        )
    return refuse(text, at, _REFUSED.get(char, f"{char!r} begins nothing in SQL"), "remove or quote it")
