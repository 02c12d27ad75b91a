from __future__ import annotations

from typing import Any

import pytest

import penstock as ps
from penstock.define import Definitions
from penstock.define.stream import Stream
from penstock.errors import PlanError
from penstock.plan import Plan, plan


@pytest.fixture
def trips() -> Stream:
    schema = {"trip_id": "text", "leaves_at": "instant", "city": "text", "seats": "int"}
    return ps.stream("trips", time="leaves_at", known="leaves_at - 7d", id="trip_id", schema=schema)


@pytest.fixture
def ends() -> Stream:
    return ps.stream("ends", time="at", schema={"at": "instant", "trip_id": "text", "delay": "int", "why": "text"})


def sampled(trips: Stream, ends: Stream, **changes: Any) -> Plan:
    """The plan of a sample set; changes to its instant, its features or its label."""
    view = changes.pop("features", ps.view("v", trips["city", "seats"]))
    label = {"value": "delay > 5", "on": "trip_id", "within": "1d", "absent": "drop", **changes.pop("label", {})}
    made = ps.label(ends, label.pop("value"), **label)
    observations = changes.pop("observations", trips)
    return plan(Definitions.of(ps.samples("s", observations, features=view, late=made, **changes)))


def test_samples_are_checked_and_told_as_not_built(trips: Stream, ends: Stream) -> None:
    assert "closed loop" in sampled(trips, ends, at="leaves_at - 1h").not_built["s"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at": "seats"}, "features are read at an instant"),
        ({"at": "leaves_att"}, "did you mean leaves_at"),
        ({"label": {"on": "trip"}}, "did you mean trip_id"),
        ({"label": {"value": "why"}}, "a label is a number, or true or false; found why is text"),
        ({"label": {"value": "dely > 5"}}, "did you mean delay"),
        ({"features": ps.view("v", ps.inputs(city="text", rain="float"))}, "there is no such column; found 'rain'"),
        ({"features": ps.view("v", ps.inputs(city="int"))}, "the view needs city as int; found text"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    trips: Stream, ends: Stream, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        sampled(trips, ends, **changes)


@pytest.mark.parametrize(
    ("at", "legal"),
    [
        (None, True),
        ("leaves_at - 1h", True),
        ("leaves_at - 7d", True),
        ("leaves_at - 8d + 1d", True),
        ("leaves_at - 8d", False),
        ("leaves_at - 7d - 1s", False),
    ],
)
def test_an_observation_is_not_seen_before_it_is_known(
    trips: Stream, ends: Stream, at: str | None, legal: bool
) -> None:
    if legal:
        assert sampled(trips, ends, at=at).not_built
    else:
        with pytest.raises(PlanError, match="seen before they are known"):
            sampled(trips, ends, at=at)
        assert sampled(trips, ends, at=at, allow_leak="a drill").not_built


def test_rows_of_a_live_stream_are_not_known_before_they_happen(ends: Stream) -> None:
    with pytest.raises(PlanError, match="rows of ends known at at"):
        sampled(ends, ends, observations=ends, features=ps.view("v", ends["delay"]), at="at - 1h")


def test_a_model_prepares_features_that_there_are(trips: Stream, ends: Stream) -> None:
    samples = ps.samples(
        "s",
        trips,
        features=ps.view("v", trips["city"]),
        late=ps.label(ends, on="trip_id", within="1d", absent=0),
    )
    model = ps.model("m", samples, trainer=ps.ftrl(), prepare=ps.prepare({"city|sets": ps.scale()}))
    with pytest.raises(PlanError, match="there is no such feature; found 'sets'"):
        plan(Definitions.of(model))
