from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from penstock.clock import ReplayClock
from penstock.errors import DataError, StoreError
from penstock.store.lake import Lake
from penstock.testing.stores import LakeSuite

SCHEMA = pa.schema([("user", pa.string()), ("n", pa.int32()), ("small", pa.uint8())])


@pytest.fixture
def lake(tmp_path: Path, clock: ReplayClock) -> Lake:
    return Lake.open(tmp_path / "lake", clock=clock)


def rows(*users: str) -> pa.Table:
    n = pa.array(range(len(users)), pa.int32())
    return pa.table({"user": list(users), "n": n, "small": pa.array([200] * len(users), pa.uint8())})


class TestDeltaLake(LakeSuite):
    """The suite that every lake passes."""


def test_unsigned_columns_are_kept_in_wider_ones(lake: Lake) -> None:
    lake.create_table("t", SCHEMA)
    lake.append("t", rows("ada"))
    table = lake.read("t").read_all()
    assert table["small"].to_pylist() == [200] and table.schema.field("small").type == pa.int16()


def test_versions_tell_their_commit_time(lake: Lake, clock: ReplayClock) -> None:
    lake.create_table("t", SCHEMA)
    clock.advance_to(5_000)
    lake.append("t", rows("ada"), details={"why": "test"})
    versions = lake.versions("t")
    assert [(v.version, v.committed_us) for v in versions] == [(0, 1_000), (1, 5_000)]
    assert versions[1].details["why"] == "test"


def test_keys_of_text_are_erased_one_after_the_other(lake: Lake) -> None:
    lake.create_table("t", SCHEMA)
    lake.append("t", rows("ada", "bob", "cyd", "dan"))
    for user in ("bob", "cyd"):
        assert lake.erase("t", {"user": user}, reason="asked") == 1
    assert sorted(lake.read("t").read_all()["user"].to_pylist()) == ["ada", "dan"]
    assert lake.read("t", ["n"], where={"user": "dan"}).read_all()["n"].to_pylist() == [3]


def test_former_versions_of_an_erased_event_go_with_it(lake: Lake) -> None:
    rows = {
        "_id": ["a", "b", "a", "a", None],
        "_partition": pa.array([0, 0, 0, 1, 0], pa.int32()),
        "_offset": [0, 1, 2, 0, 3],
        "user": ["ada", "ada", "bob", "cyd", "bob"],
    }
    table = pa.table(rows)
    lake.create_table("t", table.schema)
    lake.append("t", table)
    assert lake.erase("t", {"user": "bob"}, reason="asked", versions=True) == 3
    left = lake.read("t").read_all().sort_by("user")
    assert left["_id"].to_pylist() == ["b", "a"] and left["user"].to_pylist() == ["ada", "cyd"]


def test_an_erased_key_is_in_no_file(lake: Lake, tmp_path: Path) -> None:
    lake.create_table("t", SCHEMA)
    lake.append("t", rows("ada", "o'bob"))
    lake.append("t", rows("o'bob"))
    before = set((tmp_path / "lake" / "t").glob("*.parquet"))
    assert lake.erase("t", {"user": "o'bob"}, reason="asked") == 2
    assert lake.erase("t", {"user": "o'bob"}, reason="asked") == 0
    assert not before & set((tmp_path / "lake" / "t").glob("*.parquet"))
    assert lake.read("t", ["user"]).read_all()["user"].to_pylist() == ["ada"]


def test_a_table_takes_new_and_wider_columns(lake: Lake) -> None:
    lake.create_table("t", SCHEMA)
    lake.append("t", rows("ada"))
    lake.evolve("t", SCHEMA.append(pa.field("city", pa.string())))
    wider = pa.schema([("user", pa.string()), ("n", pa.int64()), ("small", pa.uint8()), ("city", pa.string())])
    lake.evolve("t", wider)
    lake.append("t", pa.table({"user": ["bob"], "n": [2**40]}))
    assert sorted(lake.read("t", ["n", "city"]).read_all()["n"].to_pylist()) == [0, 2**40]
    with pytest.raises(DataError, match="stays"):
        lake.evolve("t", SCHEMA)


def test_queries_see_no_other_files(lake: Lake, tmp_path: Path) -> None:
    lake.create_table("t", SCHEMA)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(StoreError, match="query the lake"):
        lake.sql(f"SELECT * FROM '{tmp_path}/secret.csv'")


def test_what_does_not_fit_is_said(lake: Lake) -> None:
    lake.create_table("orders", SCHEMA)
    with pytest.raises(DataError, match="fits int32"):
        lake.append("orders", pa.table({"n": ["many"]}))
    with pytest.raises(StoreError, match="one with columns"):
        lake.create_table("orders", pa.schema([("x", pa.int64())]))
    with pytest.raises(DataError, match="a type that Delta has"):
        lake.create_table("other", pa.schema([("x", pa.uint64())]))
