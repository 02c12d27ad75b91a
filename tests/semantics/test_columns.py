from __future__ import annotations

import pyarrow as pa
import pytest

from penstock.semantics import columns


def test_every_system_column_is_reserved_and_typed() -> None:
    schema = columns.system_schema(versions=True)
    assert schema.names == [*columns.SYSTEM_COLUMNS, columns.KNOWN_UNTIL]
    assert all(columns.is_system_column(name) for name in schema.names)
    assert schema.field("_known_time") == pa.field("_known_time", pa.int64(), nullable=False)
    assert schema.field("_op").type == pa.int8()
    assert [field.name for field in schema if field.nullable] == ["_id"]


def test_without_versions_a_batch_has_no_known_until() -> None:
    assert columns.system_schema().names == list(columns.SYSTEM_COLUMNS)


def test_the_order_of_rows_ends_with_a_unique_place() -> None:
    assert columns.ORDER == ("_event_time", "_known_time", "_ordinal", "_partition", "_offset")


def test_a_user_column_has_no_system_type() -> None:
    with pytest.raises(KeyError):
        columns.system_type("carrier")
