"""The system columns a row carries beside the user's own, and the order of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "APPENDED_AT",
    "EVENT_TIME",
    "ID",
    "KNOWN_TIME",
    "KNOWN_UNTIL",
    "NEVER_US",
    "OFFSET",
    "OP",
    "OP_DELETE",
    "OP_INSERT",
    "OP_NAMES",
    "OP_UPSERT",
    "ORDER",
    "ORDINAL",
    "PARTITION",
    "SYSTEM_COLUMNS",
    "is_system_column",
    "system_schema",
    "system_type",
]

EVENT_TIME: Final = "_event_time"
"""When it happened (t), int64 UTC microseconds."""
KNOWN_TIME: Final = "_known_time"
"""When the platform could first have used it (k), int64 UTC microseconds."""
APPENDED_AT: Final = "_appended_at"
"""The clock when the row was first appended, int64 UTC microseconds."""
ORDINAL: Final = "_ordinal"
"""The ordinal of the row's source among those that feed one stream, int32."""
PARTITION: Final = "_partition"
"""The partition in which the row was first appended, int32."""
OFFSET: Final = "_offset"
"""The row's offset in that partition, int64, counted from 0."""
ID: Final = "_id"
"""The event id as text, or null: a row without an id is never a duplicate and never corrected."""
OP: Final = "_op"
"""What the row does to its id: `OP_INSERT`, `OP_UPSERT` or `OP_DELETE`, int8."""
KNOWN_UNTIL: Final = "_known_until"
"""The known time from which the version no longer counts, int64; `NEVER_US` where it still does."""

OP_INSERT: Final = 0
OP_UPSERT: Final = 1
OP_DELETE: Final = 2
OP_NAMES: Final = ("insert", "upsert", "delete")
"""The name of each op; the index is its code."""

NEVER_US: Final = 2**63 - 1
"""The known time that never comes."""

SYSTEM_COLUMNS: Final = (EVENT_TIME, KNOWN_TIME, APPENDED_AT, ORDINAL, PARTITION, OFFSET, ID, OP)
"""The columns of an appended row, in the order in which batches carry them, before the user's."""

ORDER: Final = (EVENT_TIME, KNOWN_TIME, ORDINAL, PARTITION, OFFSET)
"""Rows are ordered by these columns, so that chance never decides a tie."""

_TYPES: Final = {
    EVENT_TIME: "int64",
    KNOWN_TIME: "int64",
    APPENDED_AT: "int64",
    ORDINAL: "int32",
    PARTITION: "int32",
    OFFSET: "int64",
    ID: "string",
    OP: "int8",
    KNOWN_UNTIL: "int64",
}


def is_system_column(name: str) -> bool:
    """Whether a column name is reserved for the platform: every name that starts with `_`.

    >>> is_system_column("_offset"), is_system_column("carrier")
    (True, False)
    """
    return name.startswith("_")


def system_type(name: str) -> pa.DataType:
    """The Arrow type of a system column.

    Raises:
        KeyError: `name` is no system column.
    """
    import pyarrow as pa  # loaded with the first batch, so that definitions import without it

    return pa.type_for_alias(_TYPES[name])


def system_schema(*, versions: bool = False) -> pa.Schema:
    """The Arrow fields of the system columns, in order; only `_id` may be null.

    Args:
        versions: whether `_known_until` follows, as in rows resolved into versions.
    """
    import pyarrow as pa

    names = (*SYSTEM_COLUMNS, KNOWN_UNTIL) if versions else SYSTEM_COLUMNS
    return pa.schema([pa.field(name, system_type(name), nullable=name == ID) for name in names])
