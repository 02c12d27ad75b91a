"""Functions of text. Lengths and positions count code points, from 1."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr.kernels import Kernel, arrow, rowwise
from penstock.plan.expr.like import text_join
from penstock.plan.expr.registry import Family, Site
from penstock.plan.expr.types import INT, TEXT

__all__ = ["TEXTS", "character"]

TEXTS = Family("text", "Text")
_add = TEXTS.add
_to_int = arrow("cast", pc.CastOptions.safe(pa.int64()))
_LONGEST = 1_000_000
_FARTHEST = 2**31 - 1


def _int_of(name: str, options: Any = None) -> Kernel:
    count = arrow(name, options)
    return lambda values: _to_int(count(values))


_add(
    "length(text) -> int",
    "Number of code points; of a list, of elements.",
    kernel=_int_of("utf8_length"),
    aliases=("len", "char_length", "array_length"),
)
_add("strlen(text) -> int", "Number of bytes in UTF-8.", kernel=_int_of("binary_length"), aliases=("octet_length",))
_add("upper(text) -> text", "Upper case, code point by code point.", kernel=arrow("utf8_upper"), aliases=("ucase",))
_add("lower(text) -> text", "Lower case, code point by code point.", kernel=arrow("utf8_lower"), aliases=("lcase",))


def _trim(name: str, doc: str, side: str) -> None:
    def make(site: Site) -> Kernel:
        chars = site.constants[1] if len(site.constants) > 1 else " "
        return arrow(f"utf8_{side}", pc.TrimOptions(chars)) if chars else lambda values: values

    _add(f"{name}(text, text!?) -> text", doc, make=make)


_trim("trim", "Without the given characters (spaces) at both ends.", "trim")
_trim("ltrim", "Without the given characters (spaces) at the start.", "ltrim")
_trim("rtrim", "Without the given characters (spaces) at the end.", "rtrim")


def _substring(value: str, start: int, length: int | None = None) -> str:
    start = max(-_FARTHEST, min(start, _FARTHEST))
    length = None if length is None else max(-_FARTHEST, min(length, _FARTHEST))
    begin = start - 1 if start > 0 else len(value) + start if start < 0 else -1
    if length is None:
        end = len(value)
    elif length < 0:
        begin, end = begin + length, begin
    else:
        end = begin + length
    return value[max(0, begin) : max(0, end)]


def _held_sql(name: str) -> Callable[[list[str]], str]:
    """DuckDB text with ints held to 31 bits, beyond which DuckDB refuses positions and lengths."""

    def template(texts: list[str]) -> str:
        held = (f"greatest(least({text}, 2147483647), -2147483647)" for text in texts[1:])
        guards = " OR ".join(f"{text} IS NULL" for text in texts)
        return f"CASE WHEN {guards} THEN NULL ELSE {name}({', '.join([texts[0], *held])}) END"

    return template


def _substring_make(site: Site) -> Kernel:
    start = site.constants[1]
    length = site.constants[2] if len(site.constants) > 2 else None
    if start < 1 or (length is not None and length < 0):
        return rowwise(lambda v: _substring(v, start, length), (TEXT,), TEXT)
    return arrow("utf8_slice_codeunits", pc.SliceOptions(start - 1, None if length is None else start - 1 + length))


_add(
    "substring(text, int!, int!?) -> text",
    "The text from a position (from 1; from the end if negative), so many long.",
    make=_substring_make,
    aliases=("substr",),
    rule="a negative length reaches back; what lies outside is cut; both are held to 31 bits",
)
_add("substring(text, int, int?) -> text", row=_substring, duckdb=_held_sql("substring"))


def _left(value: str, n: int) -> str:
    return value[:n]


def _right(value: str, n: int) -> str:
    return value[max(0, len(value) - n) :] if n >= 0 else value[-n:]


_add(
    "left(text, int) -> text",
    "The first n code points; all but the last -n if n is negative.",
    row=_left,
    duckdb=_held_sql("left"),
)
_add(
    "right(text, int) -> text",
    "The last n code points; all but the first -n if n is negative.",
    row=_right,
    duckdb=_held_sql("right"),
)


def character(value: Any, at: Any) -> Any:
    """`text[n]`: the code point at a position from 1, from the end if negative; null outside."""
    return _character(value, at)


def _one_character(value: str, at: int) -> str | None:
    place = at - 1 if at > 0 else len(value) + at
    return value[place] if at != 0 and 0 <= place < len(value) else None


_character = rowwise(_one_character, (TEXT, INT), TEXT)


def _pad(value: str, n: int, fill: str) -> str | None:
    if len(value) >= n:
        return value[: max(0, n)]
    if not fill or n > _LONGEST:
        return None
    return (fill * (n - len(value)))[: n - len(value)]


def _lpad(value: str, n: int, fill: str) -> str | None:
    padding = _pad(value, n, fill)
    return padding if padding is None or len(value) >= n else padding + value


def _rpad(value: str, n: int, fill: str) -> str | None:
    padding = _pad(value, n, fill)
    return padding if padding is None or len(value) >= n else value + padding


def _pad_sql(name: str) -> str:
    cut = "left({0}, CAST(greatest({1}, 0) AS BIGINT))"
    fill = f"TRY({name}({{0}}, CAST(least({{1}}, 1000001) AS INTEGER), {{2}}))"
    whole = f"WHEN length({{0}}) >= {{1}} THEN {cut} WHEN {{1}} <= {_LONGEST} AND {{2}} <> '' THEN {fill}"
    return f"CASE WHEN {{0}} IS NULL OR {{1}} IS NULL OR {{2}} IS NULL THEN NULL {whole} END"


_PAD_RULE = "null for an empty filling and beyond 1,000,000 code points"
_add(
    "lpad(text, int, text) -> text",
    "Filled at the start, or cut, to n code points.",
    row=_lpad,
    nulls="maybe",
    duckdb=_pad_sql("lpad"),
    rule=_PAD_RULE,
)
_add(
    "rpad(text, int, text) -> text",
    "Filled at the end, or cut, to n code points.",
    row=_rpad,
    nulls="maybe",
    duckdb=_pad_sql("rpad"),
    rule=_PAD_RULE,
)
_add(
    "repeat(text, int) -> text",
    "The text n times.",
    nulls="maybe",
    rule="null beyond 1,000,000 code points",
    row=lambda v, n: v * n if len(v) * n <= _LONGEST else None,
    duckdb="CASE WHEN {0} IS NULL OR {1} IS NULL THEN NULL WHEN {0} = '' OR {1} <= 0 THEN '' "
    f"WHEN {{1}} <= {_LONGEST} // length({{0}}) THEN repeat({{0}}, least({{1}}, {_LONGEST})) END",
)


def _replace(site: Site) -> Kernel:
    old, new = site.constants[1], site.constants[2]
    return arrow("replace_substring", pc.ReplaceSubstringOptions(old, new)) if old else lambda values: values


_add(
    "replace(text, text!, text!) -> text",
    "With every occurrence of a text replaced.",
    make=_replace,
    rule="an empty text is not sought",
)
_add("replace(text, text, text) -> text", row=lambda v, old, new: v.replace(old, new) if old else v)
_add(
    "reverse(text) -> text",
    "Backwards, by code points.",
    row=lambda v: v[::-1],
    duckdb="list_reverse(string_split({0}, '')).array_to_string('')",
)


def _translate(site: Site) -> Kernel:
    old, new = site.constants[1], site.constants[2]
    table: dict[int, str | None] = {}
    for at, char in enumerate(old):
        table.setdefault(ord(char), new[at] if at < len(new) else None)
    return rowwise(lambda v: v.translate(table), (TEXT,), TEXT)


_add(
    "translate(text, text!, text!) -> text",
    "Each character of the second replaced by the one in that place of the third.",
    make=_translate,
)


_add(
    "concat(text, text*) -> text",
    "Joined, nulls left out.",
    kernel=text_join("replace"),
    nulls="never",
    rule="never null",
)


def _concat_ws(glue: str | None, *parts: str | None) -> str | None:
    return None if glue is None else glue.join(part for part in parts if part is not None)


_add(
    "concat_ws(text, text*) -> text",
    "Joined with the first between, nulls left out.",
    make=lambda site: rowwise(_concat_ws, site.types, TEXT, skip_null=False),
)


def _finder(name: str) -> Any:
    return lambda site: arrow(name, pc.MatchSubstringOptions(site.constants[1]))


_add("contains(text, text!) -> bool", "True if the second occurs in the first.", make=_finder("match_substring"))
_add("contains(text, text) -> bool", row=lambda v, part: part in v)
_add(
    "starts_with(text, text!) -> bool",
    "True if the first begins with the second.",
    make=_finder("starts_with"),
    aliases=("prefix",),
)
_add("starts_with(text, text) -> bool", row=str.startswith)
_add(
    "ends_with(text, text!) -> bool",
    "True if the first ends with the second.",
    make=_finder("ends_with"),
    aliases=("suffix",),
)
_add("ends_with(text, text) -> bool", row=str.endswith)
_add(
    "strpos(text, text) -> int",
    "Position of the second in the first, from 1; 0 if it does not occur.",
    row=lambda v, part: v.find(part) + 1,
    duckdb="instr({0}, {1})",
    aliases=("instr", "position"),
)


def _split_part(value: str, by: str, n: int) -> str:
    parts = value.split(by) if by else list(value) or [""]
    place = n - 1 if n > 0 else len(parts) + n
    return parts[place] if n and 0 <= place < len(parts) else ""


_add(
    "split_part(text, text, int) -> text",
    "The n-th part (from 1; from the end if negative) of the text split.",
    row=_split_part,
    rule="empty where there is none",
)
_add(
    "string_split(text, text) -> list<text>",
    "The parts of the text split at the second.",
    row=lambda v, by: v.split(by) if by else list(v),
    aliases=("split", "str_split"),
    duckdb="CASE WHEN {1} IS NOT NULL THEN string_split({0}, {1}) END",
    rule="an empty separator splits into code points",
)
_add(
    "ascii(text) -> int",
    "Code point of the first character; 0 for empty text.",
    row=lambda v: ord(v[0]) if v else 0,
    aliases=("unicode", "ord"),
    duckdb="CASE WHEN {0} IS NOT NULL THEN greatest(unicode({0}), 0) END",
)
_add(
    "chr(int) -> text",
    "The character of a code point.",
    nulls="maybe",
    row=lambda n: chr(n) if 0 < n < 0x110000 and not 0xD800 <= n < 0xE000 else None,
    duckdb="CASE WHEN {0} BETWEEN 1 AND 55295 OR {0} BETWEEN 57344 AND 1114111 THEN chr(CAST({0} AS INTEGER)) END",
    rule="null for what is no code point, and for 0",
)
_add(
    "initcap(text) -> text",
    "Each word's first letter in upper case, the rest in lower case; words are letters and digits.",
    kernel=arrow("utf8_title"),
    duckdb=None,
)
_add("nfc_normalize(text) -> text", "In Unicode normal form C.", row=lambda v: unicodedata.normalize("NFC", v))


def _strip_accents(value: str) -> str:
    kept = (char for char in unicodedata.normalize("NFD", value) if unicodedata.category(char) != "Mn")
    return unicodedata.normalize("NFC", "".join(kept))


_add("strip_accents(text) -> text", "Without combining marks.", row=_strip_accents)


def _levenshtein(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


_add(
    "levenshtein(text, text) -> int",
    "Least number of single-character edits between the two.",
    row=_levenshtein,
    aliases=("editdist3",),
    duckdb=None,
    rule="by code points; DuckDB counts bytes",
)
_add(
    "hamming(text, text) -> int",
    "Number of places where two texts of one length differ.",
    nulls="maybe",
    row=lambda a, b: sum(x != y for x, y in zip(a, b, strict=True)) if len(a) == len(b) else None,
    duckdb=None,
    aliases=("mismatches",),
    rule="null where the lengths differ; by code points",
)
_add("is_ascii(text) -> bool", "True if every character is ASCII.", kernel=arrow("string_is_ascii"), duckdb=None)
