from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.define import load
from penstock.define.source import files
from penstock.doors.propose import Proposal, find_targets, propose, write
from penstock.doors.sources import open_source
from penstock.errors import DataError, DefinitionError, DoorError
from penstock.plan import plan

DATA = Path(__file__).parents[3] / "shared" / "data"


def proposed(what: str | Path, root: Path, zone: str | None = None, **options: Any) -> dict[str, Proposal]:
    found = {}
    for name, source in find_targets(str(what), root, **options):
        plugin, opened = open_source(source, root)
        found[name] = propose(name, source, plugin.sample(opened, 100_000), zone, as_text="csv" in str(source.options))
    return found


def arguments(proposal: Proposal) -> dict[str, str]:
    return dict(proposal.arguments)


def shared(folder: str) -> Path:
    if not (DATA / folder).exists():
        pytest.skip(f"the data set {folder} is not beside the checkout")
    return DATA / folder


def test_flights_are_read_as_streams_and_tables(tmp_path: Path) -> None:
    found = proposed(shared("flights"), tmp_path)
    assert {n: p.kind for n, p in found.items()} == {
        "airlines": "table", "airports": "table", "planes": "table",
        "arrivals": "stream", "departures": "stream", "schedule": "stream", "weather": "stream",
    }  # fmt: skip
    assert arguments(found["departures"]) == {"time": "departed_at", "id": "flight_id"}
    assert found["departures"].entities == ("carrier", "tailnum", "origin", "dest")
    assert found["departures"].schema["dep_delay"] == "int?" and found["departures"].schema["flight_id"] == "int"
    assert arguments(found["weather"]) == {"time": "observed_at"}
    assert "30d" in found["schedule"].notes[0]
    assert arguments(found["planes"])["key"] == "tailnum"


def test_local_times_ask_for_their_zone(tmp_path: Path) -> None:
    folder = shared("online-retail")
    (guessed,) = proposed(folder, tmp_path).values()
    assert arguments(guessed) == {"time": "InvoiceDate", "zone": "UTC"}
    assert "--zone" in guessed.notes[0]
    (named,) = proposed(folder, tmp_path, "Europe/London").values()
    assert arguments(named)["zone"] == "Europe/London" and not named.notes
    assert named.entities[:2] == ("CustomerID", "StockCode")


def test_iso_texts_are_times_and_codes_are_no_ids(tmp_path: Path) -> None:
    found = proposed(shared("registration-fraud"), tmp_path)
    assert {arguments(p)["time"] for p in found.values()} == {"EVENT_TIMESTAMP"}
    assert {n: arguments(p).get("id") for n, p in found.items()} == {
        "registration_20k_minimum": None, "registration_2k": None, "transaction_2k": "EVENT_ID",
    }  # fmt: skip
    assert all("no order of time" in p.notes[0] for p in found.values())


def test_epoch_milliseconds_and_daily_snapshots(tmp_path: Path) -> None:
    found = proposed(shared("chronon-quickstart"), tmp_path)
    assert arguments(found["purchases"]) == {"time": "instant_ms(ts)", "id": "purchase_id"}
    assert found["purchases"].entities == ("user_id", "product_id")
    assert found["users"].kind == "table"
    assert arguments(found["users"]) == {"key": "user_id", "known": "ds + 24h", "zone": "UTC"}


def test_row_numbers_are_no_ids(tmp_path: Path) -> None:
    found = proposed(shared("open-bandit"), tmp_path)
    assert arguments(found["bts_men"]) == {"time": "timestamp"}
    assert found["bts_men"].entities[0] == "item_id"
    assert arguments(found["item_context_bts_men"])["key"] == "item_id"


def test_every_proposal_for_the_data_at_hand_passes_the_planner(tmp_path: Path) -> None:
    for folder in ("flights", "online-retail", "registration-fraud", "chronon-quickstart", "open-bandit"):
        root = tmp_path / folder
        root.mkdir()
        written = write(list(proposed(shared(folder), root).values()), root)
        definitions = load(root)
        assert set(written.added) <= set(definitions.named)
        assert len(plan(definitions).relations) == len(written.added)


def csv(tmp_path: Path, text: str, name: str = "events.csv") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize(
    ("values", "expression"),
    [
        (["1700000000", "1700000060"], "to_timestamp(CAST(ts AS float))"),
        (["1700000000.5", "1700000060.25"], "to_timestamp(ts)"),
        (["1700000000000", "1700000060000"], "instant_ms(ts)"),
        (["1700000000000000", "1700000060000000"], "instant_us(ts)"),
        (["2023-11-14T22:13:20Z", "2023-11-14 22:14:20+00:00"], "ts"),
        (["2023-11-14T22:13:20.123+08:00", "2023-11-14T22:14:20+08:00"], "ts"),
    ],
)
def test_units_of_time_are_told(tmp_path: Path, values: list[str], expression: str) -> None:
    path = csv(tmp_path, "ts;user_id\n" + "".join(f"{v};{i % 2}\n" for i, v in enumerate(values * 3)))
    (found,) = proposed(path, tmp_path).values()
    assert arguments(found)["time"] == expression
    write([found], tmp_path)
    assert plan(load(tmp_path)).relations["events"] is not None


def test_lateness_is_measured_along_the_known_time(tmp_path: Path) -> None:
    rows = [(f"2026-01-01T00:{m:02d}:00Z", f"2026-01-01T00:{m + (7 if m % 10 == 0 else 1):02d}:00Z") for m in range(50)]
    path = csv(tmp_path, "happened_at,received_at,n\n" + "".join(f"{a},{b},{i % 3}\n" for i, (a, b) in enumerate(rows)))
    (found,) = proposed(path, tmp_path).values()
    assert arguments(found) == {"time": "happened_at", "known": "received_at", "late": "5min"}


def test_money_in_text_is_exact(tmp_path: Path) -> None:
    path = csv(tmp_path, "at,price,score\n2026-01-01T00:00:00Z,1.25,0.5\n2026-01-01T00:00:01Z,2.5,0.25\n")
    (found,) = proposed(path, tmp_path).values()
    assert found.schema == {"at": "instant", "price": "decimal(18,4)?", "score": "float?"}


def test_parts_of_one_data_set_are_one_source(tmp_path: Path) -> None:
    folder = tmp_path / "clicks"
    for day in ("2026-11-22", "2026-11-23"):
        (folder / f"dt={day}").mkdir(parents=True)
        pq.write_table(
            pa.table({"user_id": [1, 1, 2], "at": pa.array([1, 2, 3], pa.timestamp("us", "UTC"))}),
            folder / f"dt={day}" / "part.parquet",
        )
    (found,) = proposed(folder, tmp_path).values()
    assert found.source.option("path") == "clicks" and found.schema["dt"] == "date?"
    numbered = tmp_path / "numbered"
    numbered.mkdir()
    for i in range(3):
        csv(numbered, "at,k\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:01Z,1\n", f"part-{i}.csv")
    csv(numbered, "other\n1\n", "else.csv")
    assert sorted(str(s.option("path")) for _, s in find_targets(str(numbered), tmp_path)) == [
        "numbered/else.csv",
        "numbered/part-*.csv",
    ]


def test_a_database_is_added_by_table_and_cursor(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as c:
        c.execute("create table orders (seq integer primary key, placed_at timestamp, customer_id integer)")
        c.executemany(
            "insert into orders values (?, ?, ?)", [(i, f"2026-01-01 00:00:{i:02d}", i % 3) for i in range(9)]
        )
    c.close()
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    with pytest.raises(DoorError, match="columns are seq, placed_at, customer_id"):
        find_targets(url, tmp_path, table="orders")
    (found,) = proposed(url, tmp_path, table="orders", cursor="seq").values()
    assert arguments(found)["time"] == "placed_at" and found.entities == ("customer_id",)
    write([found], tmp_path)
    assert load(tmp_path)["orders"] is not None


def test_a_url_with_a_password_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DoorError, match="export SHOP_DB") as caught:
        find_targets("postgresql://me:hunter2@host/db", tmp_path, table="orders")
    assert "hunter2" not in str(caught.value)


def test_what_stands_is_never_overwritten(tmp_path: Path) -> None:
    mine = "import penstock\n\nevents = 3  # mine\nlate = penstock.stream('other', time='t')"
    (tmp_path / "definitions.py").write_text(mine)
    path = csv(tmp_path, "at,user_id\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:01Z,1\n2026-01-01T00:00:02Z,2\n")
    (found,) = proposed(path, tmp_path).values()
    dry = write([found], tmp_path, dry_run=True)
    assert (tmp_path / "definitions.py").read_text() == mine and not (tmp_path / "penstock.lock").exists()
    assert write([found], tmp_path).text == dry.text
    after = (tmp_path / "definitions.py").read_text()
    assert after.startswith(mine) and "import penstock as" not in after
    assert 'events_rows = penstock.stream("events", penstock.files("events.csv"), time="at")' in after
    assert 'user_id = penstock.entity("user_id")' in after
    again = write([found], tmp_path)
    assert again.added == () and again.standing[0][0] == "events"
    assert (tmp_path / "definitions.py").read_text() == after
    assert json.loads((tmp_path / "penstock.lock").read_text())["schemas"]["events"]["at"] == "instant"


def test_nothing_is_written_where_definitions_do_not_parse(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text("x = (\n")
    (found,) = proposed(csv(tmp_path, "at\n2026-01-01T00:00:00Z\n2026-01-01T00:00:01Z\n"), tmp_path).values()
    with pytest.raises(DefinitionError, match=r"definitions\.py:1"):
        write([found], tmp_path)
    assert not (tmp_path / "penstock.lock").exists()


def test_data_without_time_or_key_are_told() -> None:
    with pytest.raises(DataError, match="a time, or a column that identifies"):
        propose("x", files("x"), pa.table({"a": [1.0, 1.0], "b": ["x", "x"]}))
    with pytest.raises(DataError, match="a sample has rows"):
        propose("x", files("x"), pa.table({"a": pa.array([], pa.int64())}))
