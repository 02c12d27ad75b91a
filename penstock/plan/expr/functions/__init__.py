"""The built-in functions, one module a family."""

from __future__ import annotations

from penstock.plan.expr.functions import (
    bits,
    bytes,
    calendar,
    conditional,
    distance,
    hashes,
    json,
    lists,
    maps,
    numeric,
    patterns,
    text,
    time,
    url,
)

__all__ = ["FAMILIES"]

FAMILIES = (
    numeric.NUMERIC,
    bits.BITS,
    conditional.CONDITIONAL,
    text.TEXTS,
    patterns.PATTERNS,
    time.TIME,
    calendar.CALENDAR,
    lists.LISTS,
    maps.MAPS,
    json.JSONS,
    bytes.BYTES_FAMILY,
    hashes.HASHES,
    url.URLS,
    distance.DISTANCE,
)
