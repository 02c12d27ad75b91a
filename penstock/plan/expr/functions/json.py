"""Functions of JSON text. A path is `$.a.b[0]`, a JSON pointer `/a/b/0`, or a bare key."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from penstock.plan.expr.kernels import Kernel, rowwise
from penstock.plan.expr.registry import Family, Site
from penstock.plan.expr.types import JSON

__all__ = ["JSONS", "valid_or_none"]

JSONS = Family("json", "JSON")
_add = JSONS.add
_STEP = re.compile(r"\.(\w+)|\.\"([^\"]*)\"|\[(\d+)\]|\[#-(\d+)\]")
Step = str | int

_raw = msgspec.json.Decoder(msgspec.Raw)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])
_string = msgspec.json.Decoder(str)
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=4096)
def _path(text: str) -> tuple[Step, ...] | None:
    """The steps of a path; None if it is none."""
    if not text.startswith("$"):
        if text.startswith("/"):
            parts = text[1:].split("/")
            return tuple(p.replace("~1", "/").replace("~0", "~") for p in parts)
        return (text,)
    steps: list[Step] = []
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if not found:
            return None
        if found[3] is not None:
            steps.append(int(found[3]))
        elif found[4] is not None:
            steps.append(-int(found[4]))
        else:
            steps.append(found[1] if found[1] is not None else found[2])
        at = found.end()
    return tuple(steps)


def _find(text: str | bytes, steps: tuple[Step, ...]) -> bytes | None:
    """The JSON at the end of a path, as bytes; None where there is none or the text is no JSON."""
    try:
        held: Any = text
        for step in steps:
            held = _down(held, step)
            if held is None:
                return None
        return bytes(held) if steps else bytes(_raw.decode(text))
    except (msgspec.DecodeError, UnicodeError):
        return None


def _down(held: Any, step: Step) -> Any:
    first = bytes(held).lstrip()[:1] if not isinstance(held, str) else held.lstrip()[:1].encode()
    if first == b"{":
        return _object.decode(held).get(str(step))
    if first == b"[" and (isinstance(step, int) or step.isdigit()):
        items, at = _array.decode(held), int(step)
        at = at + len(items) if at < 0 else at
        return items[at] if 0 <= at < len(items) else None
    return None


_SPACED = re.compile(r'"(?:[^"\\]|\\.)*"|\s+')


def _shortest(found: re.Match[str]) -> str:
    """White space away; text with no escape but the necessary ones."""
    held = found[0]
    if held[0] != '"':
        return ""
    return _encode(_string.decode(held)).decode() if "\\" in held else held


def _compact(raw: bytes) -> str:
    text = raw.decode()
    return _SPACED.sub(_shortest, text)


def valid_or_none(text: str) -> str | None:
    """The text itself if it is JSON."""
    return text if _is_valid(text) else None


def _is_valid(text: str) -> bool:
    try:
        _any.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return False
    return True


def _as_json(raw: bytes) -> str | None:
    return _compact(raw)


def _as_text(raw: bytes) -> str | None:
    if raw[:1] == b'"':
        return _string.decode(raw)
    return None if raw == b"null" else _compact(raw)


def _type(raw: bytes) -> str:
    match raw[:1]:
        case b"{":
            return "OBJECT"
        case b"[":
            return "ARRAY"
        case b'"':
            return "VARCHAR"
        case b"t" | b"f":
            return "BOOLEAN"
        case b"n":
            return "NULL"
    if set(raw) & set(b".eE"):
        return "DOUBLE"
    return "BIGINT" if raw[:1] == b"-" else "UBIGINT"


def _length(raw: bytes) -> int:
    return len(_array.decode(raw)) if raw[:1] == b"[" else 0


def _keys(raw: bytes) -> list[str]:
    return list(_object.decode(raw)) if raw[:1] == b"{" else []


def _at_path(use: Callable[[bytes], Any]) -> Callable[[Site], Kernel]:
    def make(site: Site) -> Kernel:
        steps: tuple[Step, ...] | None = ()
        if len(site.constants) > 1:
            steps = _path(str(site.constants[1]))
            if steps is None:
                raise site.refuse(1, f"{site.constants[1]!r} is no path", "write $.a.b[0], or /a/b/0, or a key")
        fixed = steps or ()

        def one(text: str) -> Any:
            found = _find(text, fixed)
            return None if found is None else use(found.strip())

        return rowwise(one, (JSON,), site.result)

    return make


_RULE = "null where there is nothing at the path, or the text is no JSON"
_add(
    "json_extract(json, text!) -> json",
    "The JSON at a path; x -> path too.",
    make=_at_path(_as_json),
    nulls="maybe",
    rule=_RULE,
    duckdb="CASE WHEN json_valid({0}) THEN json_extract({0}, {1}) END::VARCHAR",
    aliases=("json_extract_path",),
)
_add(
    "json_extract_string(json, text!) -> text",
    "The text, or the JSON as text, at a path; x ->> path too.",
    make=_at_path(_as_text),
    nulls="maybe",
    rule=_RULE + "; JSON null is null",
    aliases=("json_extract_path_text",),
    duckdb="CASE WHEN json_valid({0}) THEN json_extract_string({0}, {1}) END",
)
_OF_A_WHOLE: Sequence[tuple[str, str, Callable[[bytes], Any]]] = (
    ("json_array_length(json, text!?) -> int", "Number of elements of the array; 0 if it is none.", _length),
    ("json_keys(json, text!?) -> list<text>", "Keys of the object; none if it is none.", _keys),
    ("json_type(json, text!?) -> text", "OBJECT, ARRAY, VARCHAR, BOOLEAN, NULL, UBIGINT, BIGINT or DOUBLE.", _type),
)
"""Signatures, words, and what is said of the JSON text itself or of what stands at a path in it."""


def _checked_first(name: str) -> Callable[[list[str]], str]:
    """DuckDB's function of the name, asked only about what is JSON."""
    return lambda texts: f"CASE WHEN json_valid({texts[0]}) THEN {name}({', '.join(texts)}) END"


for _signature, _doc, _use in _OF_A_WHOLE:
    _in_duckdb = _checked_first(_signature.partition("(")[0])
    _add(_signature, _doc, make=_at_path(_use), nulls="maybe", duckdb=_in_duckdb)
_add("json_valid(json) -> bool", "True if the text is JSON.", row=_is_valid)


def _exists(site: Site) -> Kernel:
    found = _at_path(lambda raw: True)(site)
    return lambda values: found(values).fill_null(False)


_add(
    "json_exists(json, text!) -> bool",
    "True if there is something at the path.",
    make=_exists,
    nulls="never",
    duckdb="coalesce(CASE WHEN json_valid({0}) THEN json_exists({0}, {1}) END, FALSE)",
    rule="false for null",
)
