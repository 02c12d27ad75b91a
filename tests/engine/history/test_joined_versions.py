"""Joined rows of events whose versions come in one commit: one that is gone and back at once was never gone."""

from __future__ import annotations

import pytest

import penstock.define as ps
from penstock.define.project import Definitions
from penstock.testing.conformance import END_US, Case, GroupQuery, Matrix, RowsQuery, Tempo, check
from penstock.testing.oracle import Door, Row
from tests.engine.history.test_conformance import HistoryTempo
from tests.engine.live.tempo import LiveTempo
from tests.engine.online.tempo import OnlineTempo

SECOND = 1_000_000


def _versions(*versions: tuple[str, int, int, int]) -> Case:
    """Versions of one show, (op, t, k, user), joined with no outcome within 10 s."""
    schema = {"user": "int", "imp": "int", "at": "instant", "id": "text", "op": "text"}
    show = ps.stream("show", time="at", id="id", op="op", schema=schema)
    click = ps.stream("click", time="at", schema={"imp": "int", "at": "instant"})
    seen = show.where("user < 5").join(click, on="imp", within="10s", name="seen", clicks=ps.count())
    group = seen.by("user").features("g", n=ps.count())
    door = Door(show)
    for op, t, k, user in versions:
        values = {"user": user, "imp": 1, "at": t * SECOND, "id": "a", "op": op}
        door.take([Row(t * SECOND, k * SECOND, values, "a", op)])
    asked = [GroupQuery("g", (user,), 90 * SECOND, k * SECOND) for user in (1, 2, 3) for k in range(9, 32)]
    rows = {"show": tuple(door.accepted), "click": ()}
    return Case(Definitions.of(group), rows, [*asked, RowsQuery("seen", END_US)])


@pytest.mark.parametrize("tempo", [HistoryTempo(), LiveTempo(), OnlineTempo()], ids=lambda tempo: tempo.name)
@pytest.mark.parametrize(
    "versions",
    [
        [("insert", 0, 0, 1), ("delete", 0, 12, 1), ("upsert", 12, 12, 2)],
        [("insert", 0, 0, 1), ("upsert", 12, 12, 9), ("upsert", 12, 12, 2)],
        [("insert", 0, 0, 1), ("upsert", 12, 12, 3), ("upsert", 13, 12, 2)],
        [("insert", 0, 0, 1), ("upsert", 12, 12, 3), ("upsert", 13, 12, 2), ("upsert", 0, 12, 2)],
        [("insert", 0, 0, 1), ("delete", 0, 12, 1), ("upsert", 12, 13, 2)],
    ],
    ids=["deleted", "filtered", "corrected twice", "corrected back", "away for a second"],
)
def test_versions_under_one_known_time_are_one_step(versions: list[tuple[str, int, int, int]], tempo: Tempo) -> None:
    check(_versions(*versions), tempo, Matrix())
