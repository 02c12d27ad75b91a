"""Will a flight leave 15 minutes late or more, asked one hour before its scheduled departure?"""

import penstock as ps
from penstock import count, label, last, mean, share

origin, carrier, tail = ps.entities("origin", "carrier", "tailnum")
schedule = ps.stream("schedule", ps.files("data/schedule.parquet"), time="scheduled_at", known="scheduled_at - 30d")
departures = ps.stream(
    "departures", ps.files("data/departures.parquet"), time="departed_at", id="flight_id", late="10min"
)
weather = ps.stream("weather", ps.files("data/weather.parquet"), time="observed_at")

delay = {"n": count(), "mean": mean("dep_delay"), "late": share("dep_delay >= 15")}
by_origin = departures.by(origin).over("1h", "3h").features("by_origin", **delay)
by_carrier = departures.by(carrier).over("6h").features("by_carrier", **delay)
by_tail = departures.by(tail).over("12h").features("by_tail", **delay, last=last("dep_delay"))

base = ps.view(
    "base",
    schedule["carrier", "origin", "dest", "distance"],
    weather.asof(origin, within="3h")["wind_speed", "visib"],
    hour="hour(scheduled_at, 'America/New_York')",
)
rich = base.plus("rich", by_origin, by_carrier, by_tail, surge="by_origin.late_1h - by_origin.late_3h")

late15 = ps.samples(
    "late15",
    schedule,
    at="scheduled_at - 60min",
    features=rich,
    late=label(departures, "dep_delay >= 15", on="flight_id", within="24h", absent="drop"),
)
prep = ps.prepare({"carrier|origin|dest": ps.vocabulary(min_count=50), "distance": ps.log1p() >> ps.scale()})
a = ps.model("late_static", late15, features=base, target="late", prepare=prep, trainer=ps.lightgbm(trees=200))
b = a.variant("late_windows", features=rich)
ab = ps.experiment(
    "windows", unit="flight_id", arms={a: 50, b: 50}, metrics=[ps.logloss("late"), ps.auc("late")], cluster="tailnum"
)
desk = ps.endpoint("late", ab, log="all")

flow = ps.workflow("late_weekly", every="1w", zone="America/New_York", overlap="keep_newest", owner="@ops-ml")
data = flow.stream("samples", late15)
fit = flow.batch("fit", ps.fit(a, b, last="8w"), when="watermark(samples) >= end + 1h and mature(samples) >= 0.98")
ok = flow.batch("publish", ps.publish(a, b, not_worse="logloss", margin=0.002), after=fit)
flow.stream("serve", desk, reload=ok, gate="watermark(by_tail) >= now - 5min")
