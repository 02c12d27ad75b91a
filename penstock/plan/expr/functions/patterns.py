"""Regular expressions (RE2 syntax, as in DuckDB). Patterns are literals, checked when the expression is compiled."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr.kernels import Kernel, arrow, one, rowwise, scalar
from penstock.plan.expr.registry import Family, Site
from penstock.plan.expr.types import TEXT

__all__ = ["PATTERNS"]

PATTERNS = Family("patterns", "Regular expressions")
_add = PATTERNS.add
_FLAGS = {"i": "i", "c": "", "s": "s", "m": "m", "g": ""}


def _pattern(site: Site, flags_at: int) -> str:
    pattern = str(site.constants[1])
    flags = site.constants[flags_at] if len(site.constants) > flags_at else ""
    inline = ""
    for flag in flags:
        if flag not in _FLAGS:
            raise site.refuse(flags_at, f"{flag!r} is no flag", "flags are i, c, s, m, and g for regexp_replace")
        inline += _FLAGS[flag]
    whole = f"(?{inline}){pattern}" if inline else pattern
    try:
        arrow("match_substring_regex", pc.MatchSubstringOptions(whole))(one("", TEXT))
    except pa.ArrowInvalid as error:
        raise site.refuse(1, f"{pattern!r} is no pattern: {error}", "see the syntax of RE2") from None
    return whole


def _matches(site: Site) -> Kernel:
    return arrow("match_substring_regex", pc.MatchSubstringOptions(_pattern(site, 2)))


def _full_match(site: Site) -> Kernel:
    return arrow("match_substring_regex", pc.MatchSubstringOptions(rf"\A(?:{_pattern(site, 2)})\z"))


_add("regexp_matches(text, text!, text!?) -> bool", "True if the pattern matches somewhere.", make=_matches)
_add("regexp_full_match(text, text!, text!?) -> bool", "True if the pattern matches the whole text.", make=_full_match)


def _count_groups(pattern: str) -> int:
    # only opening parentheses that capture: not escaped, not in a class, not (?: and its like
    bare = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", pattern)
    return len(re.findall(r"\((?!\?)|\(\?P?<(?![=!])", bare))


def _extract_sql(texts: list[str]) -> str:
    group = [f"CAST({text} AS INTEGER)" for text in texts[2:3]]
    return f"regexp_extract({', '.join([*texts[:2], *group, *texts[3:]])})"


def _extract(site: Site) -> Kernel:
    pattern = _pattern(site, 3)
    group = site.constants[2] if len(site.constants) > 2 else 0
    known = _count_groups(pattern)
    if not 0 <= group <= known:
        raise site.refuse(2, f"the pattern has {known} groups, none is {group}", "0 is the whole match")
    return lambda values: _extracted(values, pattern, group)


def _extracted(values: Any, pattern: str, group: int) -> Any:
    """The group of the first match; empty where nothing matches."""
    spans = _span(values, pattern, group)
    return rowwise(_cut, (TEXT, TEXT), TEXT)(values, spans)


def _cut(_value: str, found: str) -> str:
    return found


def _span(values: Any, pattern: str, group: int) -> Any:
    # Arrow names groups; one name is put on the group asked for, the others stop capturing
    named = _name_group(pattern, group)
    found = arrow("extract_regex", pc.ExtractRegexOptions(named))(values)
    held = arrow("struct_field", pc.StructFieldOptions([0]))(found)
    empty = arrow("coalesce")(held, scalar("", TEXT))
    return arrow("if_else")(values.is_valid(), empty, scalar(None, TEXT))


def _name_group(pattern: str, group: int) -> str:
    flags = re.match(r"\(\?[ism]+\)", pattern)
    head, body = (flags[0], pattern[flags.end() :]) if flags else ("", pattern)
    pieces, seen = [], 0
    tokens = re.finditer(
        r"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<open>\(\?P?<\w+>|\((?!\?))|.", body, re.DOTALL
    )
    for token in tokens:
        text = token[0]
        if token["open"]:
            seen += 1
            pieces.append("(?P<x>" if seen == group else "(?:")
        else:
            pieces.append(text)
    inner = "".join(pieces)
    return f"{head}{inner}" if group else f"{head}(?P<x>{inner})"


_add(
    "regexp_extract(text, text!, int!?, text!?) -> text",
    "The first match, or a group of it.",
    make=_extract,
    duckdb=_extract_sql,
    rule="empty where nothing matches",
)


def _replace(site: Site) -> Kernel:
    pattern = _pattern(site, 3)
    everywhere = len(site.constants) > 3 and "g" in site.constants[3]
    options = pc.ReplaceSubstringOptions(pattern, site.constants[2], max_replacements=None if everywhere else 1)
    run = arrow("replace_substring_regex", options)
    try:
        run(one("", TEXT))
    except pa.ArrowInvalid as error:
        raise site.refuse(2, f"no such replacement: {error}", r"groups are written \1, \2") from None
    return run


_add(
    "regexp_replace(text, text!, text!, text!?) -> text",
    r"With the first match (every one with 'g') replaced; \1 is a group.",
    make=_replace,
)
