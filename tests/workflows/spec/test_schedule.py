from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import WorkflowError
from penstock.workflows.spec.model import Schedule
from penstock.workflows.spec.schedule import check_schedule, first_instant_us, interval_at, next_firing

ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Asia/Shanghai", "America/Sao_Paulo", "Australia/Lord_Howe"]
STEPS = ["1s", "15min", "1h", "6h", "12h", "1d", "2d", "1w", "2w", "1mo", "1y"]
NOW = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1_000_000
INSTANTS = st.integers(0, 4 * 10**15)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def local(us: int, zone: str) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).astimezone(ZoneInfo(zone))


@given(st.sampled_from(STEPS), st.sampled_from(ZONES), INSTANTS)
def test_intervals_tile_the_time_line(every: str, zone: str, instant: int) -> None:
    schedule = Schedule(every=every, zone=zone)
    start, end = interval_at(schedule, instant)
    assert start <= instant < end
    assert interval_at(schedule, end)[0] == end
    assert interval_at(schedule, start) == (start, end) == interval_at(schedule, end - 1)


@given(st.sampled_from(["15min", "1h", "6h"]), st.sampled_from(ZONES), INSTANTS)
def test_every_end_is_a_multiple_of_the_step_on_the_local_clock(every: str, zone: str, instant: int) -> None:
    minutes = {"15min": 15, "1h": 60, "6h": 360}[every]
    end = local(interval_at(Schedule(every=every, zone=zone), instant)[1], zone)
    assert (end.hour * 60 + end.minute) % minutes == 0
    assert end.second == 0


@given(st.sampled_from(["15min", "30min"]), st.sampled_from(ZONES), INSTANTS)
def test_no_multiple_of_the_step_is_missed(every: str, zone: str, instant: int) -> None:
    step = {"15min": 15, "30min": 30}[every] * 60_000_000
    start, end = interval_at(Schedule(every=every, zone=zone), instant)
    inner = [us for us in range(start + 1_000_000, end, 1_000_000) if us % 60_000_000 == 0]
    assert [u for u in inner if (local(u, zone).hour * 60 + local(u, zone).minute) * 60_000_000 % step == 0] == []


def test_an_hour_that_comes_twice_gives_two_intervals_and_a_skipped_one_none() -> None:
    hourly = Schedule(every="1h", zone="America/New_York")
    first = interval_at(hourly, at("2026-11-01T01:30:00-04:00"))
    second = interval_at(hourly, at("2026-11-01T01:30:00-05:00"))
    assert first[1] == second[0] != second[1]
    before = interval_at(hourly, at("2026-03-08T01:30:00-05:00"))
    assert before == (at("2026-03-08T01:00:00-05:00"), at("2026-03-08T03:00:00-04:00"))


def test_days_have_23_and_25_hours_at_clock_changes() -> None:
    daily = Schedule(every="1d", zone="America/New_York")
    lengths = [interval_at(daily, at(f"{day}T12:00:00-05:00")) for day in ("2026-03-08", "2026-11-01", "2026-11-02")]
    assert [(end - start) // 3_600_000_000 for start, end in lengths] == [23, 25, 24]


def test_a_day_whose_midnight_is_skipped_begins_at_the_change() -> None:
    start, _ = interval_at(Schedule(every="1d", zone="America/Sao_Paulo"), at("2018-11-04T12:00:00-02:00"))
    assert local(start, "America/Sao_Paulo").hour == 1


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    week = interval_at(Schedule(every="1w", zone="Asia/Shanghai"), at("2026-11-25T00:00:00+08:00"))
    month = interval_at(Schedule(every="1mo", zone="Asia/Shanghai"), at("2026-12-25T00:00:00+08:00"))
    assert week == (at("2026-11-23T00:00:00+08:00"), at("2026-11-30T00:00:00+08:00"))
    assert month == (at("2026-12-01T00:00:00+08:00"), at("2027-01-01T00:00:00+08:00"))


# Debian cron(8): "jobs that run at specific times which are skipped are run immediately after the change; those in an
# hour that comes twice run once; jobs with * run by elapsed time".
CRON_AT_CHANGES = [
    ("30 2 * * *", "America/New_York", "2026-03-08T00:00:00-05:00", ["2026-03-08T03:00:00-04:00"]),
    (
        "30 1 * * *",
        "America/New_York",
        "2026-11-01T00:00:00-04:00",
        ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
    ),
    ("30 1 * * *", "America/New_York", "2026-11-01T01:10:00-05:00", ["2026-11-02T01:30:00-05:00"]),
    (
        "*/30 * * * *",
        "America/New_York",
        "2026-11-01T01:20:00-04:00",
        ["2026-11-01T01:30:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T01:30:00-05:00"],
    ),
    (
        "0 * * * *",
        "America/New_York",
        "2026-03-08T01:00:00-05:00",
        ["2026-03-08T03:00:00-04:00", "2026-03-08T04:00:00-04:00"],
    ),
    ("0 0 * * *", "Asia/Shanghai", "2026-11-24T00:00:00+08:00", ["2026-11-25T00:00:00+08:00"]),
    ("0 12 29 2 *", "UTC", "2026-01-01T00:00:00+00:00", ["2028-02-29T12:00:00+00:00"]),
]


@pytest.mark.parametrize(("cron", "zone", "after", "ticks"), CRON_AT_CHANGES)
def test_cron_at_clock_changes(cron: str, zone: str, after: str, ticks: list[str]) -> None:
    instant, found = at(after), []
    for _ in ticks:
        instant = next_firing(Schedule(cron=cron, zone=zone), instant) or 0
        found.append(instant)
    assert found == [at(tick) for tick in ticks]


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule(), "either"),
        (Schedule(every="1h", cron="* * * * *"), "either"),
        (Schedule(every="7h"), "divides the day"),
        (Schedule(every="90"), "a whole number and a unit"),
        (Schedule(every="1d", zone="Mars/Base"), "zone"),
        (Schedule(every="1d", start="yesterday"), "ISO 8601"),
        (Schedule(cron="61 * * * *"), "five fields"),
        (Schedule(cron="* *"), "five fields"),
        (Schedule(cron="0 0 30 2 *"), "five fields"),
        (Schedule(cron="0 0 */5 2 1#5"), "some day"),
        (Schedule(cron="30 2 * * *", zone="America/New_York"), "clock change skips"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(schedule: Schedule, words: str) -> None:
    with pytest.raises(Exception, match=words) as error:
        check_schedule(schedule, NOW)
    assert "->" in str(error.value)


def test_a_cron_in_a_skipped_hour_is_taken_when_it_says_what_then() -> None:
    check_schedule(Schedule(cron="30 2 * * *", zone="America/New_York", skipped="after"), NOW)
    check_schedule(Schedule(cron="30 2 * * *", zone="Asia/Shanghai"), NOW)
    check_schedule(Schedule(cron="*/5 * * * *", zone="America/New_York"), NOW)


def test_a_start_without_a_zone_is_in_the_schedules_zone() -> None:
    assert first_instant_us(Schedule(every="1d", zone="Asia/Shanghai", start="2026-11-24")) == at(
        "2026-11-24T00:00:00+08:00"
    )


def test_refusals_are_of_one_kind() -> None:
    with pytest.raises(WorkflowError):
        check_schedule(Schedule(cron="30 2 * * *", zone="America/New_York"), NOW)
