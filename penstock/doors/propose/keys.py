"""Which column identifies a row, and which name things that features are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow.compute as pc

from penstock.doors.propose.profile import ColumnProfile

__all__ = ["event_id", "keys", "table_key"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ID: Final = _words(
    """
    id uuid guid key no num number nr seq sequence code hash
    """
)
_THING: Final = _words(
    """
    user customer account item product sku device session merchant card tail tailnum carrier origin dest airport
    plane store shop terminal ip email country city station stock imei phone seller buyer creative campaign ad
    host
    """
)


def event_id(columns: Sequence[ColumnProfile]) -> ColumnProfile | None:
    """The column that identifies an event: unique, of text or whole numbers, and named like an id."""
    found = [c for c in columns if c.can_be_key and c.unique and _ID & set(c.words)]
    return min(found, key=lambda c: (not {"event", "id"} <= set(c.words), c.counted_up), default=None)


def table_key(columns: Sequence[ColumnProfile], of: int | None = None) -> ColumnProfile | None:
    """The column that identifies a thing in a table: as `event_id`, or the first unique one that may be a key."""
    named = event_id(columns)
    if named is not None:
        return named
    plain = [c for c in columns if c.can_be_key and c.unique and not c.counted_up]
    return plain[0] if plain else None


def keys(columns: Sequence[ColumnProfile], but: set[str], most: int = 4) -> list[tuple[ColumnProfile, str]]:
    """Columns that name things: repeated values, named like a thing, likeliest first; with why.

    Args:
        but: columns that are taken already.
    """
    scored = []
    for column in columns:
        if column.name in but or not column.can_be_key or not 2 <= column.distinct < column.rows - column.nulls:
            continue
        repeats = (column.rows - column.nulls) / column.distinct
        named = set(column.words)
        is_text = column.low is None
        score = 2.0 * bool(named & {"id", "uuid", "key"}) + 1.5 * bool(named & _THING) + 0.5 * bool(named & _ID)
        score += 1.0 * (is_text and _short(column)) + 0.5 * (repeats >= 2) - 1.5 * (repeats < 1.2)
        score -= 1.0 * (column.distinct < 3) + 1.0 * bool(named & {"label", "flag", "type", "status"})
        if score >= 1.5:
            why = f"{column.distinct:,} values, {repeats:.1f} rows each"
            scored.append((score, column, why + (f", {column.nulls:,} null" if column.nulls else "")))
    scored.sort(key=lambda s: -s[0])
    return [(column, why) for _, column, why in scored[:most]]


def _short(column: ColumnProfile) -> bool:
    """Whether texts look like codes: at most 24 characters, hardly any with spaces."""
    texts = column.values.slice(0, 1000).drop_null()
    if not len(texts):
        return False
    longest = pc.max(pc.utf8_length(texts)).as_py()
    spaced = pc.mean(pc.match_substring(texts, " ").cast("int8")).as_py()
    return bool(longest <= 24 and spaced < 0.05)
