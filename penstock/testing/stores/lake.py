"""What every lake must do. Inherit from `LakeSuite` and give a fixture `lake`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from penstock.errors import DataError, StoreError
from penstock.store.lake.interface import Lake

__all__ = ["LakeSuite"]

SCHEMA = pa.schema([("user", pa.string()), ("n", pa.int32())])


def _rows(*users: str) -> pa.Table:
    return pa.table({"user": list(users), "n": pa.array(range(len(users)), pa.int32())})


class LakeSuite:
    """Tests of a lake."""

    def test_it_is_a_lake(self, lake: Lake) -> None:
        """It has every method."""
        assert isinstance(lake, Lake)

    def test_rows_come_back_by_column_filter_and_version(self, lake: Lake) -> None:
        """Reads choose columns, rows and versions."""
        lake.create_table("t", SCHEMA)
        lake.create_table("t", SCHEMA)
        first = lake.append("t", _rows("ada", "bob")).version
        lake.append("t", lambda: _rows("cyd").to_reader())
        assert lake.tables() == ["t"]
        assert lake.read("t", ["n"], where={"user": "bob"}).read_all().to_pydict() == {"n": [1]}
        assert lake.read("t", version=first).read_all().num_rows == 2
        assert lake.read("t").read_all().num_rows == 3

    def test_an_append_sent_again_is_not_made_again(self, lake: Lake) -> None:
        """Application versions count upwards."""
        lake.create_table("t", SCHEMA)
        assert not lake.append("t", _rows("ada"), app_id="a", version=5).repeated
        assert lake.append("t", _rows("ada"), app_id="a", version=5).repeated
        assert lake.append("t", _rows("ada"), app_id="a", version=4).repeated
        assert not lake.append("t", _rows("ada"), app_id="b", version=5).repeated
        assert lake.read("t").read_all().num_rows == 2

    def test_writers_that_meet_each_commit_once(self, lake: Lake) -> None:
        """Eight writers in pairs send four appends at the same time."""
        lake.create_table("t", SCHEMA)

        def write(i: int) -> bool:
            return lake.append("t", _rows(f"u{i % 4}"), app_id=f"a{i % 4}", version=1).repeated

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(write, range(8))) == 4
        assert sorted(lake.read("t", ["user"]).read_all()["user"].to_pylist()) == ["u0", "u1", "u2", "u3"]

    def test_merge_replaces_and_adds(self, lake: Lake) -> None:
        """Rows of equal key are replaced."""
        lake.create_table("t", SCHEMA)
        lake.append("t", _rows("ada", "bob"))
        lake.merge("t", pa.table({"user": ["bob", "cyd"], "n": pa.array([70, 80], pa.int32())}), ["user"])
        found = lake.read("t", ["user", "n"]).read_all().to_pydict()
        assert dict(zip(found["user"], found["n"], strict=True)) == {"ada": 0, "bob": 70, "cyd": 80}
        with pytest.raises(DataError):
            lake.merge("t", _rows("ada", "ada"), ["user"])

    def test_an_erased_key_is_in_no_version(self, lake: Lake) -> None:
        """Neither the newest version nor an older one holds the key."""
        lake.create_table("t", SCHEMA)
        old = lake.append("t", _rows("ada", "o'bob")).version
        assert lake.erase("t", {"user": "o'bob"}, reason="asked") == 1
        assert lake.read("t", ["user"]).read_all()["user"].to_pylist() == ["ada"]
        with pytest.raises(StoreError):
            lake.read("t", ["user"], version=old).read_all()

    def test_compaction_changes_no_rows(self, lake: Lake) -> None:
        """Fewer files, the same rows."""
        lake.create_table("t", SCHEMA)
        for user in "abc":
            lake.append("t", _rows(user))
        assert lake.compact("t") == 2
        lake.vacuum("t", 0)
        assert sorted(lake.read("t").read_all()["user"].to_pylist()) == ["a", "b", "c"]

    def test_queries_see_the_tables(self, lake: Lake) -> None:
        """SQL over tables, some at a version."""
        lake.create_table("t", SCHEMA)
        version = lake.append("t", _rows("ada", "bob")).version
        lake.append("t", _rows("ada"))
        assert lake.sql("SELECT count(*) AS c FROM t").read_all().to_pydict() == {"c": [3]}
        assert lake.sql("SELECT count(*) AS c FROM t", {"t": version}).read_all().to_pydict() == {"c": [2]}

    def test_what_is_not_there_is_said(self, lake: Lake) -> None:
        """Unknown tables, columns and versions are errors with a remedy."""
        lake.create_table("orders", SCHEMA)
        with pytest.raises(StoreError, match="did you mean orders"):
            lake.read("order")
        with pytest.raises(StoreError, match="did you mean user"):
            lake.read("orders", ["usr"])
        with pytest.raises(StoreError):
            lake.read("orders", version=9)
        with pytest.raises(DataError, match="did you mean user"):
            lake.append("orders", pa.table({"usr": ["a"]}))
