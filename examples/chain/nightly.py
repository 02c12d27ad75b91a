"""The batch stage: for each day, the profile of every merchant from the payments known by its end."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.define import load
from penstock.engine.history import History
from penstock.plan import plan

DAY_US = 86_400_000_000


def profiles(project: Path) -> list[Path]:
    """Writes `data/merchants/dt=.../profile.parquet` for each whole day of the payments; the files written."""
    payments = project / "data" / "payments.parquet"
    history = History(plan(load(project)), {"payments": payments})
    paid = pq.read_table(payments, columns=["paid_at"])["paid_at"].cast("int64")
    first, last = (found.as_py() // DAY_US for found in pc.min_max(paid).values())
    written = []
    for day in range(first, last + 1):
        found = history.all_keys("merchant_profile", (day + 1) * DAY_US).table()
        name = f"dt={datetime.fromtimestamp(day * DAY_US / 1e6, UTC):%Y-%m-%d}"
        path = project / "data" / "merchants" / name / "profile.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        made = found.select(["merchant_id", "usual_30d", "payments_30d"])
        pq.write_table(made.rename_columns(["merchant_id", "usual_amount", "payments_30d"]), path)
        written.append(path)
    return written


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    print(f"{len(profiles(folder))} days of profiles")
