"""Schedules that go by a watermark: an interval's run is made when the fact passes its end, whatever the clock says."""

from __future__ import annotations

from penstock.workflows.core.requests import FactGiven, Pause, Resume, Tick
from penstock.workflows.messages import FactValue, Report
from tests.workflows.core.world import World, node

H = 3_600_000_000


def hourly(world: World, **schedule: object) -> None:
    overlap = {"how": "parallel", "limit": 100}
    world.apply(node("a"), schedule={"every": "1h", "by": "watermark(events)", **schedule}, overlap=overlap)


def reach(world: World, us: int) -> None:
    world.say(FactGiven("events", "watermark", us))


def intervals(world: World) -> list[tuple[int | None, int | None]]:
    rows = sorted(world.state.runs.values(), key=lambda row: row.seq)
    return [((row.interval_start_us or 0) // H, (row.interval_end_us or 0) // H) for row in rows]


def test_the_first_value_is_where_it_begins_and_each_end_that_is_passed_makes_a_run() -> None:
    world = World()
    hourly(world)
    reach(world, 10 * H + 5)
    assert intervals(world) == []
    reach(world, 11 * H - 1)
    assert intervals(world) == []
    reach(world, 11 * H)
    assert intervals(world) == [(10, 11)]
    reach(world, 13 * H + 1)
    world.say(Tick())
    assert intervals(world) == [(10, 11), (11, 12), (12, 13)]


def test_it_begins_at_its_start_if_one_is_given() -> None:
    world = World()
    hourly(world, start="1970-01-01T02:00:00Z")
    reach(world, 5 * H)
    world.say(Tick())
    assert intervals(world) == [(2, 3), (3, 4), (4, 5)]


def test_the_clock_alone_makes_none() -> None:
    world = World()
    hourly(world, start="1970-01-01")
    world.now_us = 100 * H
    world.say(Tick())
    assert intervals(world) == []


def test_a_pause_holds_them_back_and_nothing_is_lost() -> None:
    world = World()
    hourly(world, start="1970-01-01")
    world.say(Pause("w"))
    reach(world, 3 * H)
    assert intervals(world) == []
    world.say(Resume("w"))
    world.say(Tick())
    assert intervals(world) == [(0, 1), (1, 2), (2, 3)]


def test_many_more_than_one_turn_takes_are_all_made() -> None:
    world = World()
    hourly(world, start="1970-01-01")
    reach(world, 1000 * H)
    for _ in range(10):
        world.say(Tick())
    assert len(intervals(world)) == 1000


def test_progress_of_a_stream_in_two_mouths_never_goes_back() -> None:
    world = World()
    world.apply(node("one", kind="stream"), node("two", kind="stream"))
    for job, epoch, value in (("w.one", 1, 50), ("w.two", 7, 40), ("w.one", 1, 60), ("w.two", 7, 55)):
        world.say(Report(job, epoch, (FactValue("events", "watermark", value, "", value),)))
    assert world.state.values["watermark", "events"] == 60


def test_a_stream_node_of_the_same_workflow_tells_the_time() -> None:
    world = World()
    world.apply(node("live", kind="stream"), node("a"), schedule={"every": "1h", "by": "watermark(live)"})
    for position, hours in enumerate((10, 11, 12), 1):
        world.say(Report("w.live", 1, (FactValue("", "watermark", hours * H, "", position),)))
    assert intervals(world) == [(10, 11), (11, 12)]
