from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PlanError
from penstock.semantics.windows import calendar_start_us, default_hop_us, edges_us, floor_us

S = 1_000_000
DAY = 86_400 * S


def us(text: str, zone: str = "UTC") -> int:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**12))
def test_floor_goes_toward_minus_infinity(x: int, hop: int) -> None:
    assert floor_us(np.array([x]), hop)[0] == x - x % hop


@pytest.mark.parametrize(
    ("width_s", "hop_s"),
    [(23, 0), (24, 1), (239, 1), (240, 10), (1_440, 60), (3_600, 60), (7_200, 300), (21_600, 900), (86_400, 3_600),
     (6 * 86_400, 21_600), (24 * 86_400, 86_400), (30 * 86_400, 86_400)],
)  # fmt: skip
def test_default_hop(width_s: int, hop_s: int) -> None:
    assert default_hop_us(width_s * S) == hop_s * S


@pytest.mark.parametrize(
    ("options", "edges"),
    [
        ({"kind": "time", "width_us": 100}, (900, 1000)),
        ({"kind": "time", "width_us": 100, "hop_us": 7}, (896, 1000)),
        ({"kind": "time", "width_us": 100, "offset_us": 30}, (870, 970)),
        ({"kind": "time", "width_us": 100, "offset_us": -30}, (930, 1030)),
        ({"kind": "time", "width_us": 100, "closed": "right"}, (901, 1001)),
        ({"kind": "time", "width_us": 100, "closed": "both"}, (900, 1001)),
        ({"kind": "lifetime", "closed": "right"}, (-(2**63), 1001)),
        ({"kind": "rows", "offset_us": 5}, (-(2**63), 995)),
    ],
)
def test_edges(options: dict[str, object], edges: tuple[int, int]) -> None:
    left, right = edges_us(np.array([1000]), **options)  # type: ignore[arg-type]
    assert (int(left[0]), int(right[0])) == edges


def test_edges_are_held_at_the_ends_of_int64() -> None:
    left, right = edges_us(np.array([-(2**63) + 5, 2**63 - 1]), kind="time", width_us=100, closed="both")
    assert left[0] == -(2**63) and right[1] == 2**63 - 1


@pytest.mark.parametrize(
    ("at", "unit", "zone", "start"),
    [
        ("2024-03-10T12:00", "day", "America/New_York", "2024-03-10T00:00"),  # the clock goes on at 2:00
        ("2024-11-03T23:30", "day", "America/New_York", "2024-11-03T00:00"),  # a day of 25 hours
        ("2024-11-03T00:00", "day", "America/New_York", "2024-11-03T00:00"),
        ("2024-03-10T12:00", "week", "America/New_York", "2024-03-04T00:00"),
        ("2024-03-10T12:00", "month", "Asia/Shanghai", "2024-03-01T00:00"),
        ("1965-02-03T04:05", "year", "Asia/Shanghai", "1965-01-01T00:00"),
        ("1969-12-31T23:59", "day", "UTC", "1969-12-31T00:00"),
    ],
)
def test_calendar_starts(at: str, unit: str, zone: str, start: str) -> None:
    assert calendar_start_us(np.array([us(at, zone)]), unit, zone).tolist() == [us(start, zone)]


def test_a_day_without_midnight_begins_at_the_clock_change() -> None:
    # Sao Paulo, 2018-11-04: 0:00 did not exist, the clock went from 23:59:59 to 1:00.
    assert calendar_start_us(np.array([us("2018-11-04T15:00", "America/Sao_Paulo")]), "day", "America/Sao_Paulo") == us(
        "2018-11-04T03:00"
    )


@given(
    st.lists(st.integers(us("1940-01-01"), us("2037-01-01")), min_size=1, max_size=4),
    st.sampled_from(["day", "week", "month", "year"]),
    st.sampled_from(["America/New_York", "Asia/Shanghai", "Europe/Lisbon", "Pacific/Apia", "UTC"]),
)
def test_the_start_is_the_last_boundary(instants: list[int], unit: str, zone: str) -> None:
    near = [x % (5 * 365 * DAY) + instants[0] for x in instants]  # keep the range of days short
    for x, start in zip(near, calendar_start_us(np.array(near), unit, zone).tolist(), strict=True):
        local, begin = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=v) for v in (x, start))
        day, first = local.astimezone(ZoneInfo(zone)), begin.astimezone(ZoneInfo(zone))
        assert start <= x
        wanted = {
            "day": (day.year, day.month, day.day),
            "week": day.date() - timedelta(days=day.weekday()),
            "month": (day.year, day.month),
            "year": day.year,
        }[unit]
        got = {
            "day": (first.year, first.month, first.day),
            "week": first.date() - timedelta(days=first.weekday()),
            "month": (first.year, first.month),
            "year": first.year,
        }[unit]
        before = (begin - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date()
        assert got == wanted and before < first.date()


def test_unknown_units_and_zones_are_refused() -> None:
    with pytest.raises(PlanError, match="use one of day"):
        calendar_start_us(np.array([0]), "hour", "UTC")
    with pytest.raises(PlanError, match="IANA"):
        calendar_start_us(np.array([0]), "day", "Mars/Base")
