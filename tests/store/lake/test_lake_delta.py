from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.clock import ReplayClock
from penstock.errors import DataError, StoreError
from penstock.store.lake import Lake

SCHEMA = pa.schema([("user", pa.string()), ("n", pa.int32()), ("small", pa.uint8())])


@pytest.fixture
def lake(tmp_path: Path, clock: ReplayClock) -> Lake:
    return Lake.open(tmp_path / "lake", clock=clock)


def rows(*users: str) -> pa.Table:
    n = pa.array(range(len(users)), pa.int32())
    return pa.table({"user": list(users), "n": n, "small": pa.array([200] * len(users), pa.uint8())})


def test_rows_are_streamed_back_by_column_filter_and_version(lake: Lake) -> None:
    lake.create_table("t", SCHEMA)
    lake.create_table("t", SCHEMA)
    assert lake.append("t", rows("ada", "bob")).version == 1
    assert lake.append("t", lambda: rows("cyd").to_reader()).version == 2
    assert lake.tables() == ["t"] and lake.version("t") == 2
    assert lake.read("t", ["n"], where={"user": "bob"}).read_all().to_pydict() == {"n": [1]}
    assert lake.read("t", version=1).read_all()["small"].to_pylist() == [200, 200]
    assert lake.read("t").schema.field("small").type == pa.int16()


def test_an_append_sent_again_is_not_made_again(lake: Lake) -> None:
    lake.create_table("t", SCHEMA)
    assert not lake.append("t", rows("ada"), app_id="a", version=5).repeated
    assert lake.append("t", rows("ada"), app_id="a", version=5).repeated
    assert lake.append("t", rows("ada"), app_id="a", version=4).repeated
    assert not lake.append("t", rows("ada"), app_id="b", version=5).repeated
    assert lake.read("t").read_all().num_rows == 2


def test_writers_that_meet_each_commit_once(lake: Lake) -> None:
    """Eight writers in pairs send the same eight appends at the same time."""
    lake.create_table("t", SCHEMA)
    with ThreadPoolExecutor(8) as pool:
        commits = list(pool.map(lambda i: lake.append("t", rows(f"u{i % 4}"), app_id=f"a{i % 4}", version=1), range(8)))
    assert sum(commit.repeated for commit in commits) == 4
    assert sorted(lake.read("t", ["user"]).read_all()["user"].to_pylist()) == ["u0", "u1", "u2", "u3"]


def test_versions_tell_their_commit_time(lake: Lake, clock: ReplayClock) -> None:
    lake.create_table("t", SCHEMA)
    clock.advance_to(5_000)
    lake.append("t", rows("ada"), details={"why": "test"})
    versions = lake.versions("t")
    assert [(v.version, v.committed_us) for v in versions] == [(0, 1_000), (1, 5_000)]
    assert versions[1].details["why"] == "test"


def test_merge_replaces_and_adds(lake: Lake) -> None:
    lake.create_table("t", SCHEMA)
    lake.append("t", rows("ada", "bob"))
    change = pa.table({"user": ["bob", "cyd"], "n": pa.array([70, 80], pa.int32())})
    lake.merge("t", change, ["user"])
    assert sorted(lake.read("t", ["user", "n"]).read_all().to_pylist(), key=str) == [
        {"user": "ada", "n": 0},
        {"user": "bob", "n": 70},
        {"user": "cyd", "n": 80},
    ]
    with pytest.raises(DataError, match="a key twice"):
        lake.merge("t", rows("ada", "ada"), ["user"])


def test_an_erased_key_is_in_no_file(lake: Lake, tmp_path: Path) -> None:
    lake.create_table("t", SCHEMA)
    lake.append("t", rows("ada", "o'bob"))
    lake.append("t", rows("o'bob"))
    before = set((tmp_path / "lake" / "t").glob("*.parquet"))
    assert lake.erase("t", {"user": "o'bob"}, reason="asked") == 2
    assert lake.erase("t", {"user": "o'bob"}, reason="asked") == 0
    assert not before & set((tmp_path / "lake" / "t").glob("*.parquet"))
    assert lake.read("t", ["user"]).read_all()["user"].to_pylist() == ["ada"]


def test_small_files_are_joined_and_old_ones_deleted(lake: Lake, tmp_path: Path) -> None:
    lake.create_table("t", SCHEMA)
    for _ in range(4):
        lake.append("t", rows("ada"))
    assert lake.compact("t") == 3
    assert lake.vacuum("t", 0) == 4
    assert lake.read("t").read_all().num_rows == 4


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


def test_queries_see_the_tables_and_nothing_else(lake: Lake, tmp_path: Path) -> None:
    lake.create_table("t", SCHEMA)
    lake.append("t", rows("ada", "bob"))
    lake.append("t", rows("ada"))
    assert lake.sql('SELECT "user", count(*) AS n FROM t GROUP BY 1 ORDER BY 1').read_all().to_pydict() == {
        "user": ["ada", "bob"],
        "n": [2, 1],
    }
    assert lake.sql("SELECT count(*) AS n FROM t", {"t": 1}).read_all()["n"].to_pylist() == [2]
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(StoreError, match="query the lake"):
        lake.sql(f"SELECT * FROM '{tmp_path}/secret.csv'")


def test_what_is_not_there_is_said(lake: Lake) -> None:
    lake.create_table("orders", SCHEMA)
    with pytest.raises(StoreError, match="did you mean orders"):
        lake.read("order")
    with pytest.raises(StoreError, match="did you mean user"):
        lake.read("orders", ["usr"])
    with pytest.raises(StoreError, match="version 9"):
        lake.read("orders", version=9)
    with pytest.raises(DataError, match="did you mean user"):
        lake.append("orders", pa.table({"usr": ["a"]}))
    with pytest.raises(DataError, match="fits int32"):
        lake.append("orders", pa.table({"n": ["many"]}))
    with pytest.raises(StoreError, match="one with columns"):
        lake.create_table("orders", pa.schema([("x", pa.int64())]))
    with pytest.raises(DataError, match="a type that Delta has"):
        lake.create_table("other", pa.schema([("x", pa.uint64())]))
