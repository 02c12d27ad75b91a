"""Rows by partition, in memory as on disk, against a split row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra.keys import key_hash
from penstock.engine.history import exchange
from penstock.engine.history.exchange import MemoryExchange, SpillExchange

SCHEMA = pa.schema([("key", pa.int64()), ("x", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("text", pa.string())])
ROW = st.tuples(
    st.integers(-3, 3), st.none() | st.integers(-(2**63), 2**63 - 1), st.integers(0, 9), st.none() | st.text(max_size=3)
)


def table_of(rows: list[tuple[object, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


@given(st.lists(st.lists(ROW, max_size=12), min_size=1, max_size=5), st.sampled_from([1, 2, 8]), st.integers(0, 99))
def test_each_partition_has_its_rows_in_the_order_they_came(
    batches: list[list[tuple[object, ...]]], parts: int, rows: int
) -> None:
    found = MemoryExchange([table_of(batch) for batch in batches], ["key"], parts, rows)
    whole = [row for batch in batches for row in batch]
    for part in range(parts):
        wanted = [row for row in whole if parts == 1 or (key_hash([row[0]]) >> 20) % parts == part]  # type: ignore[list-item]
        read = found.read(part)
        assert read.schema == SCHEMA
        assert read.equals(table_of(wanted))


def test_full_rooms_are_followed_by_others(tmp_path: Path) -> None:
    n = 3 * exchange.DEALT_ROWS + 7
    table = pa.table({"key": np.arange(n) % 5, "x": np.arange(n)})
    found, spilled = MemoryExchange([table, table], ["key"], 2, rows=1), SpillExchange(tmp_path, ["key"], 2, 1 << 20)
    spilled.write([table, table])
    for part in range(2):
        assert found.read(part).equals(spilled.read(part))
