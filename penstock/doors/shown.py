"""Rows as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, OFFSET, OP, OP_NAMES, is_system_column

__all__ = ["instant_text", "shown_rows"]

_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999


def instant_text(us: int | None) -> str | None:
    """An instant as ISO 8601 in UTC; what lies beyond the year 9999 as its number.

    >>> instant_text(1_356_998_400_000_000)
    '2013-01-01T00:00:00Z'
    """
    if us is None:
        return None
    if not _FIRST_US <= us <= _LAST_US:
        return str(us)
    seconds, rest = divmod(us, 1_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:06d}Z".replace(".000000Z", "Z")


def shown_rows(rows: pa.RecordBatch | pa.Table, *, as_json: bool) -> Iterator[dict[str, Any]]:
    """Rows with readable times and without what says nothing.

    Args:
        as_json: all system columns by their names; otherwise offset, the two times, id and op (where it says
            something), then the user's columns that are not null.
    """
    for row in rows.to_pylist():
        plain = {name: _plain(value) for name, value in row.items()}
        if as_json or OFFSET not in row:
            yield plain
            continue
        found: dict[str, Any] = {"offset": row[OFFSET]}
        found["t"] = instant_text(row[EVENT_TIME])
        if row[KNOWN_TIME] != row[EVENT_TIME]:
            found["known"] = instant_text(row[KNOWN_TIME])
        if row.get(ID) is not None:
            found["id"] = row[ID]
        if row.get(OP):
            found["op"] = OP_NAMES[row[OP]]
        yield found | {k: v for k, v in plain.items() if not is_system_column(k) and v is not None}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case Decimal():
            return str(value)
        case list():
            return [_plain(v) for v in value]
        case dict():
            return {k: _plain(v) for k, v in value.items()}
        case bytes():
            return value.hex()
    return value
