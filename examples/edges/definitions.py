"""The four kinds of edges between stream and batch nodes, and every control action, on real departures.

python ../flights/prepare.py data        # the logs of flights, or a folder that has them
penstock up &                            # scheduler, worker, streams
penstock log load --speed 100000         # real events come in; watch: penstock run ls, penstock jobs, penstock why
"""

import reports

import penstock as ps
from penstock import count, mean, share

origin, carrier = ps.entities("origin", "carrier")
columns = {"flight_id": "int", "departed_at": "instant", "carrier": "text", "tailnum": "text?", "origin": "text"}
departures = ps.stream(
    "departures",
    ps.files("data/departures.parquet"),
    time="departed_at",
    id="flight_id",
    late="10min",
    schema=columns | {"dest": "text", "dep_delay": "int?"},
)
delay = {"n": count(), "mean": mean("dep_delay"), "late": share("dep_delay >= 15")}
by_origin = departures.by(origin).over("1h", "1d").features("by_origin", **delay)
by_carrier = departures.by(carrier).over("6h").features("by_carrier", **delay)

# A run for each local day of events, as the watermark passes its end: not when the wall clock says.
days = ps.workflow(
    "days",
    every="1d",
    zone="America/New_York",
    by="watermark(live)",
    start="2013-03-01",
    overlap="parallel",
    limit=4,
    owner="@ops",
)
live = days.stream("live", by_origin)
# stream -> stream: carriers are held while origins do not run.
days.stream("carriers", by_carrier, gate='status(live) == "running"')
# stream -> batch: the day's report waits for an hour beyond the day, and for its rows.
report = days.batch("report", reports.day, when="watermark(live) >= end + 1h and rows(live) > 0")
# batch -> batch, and a value handed on.
summary = days.batch("summary", reports.summary, after=report, inputs={"day": report["result"]})
# batch -> stream: the board starts with the first summary and takes in each later one; signals stop and restart it.
days.stream(
    "board",
    ps.component("stream_command", command="exec python3 $PENSTOCK_PROJECT/board.py"),
    start=summary,
    reload=summary,
    restart="signal(renew)",
    stop="signal(close)",
)
