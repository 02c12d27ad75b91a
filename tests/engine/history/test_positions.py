"""Joined rows at positions of logs: progress makes them, so positions alone show less than the instant reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

import penstock.define as ps
from penstock.define.project import Definitions
from penstock.engine.history import History
from penstock.plan.planner import plan

SECOND = 1_000_000


def _rows(*seconds: int) -> pa.Table:
    known = [s * SECOND for s in seconds]
    return pa.table({"a": [1] * len(known), "at": pa.array(known, pa.timestamp("us", "UTC"))})


def _joined(a: Mapping[tuple[str, int], int], known_s: int | None = None) -> int:
    """How many joined rows count at second 1,000: shows at 1, 20 and 40 s, closed 10 s later; clicks at 2 and 22 s."""
    schema = {"a": "int", "at": "instant"}
    show, click = (ps.stream(name, time="at", known="at", schema=schema) for name in ("show", "click"))
    seen = show.join(click, on="a", within="10s", name="seen", clicked=ps.any())
    group = seen.by("a").features("g", n=ps.count())
    history = History(plan(Definitions.of(group)), {"show": _rows(1, 20, 40), "click": _rows(2, 22)})
    asked = pa.table({"a": [1], "q": [1_000 * SECOND], "reached": [(known_s or 0) * SECOND]})
    options: dict[str, Any] = {} if known_s is None else {"known": "reached"}
    return int(history.group("g", asked, a=[a], **options).table()["n"][0].as_py())


@pytest.mark.parametrize(
    ("show", "click", "n"),
    [
        (3, 2, 1),  # clicks are read to 22 s: the show of 1 s closed at 11 s, that of 20 s is still open
        (2, 2, 1),
        (3, 1, 0),  # clicks are read to 2 s
        (1, 2, 0),  # shows are read to 1 s
        (0, 2, 0),
    ],
)
def test_positions_show_how_far_everything_is_known(show: int, click: int, n: int) -> None:
    assert _joined({("show", 0): show, ("click", 0): click}) == n


@pytest.mark.parametrize(("known_s", "n"), [(10, 0), (11, 1), (29, 1), (30, 2), (49, 2), (50, 3)])
def test_the_instant_reached_is_told_with_the_positions(known_s: int, n: int) -> None:
    assert _joined({("show", 0): 3, ("click", 0): 2}, known_s) == n


def test_an_observation_above_its_position_makes_no_row() -> None:
    assert _joined({("show", 0): 1, ("click", 0): 2}, 50) == 1


def test_of_a_stream_that_is_left_out_nothing_is_known() -> None:
    assert _joined({("show", 0): 3}) == 0
