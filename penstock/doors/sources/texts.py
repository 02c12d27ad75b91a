"""Values written as text: which type a column of them has, and the values in that type."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ZONED", "infer_type", "local_to_utc", "parse_texts"]

_NO_NUMBER: Final = pa.array(["NA", "N/A", "NULL", "null", "None", "NaN", "nan", "\\N", "#N/A"])
"""What stands for a missing number or time in text files; in a text column these are texts."""
_INSTANT: Final = pa.timestamp("us", tz="UTC")
_LOCAL: Final = pa.timestamp("us")
_ISO = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}"
ZONED: Final = r"(Z|[+-]\d{2}(:?\d{2})?)$"
"""How an ISO time with a zone ends."""
_PLAIN_INT = r"^-?(0|[1-9]\d{0,18})$"
_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def infer_type(texts: pa.ChunkedArray) -> pa.DataType:
    """The narrowest of int64, double, bool, date, timestamp and string that holds all texts, missing values aside.

    Digits with a leading zero are text (post codes, card numbers), and so is a column without any value.
    """
    values = pc.unique(texts.drop_null())
    values = values.filter(pc.invert(pc.is_in(values, _NO_NUMBER)))
    if not len(values):
        return pa.string()

    def all_match(pattern: str) -> bool:
        return bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())

    if all_match(_PLAIN_INT):
        return pa.int64() if parse_texts(values, pa.int64())[1] is None else pa.string()
    if all_match(_NUMBER) and not pc.any(pc.match_substring_regex(values, r"^-?0\d")).as_py():
        return pa.float64()
    if all_match(r"^(true|false|True|False|TRUE|FALSE)$"):
        return pa.bool_()
    if all_match(r"^\d{4}-\d{2}-\d{2}$") and parse_texts(values, pa.date32())[1] is None:
        return pa.date32()
    if all_match(_ISO):
        kind = _INSTANT if all_match(ZONED) else _LOCAL
        return kind if parse_texts(values, kind)[1] is None else pa.string()
    return pa.string()


def parse_texts(texts: Any, kind: pa.DataType) -> tuple[pa.Array, int | None]:
    """Texts as values of a type, and the first row that is none (then the values are of no use).

    Args:
        texts: an array of string.
        kind: an instant takes ISO 8601 with a zone or Z; a local timestamp takes it without.
    """
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return texts.cast(kind), None
    marked = pc.if_else(pc.is_in(texts, _NO_NUMBER), pa.scalar(None, pa.string()), texts)
    if pa.types.is_boolean(kind):
        marked = pc.utf8_lower(marked)
    try:
        return _cast(marked, kind), None
    except pa.ArrowInvalid:
        return marked, _first_bad(marked, kind)


def _cast(texts: Any, kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        zoned = pc.match_substring_regex(texts, ZONED)
        if not pc.all(zoned, skip_nulls=True).as_py():
            raise pa.ArrowInvalid("a local time without a zone")
    return texts.cast(kind)


def _first_bad(texts: Any, kind: pa.DataType) -> int:
    """Bisection: the first row whose prefix does not parse."""
    low, high = 0, len(texts)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _cast(texts.slice(low, middle - low), kind)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def local_to_utc(times: Any, zone: str) -> Any:
    """Local times as instants; the earlier reading where clocks go back, the jump's end where they go forward.

    >>> local_to_utc(pa.array(["2013-03-10 03:00:00"]), "America/New_York")[0].as_py().hour
    7
    """
    return pc.assume_timezone(times.cast(_LOCAL), zone, ambiguous="earliest", nonexistent="latest").cast(_INSTANT)
