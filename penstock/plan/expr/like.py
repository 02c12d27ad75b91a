"""LIKE and ILIKE as kernels, and the joining of texts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import pyarrow.compute as pc

from penstock.plan.expr.kernels import Kernel, arrow, scalar
from penstock.plan.expr.types import TEXT

__all__ = ["like_kernel", "like_row", "text_join"]

_NOTHING = scalar("", TEXT)
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


def like_kernel(pattern: str, fold: bool) -> Kernel:
    """The kernel of `x LIKE pattern`: `%` is any text, `_` one code point, and there is no escape character.

    Args:
        pattern: the pattern.
        fold: True for ILIKE, which compares without regard to case.
    """
    inner = pattern.strip("%")
    if not fold and "%" not in inner and "_" not in inner:
        leading, trailing = pattern.startswith("%"), pattern.endswith("%")
        if not leading and not trailing:
            equal, whole = arrow("equal"), scalar(pattern, TEXT)
            return lambda values: equal(values, whole)
        name = {(True, True): "match_substring", (False, True): "starts_with", (True, False): "ends_with"}[
            leading, trailing
        ]
        return arrow(name, pc.MatchSubstringOptions(inner))
    body = "".join({"%": ".*", "_": "."}.get(c) or _SPECIAL.sub(r"\\\g<0>", c) for c in pattern)
    return arrow("match_substring_regex", pc.MatchSubstringOptions(rf"(?s)\A(?:{body})\z", ignore_case=fold))


@lru_cache(maxsize=1024)
def _compiled(pattern: str, fold: bool) -> re.Pattern[str]:
    body = "".join({"%": ".*", "_": "."}.get(c) or re.escape(c) for c in pattern)
    return re.compile(body, re.DOTALL | (re.IGNORECASE if fold else 0))


def like_row(value: str, pattern: str, fold: bool) -> bool:
    """LIKE for one row, where the pattern is a column."""
    return _compiled(pattern, fold).fullmatch(value) is not None


def text_join(nulls: str) -> Kernel:
    """The kernel that joins texts row by row; `emit_null`: null if one is, `replace`: null counts as empty."""
    join: Any = arrow("binary_join_element_wise", pc.JoinOptions(null_handling=nulls))
    return lambda *texts: join(*texts, _NOTHING)
