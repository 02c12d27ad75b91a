from __future__ import annotations

import gzip
import json
import os
import sqlite3
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.clock import ReplayClock
from penstock.define import files, kafka, source, sql
from penstock.doors.sources import BrokenSource, Options, find_source, open_source, sources
from penstock.doors.sources.files import FilesSource
from penstock.doors.sources.sql import SqlSource
from penstock.errors import DataError, DoorError, NotBuiltError
from penstock.testing.sources import CHECKS, SourceCase

N = 70_000
ROWS = pa.table({"id": pa.array(range(N)), "name": [f"name {i % 97}" if i % 5 else None for i in range(N)]})
MORE = pa.table({"id": pa.array([N, N + 1]), "name": ["x", "y"]})


def write_csv(path: Path, rows: pa.Table) -> None:
    lines = ["id,name", *(f"{r['id']},{r['name'] or ''}" for r in rows.to_pylist())]
    path.write_text("\n".join(lines) + "\n")


def write_ndjson(path: Path, rows: pa.Table) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows.to_pylist()))


def write_parquet(path: Path, rows: pa.Table) -> None:
    pq.write_table(rows, path, row_group_size=20_000)


WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "csv": write_csv,
    "ndjson": write_ndjson,
    "parquet": write_parquet,
}


def folder_case(tmp_path: Path, ending: str) -> SourceCase:
    write, folder = WRITERS[ending], tmp_path / "data"
    folder.mkdir()
    write(folder / f"a.{ending}", ROWS.slice(0, 40_000))
    write(folder / f"b.{ending}", ROWS.slice(40_000))
    return SourceCase(
        FilesSource(),
        Options({"path": "data"}, tmp_path),
        ROWS,
        lambda: write(folder / f"c.{ending}", MORE),
        MORE,
        Options({"path": "nowhere"}, tmp_path),
    )


def dated_case(tmp_path: Path) -> SourceCase:
    parts = []
    for day, hour, start in (("2026-11-22", "07", 0), ("2026-11-22", "08", 10_000), ("2026-11-23", "00", 20_000)):
        folder = tmp_path / "data" / f"dt={day}" / f"hour={hour}"
        folder.mkdir(parents=True)
        part = ROWS.slice(start, 10_000)
        write_parquet(folder / "part.parquet", part)
        parts.append(
            part.append_column("dt", pa.array([day] * 10_000).cast(pa.date32())).append_column(
                "hour", pa.array([int(hour)] * 10_000)
            )
        )
    return SourceCase(FilesSource(), Options({"path": "data"}, tmp_path), pa.concat_tables(parts))


def sql_case(tmp_path: Path) -> SourceCase:
    """Every tenth row shares its cursor with the nine before it, and more of them come later."""
    database = tmp_path / "shop.db"
    rows: list[tuple[int, str | None]] = [(i // 10, f"name {i % 4}" if i % 5 else None) for i in range(20_000)]
    with sqlite3.connect(database) as c:
        c.execute("create table orders (seq integer not null, name text)")
        c.executemany("insert into orders values (?, ?)", rows)
    more: list[tuple[int, str | None]] = [(1999, "name 3"), (2000, "new"), (2000, "new")]

    def append() -> None:
        with sqlite3.connect(database) as c:
            c.executemany("insert into orders values (?, ?)", more)
        c.close()

    c.close()

    def as_table(found: list[tuple[int, str | None]]) -> pa.Table:
        return pa.table({"seq": pa.array([r[0] for r in found]), "name": pa.array([r[1] for r in found], pa.string())})

    options = {"url": f"sqlite:///{database}", "table": "orders", "cursor": "seq"}
    return SourceCase(
        SqlSource(), Options(options), as_table(rows), append, as_table(more), Options({**options, "table": "oders"})
    )


CASES: dict[str, Callable[[Path], SourceCase]] = {
    "csv": lambda p: folder_case(p, "csv"),
    "ndjson": lambda p: folder_case(p, "ndjson"),
    "parquet": lambda p: folder_case(p, "parquet"),
    "dated": dated_case,
    "sql": sql_case,
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__[6:])
@pytest.mark.parametrize("name", CASES)
def test_source_conforms(name: str, check: Callable[[SourceCase], None], tmp_path: Path) -> None:
    check(CASES[name](tmp_path))


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    found = FilesSource().read(Options({"path": str(path), **options}))
    return [row for batch, _ in found for row in batch.to_pylist()]


def test_csv_types_are_told_from_all_values(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "n,code,price,at,local,day,ok,city\n"
        "1,007,1.50,2026-01-01T00:00:00Z,2026-01-01 00:00:00,2026-01-01,true,NA\n"
        'NA,12,,2026-01-01T00:00:00+08:00,2026-01-01 00:00:01,,false,""\n'
    )
    schema = FilesSource().schema(Options({"path": str(tmp_path)}))
    assert [str(t) for t in schema.types] == [
        "int64", "string", "double", "timestamp[us, tz=UTC]", "timestamp[us]", "date32[day]", "bool", "string",
    ]  # fmt: skip
    first, second = rows_of(tmp_path)
    assert first["city"] == "NA" and second["city"] == "" and second["n"] is None
    assert second["at"].hour == 16


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_separator_is_told(tmp_path: Path, separator: str) -> None:
    (tmp_path / "a.csv").write_text(separator.join("ab") + "\n" + separator.join(["1", "x y"]) + "\n")
    assert rows_of(tmp_path) == [{"a": 1, "b": "x y"}]


def test_csv_with_line_breaks_in_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n1,"x\r\ny"\r\n2,z\r\n')
    assert rows_of(tmp_path) == [{"a": 1, "b": "x\r\ny"}, {"a": 2, "b": "z"}]


def test_packed_text_is_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.ndjson.gz", "wt") as file:
        file.write('{"a": 1}\n{"a": 2}\n')
    assert rows_of(tmp_path) == [{"a": 1}, {"a": 2}]


def test_csv_line_of_another_width_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n1,"x\ny"\n1,2,3\n')
    with pytest.raises(DataError, match=r"a\.csv:4: .*2 fields.*found 3 fields"):
        rows_of(tmp_path)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"PK\x03\x04\r\x00\x01\rx\x00\n" * 20)
    with pytest.raises(DataError, match=r"a\.csv"):
        rows_of(tmp_path)


def test_csv_value_of_another_type_is_told_with_its_line(tmp_path: Path) -> None:
    lines = ["a,b", *(f"{i},x" for i in range(300_000)), "oops,x"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.csv:300002: .*'a' holds int64; found 'oops'"):
        rows_of(tmp_path)


def test_ndjson_errors_are_told_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"a": 1}\n\n{"a": 2}\n{"a": \n')
    with pytest.raises(DataError, match=r"a\.ndjson:4: .*JSON object"):
        rows_of(tmp_path)
    (tmp_path / "a.ndjson").write_text('{"a": 1}\n' * 200_000 + '{"a": "two"}\n')
    with pytest.raises(DataError, match=r"a\.ndjson:200001: .*'a' is of one type.*'two'"):
        rows_of(tmp_path)
    (tmp_path / "a.ndjson").write_text('{"a": 1}\n{"a": "two"}\n')
    with pytest.raises(DataError, match=r"a\.ndjson:2: .*'a' is of one type.*'two'"):
        rows_of(tmp_path)


def test_truncated_parquet_is_told(tmp_path: Path) -> None:
    whole = tmp_path / "a.parquet"
    write_parquet(whole, ROWS)
    whole.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"a\.parquet: .*whole Parquet file; found 5000 bytes"):
        rows_of(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "missing"}, "there is such a file or folder"),
        ({"path": "*.csv"}, "the pattern matches files"),
        ({"path": "."}, "the folder holds files"),
        ({"path": ".", "format": "avro"}, "csv, ndjson, parquet"),
        ({"path": "$PENSTOCK_NO_SUCH_NAME"}, "PENSTOCK_NO_SUCH_NAME"),
    ],
)
def test_what_cannot_be_listed_is_told(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DoorError, match=message):
        FilesSource().schema(Options(options, tmp_path))


def test_mixed_formats_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.ndjson").write_text('{"a": 1}\n')
    with pytest.raises(DoorError, match=r"of one format.*\['csv', 'ndjson'\]"):
        rows_of(tmp_path)
    assert rows_of(tmp_path / "*.csv") == [{"a": 1}]


def test_columns_missing_in_a_file_are_null(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.csv").write_text("a,b\n2,x\n")
    assert rows_of(tmp_path) == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def watch(folder: Path, now_us: int, position: Any = None) -> tuple[list[dict[str, Any]], Any]:
    options = Options({"path": str(folder), "arrivals": "watch"}, clock=ReplayClock(now_us))
    rows = []
    for batch, after in FilesSource().read(options, position):
        rows += batch.to_pylist()
        position = json.loads(json.dumps(after))
    return rows, position


def put(path: Path, text: str, modified_us: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(modified_us * 1000, modified_us * 1000))


def test_files_that_arrive_are_known_from_their_arrival(tmp_path: Path) -> None:
    s = 1_000_000
    put(tmp_path / "dt=2026-11-22/b.csv", "a\n1\n", 100 * s)
    put(tmp_path / "dt=2026-11-22/a.csv", "a\n2\n", 200 * s)
    rows, position = watch(tmp_path, 300 * s)
    assert [(r["a"], r["_known_time"]) for r in rows] == [(1, 100 * s), (2, 200 * s)]
    # An old stamp and an early name do not hide what arrives later, and it is not known before it arrived.
    put(tmp_path / "dt=2026-11-21/0.csv", "a\n3\n", 50 * s)
    rows, position = watch(tmp_path, 400 * s, position)
    assert [(r["a"], str(r["dt"]), r["_known_time"]) for r in rows] == [(3, "2026-11-21", 400 * s)]
    assert watch(tmp_path, 500 * s, position)[0] == []


def test_files_still_being_written_are_left_alone(tmp_path: Path) -> None:
    s = 1_000_000
    put(tmp_path / "a.csv", "a\n1\n", 100 * s)
    put(tmp_path / "b.csv", "a\n2\n", 199 * s)  # changed a second ago
    for name in ("_tmp/c.csv", "c.csv.tmp", ".c.csv", "c.csv_COPYING_", "_SUCCESS", "c_tmp"):
        put(tmp_path / name, "a\n9\n", 100 * s)
    rows, position = watch(tmp_path, 200 * s)
    assert [r["a"] for r in rows] == [1]
    assert [r["a"] for r in watch(tmp_path, 300 * s, position)[0]] == [2]


def test_parquet_without_its_end_waits_in_a_watched_folder(tmp_path: Path) -> None:
    write_parquet(tmp_path / "whole.parquet", MORE)
    data = (tmp_path / "whole.parquet").read_bytes()
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(data[:-10])
    for path in tmp_path.iterdir():
        os.utime(path, (100, 100))
    rows, position = watch(tmp_path, 200_000_000)
    assert len(rows) == 2
    torn.write_bytes(data)
    os.utime(torn, (300, 300))
    assert len(watch(tmp_path, 400_000_000, position)[0]) == 2


def test_a_file_changed_after_it_was_read_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", "a\n1\n", 100_000_000)
    _, position = watch(tmp_path, 200_000_000)
    put(tmp_path / "a.csv", "a\n1\n2\n", 210_000_000)
    with pytest.raises(DataError, match="does not change once it is read"):
        watch(tmp_path, 300_000_000, position)


def test_sql_types_and_nulls(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with sqlite3.connect(tmp_path / "x.db") as c:
        c.execute("create table t (at timestamp, price numeric(12, 2), d date, ok boolean, f float, raw blob)")
        c.execute("insert into t values ('2026-01-01 00:00:00.000000', 1.25, '2026-01-01', 1, 0.5, x'00')")
        c.execute("insert into t values (null, null, null, null, null, null)")
    c.close()
    plugin, options = open_source(sql(url, "t", "at"))
    schema = plugin.schema(options)
    assert [str(t) for t in schema.types] == [
        "timestamp[us]", "decimal128(12, 2)", "date32[day]", "bool", "double", "binary",
    ]  # fmt: skip
    (row,) = plugin.sample(options, 10).to_pylist()
    assert str(row["price"]) == "1.25" and row["ok"] is True


def test_sql_value_of_another_type_is_told(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as c:
        c.execute("create table t (seq integer, n integer)")
        c.execute("insert into t values (1, 1), (2, 'many')")
    c.close()
    plugin, options = open_source(sql(f"sqlite:///{tmp_path / 'x.db'}", "t", "seq"))
    with pytest.raises(DataError, match=r"'n' holds int64; found 'many'"):
        list(plugin.read(options))


def test_secrets_are_read_late_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugin, options = open_source(sql("$SHOP_URL", "t", "seq"))
    assert "hunter2" not in repr(options)
    for url in (
        f"sqlite:////{tmp_path}/hunter2/none.db",
        "nosuchdialect://me:hunter2@host/db",
        "postgresql+nosuch://me:hunter2@host/db",
        "hunter2",
    ):
        monkeypatch.setenv("SHOP_URL", url)
        with pytest.raises(DoorError) as caught:
            plugin.schema(options)
        assert "hunter2" not in str(caught.value) and "$SHOP_URL" in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_broken_plug_in_is_shown_and_breaks_nothing() -> None:
    found = sources(
        (
            EntryPoint("bad", "no_such_module:Thing", "penstock.sources"),
            EntryPoint("odd", "builtins:dict", "penstock.sources"),
            EntryPoint("files", "builtins:dict", "penstock.sources"),
        )
    )
    bad, odd = found["bad"], found["odd"]
    assert isinstance(bad, BrokenSource) and "no_such_module" in bad.reason
    assert isinstance(odd, BrokenSource) and "schema" in odd.reason
    assert isinstance(found["files"], FilesSource)


def test_unknown_kinds_and_options_are_told() -> None:
    with pytest.raises(DoorError, match="did you mean files"):
        find_source("file")
    with pytest.raises(NotBuiltError, match="kafka"):
        open_source(kafka("$KAFKA/show"))
    with pytest.raises(DoorError, match="did you mean path"):
        open_source(source("files", pth="x"))
    with pytest.raises(DoorError, match="sent, not read"):
        plugin, options = open_source(source("http"))
        plugin.schema(options)
    assert open_source(files("x"))[0].kind == "files"
