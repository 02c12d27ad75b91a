from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import WorkflowError
from penstock.store.meta.rows import ConsumptionRow
from penstock.workflows.core.requests import Apply, FactGiven, Pause, Resume, Retire, SignalGiven
from penstock.workflows.core.turn import Settings
from penstock.workflows.messages import Hello
from penstock.workflows.spec.model import WorkflowSpec
from tests.workflows.core.world import World, node

HOUR = 3_600_000_000


def fates(world: World, trigger: str = "t") -> list[tuple[str, str]]:
    rows = [row for row in world.tables.values() if isinstance(row, ConsumptionRow) and row.trigger == trigger]
    return [(row.state, row.run) for row in sorted(rows, key=lambda row: row.revision)]


def triggered(world: World, on: str = "snapshot(items)", consume: dict[str, Any] | None = None, **fields: Any) -> None:
    world.apply(node("a"), triggers=[{"name": "t", "on": on, "consume": consume or {}}], **fields)


def give(world: World, value: Any, subject: str = "items", kind: str = "snapshot", **fields: Any) -> None:
    world.say(FactGiven(subject, kind, value, **fields))


def test_each_value_makes_a_run_and_they_queue() -> None:
    world = World()
    triggered(world)
    for value in range(3):
        give(world, value)
    assert len(world.out) == 1 and len(world.state.queued["w", ""]) == 2
    world.work()
    assert [state for state, _ in fates(world)] == ["consumed"] * 3 and len({run for _, run in fates(world)}) == 3


def test_a_doubled_or_late_report_makes_no_run() -> None:
    world = World()
    triggered(world)
    give(world, "v5", position=5)
    give(world, "v5", position=5)
    give(world, "v4", position=4)
    assert len(fates(world)) == 1


def test_coalesce_takes_all_that_waited_and_latest_only_the_newest() -> None:
    for how, states in (
        ("coalesce", ["consumed"] * 4),
        ("latest", ["consumed", "superseded", "superseded", "consumed"]),
    ):
        world = World()
        triggered(world, consume={"how": how})
        for value in range(4):
            give(world, value)
        assert [state for state, _ in fates(world)] == ["consumed"] + ["waiting"] * 3
        world.work()
        assert [state for state, _ in fates(world)] == states
        assert len({run for _, run in fates(world)}) == 2 and not world.state.waiting


def test_a_window_closes_by_count_or_by_its_deadline() -> None:
    world = World()
    triggered(world, consume={"how": "window", "count": 3, "deadline": "1min"})
    for value in range(4):
        give(world, value)
    assert [state for state, _ in fates(world)] == ["consumed"] * 3 + ["waiting"]
    world.wait(59_999_999)
    assert fates(world)[-1][0] == "waiting"
    world.again()
    world.wait(1)
    assert fates(world)[-1][0] == "consumed"


def test_a_condition_fires_each_time_it_comes_true_and_not_again_after_a_death() -> None:
    world = World()
    triggered(world, on='quality(samples) == "pass"')
    for value in ("fail", "pass", "pass", "fail", "pass"):
        give(world, value, "samples", "quality")
        world.again()
    assert len(fates(world)) == 2


def test_a_condition_on_time_that_passed_in_an_absence_fires_once() -> None:
    world = World()
    triggered(world, on="now >= watermark(x) + 1h")
    give(world, world.now_us, "x", "watermark")
    world.now_us += 2 * HOUR
    world.again()
    assert len(fates(world)) == 1
    world.again()
    assert len(fates(world)) == 1


def test_members_of_a_value_become_parameters_and_a_wrong_one_is_no_run() -> None:
    world = World()
    triggered(world, on="signal(go)", parameters=[{"name": "n", "type": "integer", "default": 1}])
    world.say(SignalGiven("go", value={"n": 5, "other": 1}))
    assert world.state.parameters[fates(world)[0][1]] == {"n": 5}
    world.say(SignalGiven("go", value={"n": "five"}))
    assert fates(world)[1] == ("skipped", "")


def test_done_intervals_of_another_workflow_make_runs_for_them() -> None:
    world = World()
    world.apply(node("m"), name="up")
    triggered(world, on="done(up.m)")
    world.run("u0", "up", interval_start_us=0, interval_end_us=HOUR)
    world.end("u0/m")
    row = world.state.runs[fates(world)[0][1]]
    assert (row.interval_start_us, row.interval_end_us) == (0, HOUR)
    world.run("u1", "up", interval_start_us=0, interval_end_us=HOUR)
    world.end("u1/m")
    assert len(fates(world)) == 1, "done again: no new run unless asked for"
    triggered(world, on="done(up.m)", consume={"redone": True})
    world.run("u2", "up", interval_start_us=0, interval_end_us=HOUR)
    world.end("u2/m")
    assert len(fates(world)) == 2


def test_a_schedule_makes_a_run_as_each_interval_ends() -> None:
    world = World()
    world.apply(node("a"), schedule={"every": "1h"}, overlap={"how": "parallel", "limit": 99})
    world.wait(HOUR - world.now_us - 1)
    assert not world.out
    world.wait(1)
    row = next(iter(world.state.runs.values()))
    assert (row.trigger, row.interval_start_us, row.interval_end_us) == ("schedule", 0, HOUR)
    world.now_us += 3 * HOUR
    world.again()
    world.wait(0)
    assert len(world.state.runs) == 4, "what was missed is made up for"
    world.again()
    assert len(fates(world, "schedule")) == 4


def test_a_long_absence_is_made_up_for_some_at_a_time_and_in_order() -> None:
    world = World(Settings(catch_up_most=3))
    world.apply(node("a"), schedule={"every": "1h"})
    world.now_us += 10 * HOUR
    world.wait(0)
    assert len(world.state.runs) == 10
    world.say(Hello("w", "default", 4, ()))
    for hour in range(10):
        (order,) = world.out.values()
        assert order.interval_start_us == hour * HOUR
        world.end(order.task.node_run)


def test_a_pause_keeps_intervals_and_forgets_instants() -> None:
    world = World()
    world.apply(node("a"), name="i", schedule={"every": "1h"})
    world.apply(node("a"), name="c", schedule={"cron": "0 * * * *"})
    for name in ("i", "c"):
        world.say(Pause(name))
    world.wait(5 * HOUR)
    assert not world.state.runs
    for name in ("i", "c"):
        world.say(Resume(name))
    world.wait(0)
    assert {row.workflow for row in world.state.runs.values()} == {"i"} and len(world.state.runs) == 5
    world.wait(HOUR)
    assert sum(row.workflow == "c" for row in world.state.runs.values()) == 1


def test_values_given_during_a_pause_are_taken_after_it() -> None:
    world = World()
    triggered(world)
    world.say(Pause("w"))
    give(world, 1)
    give(world, 2)
    assert [state for state, _ in fates(world)] == ["waiting"] * 2
    world.again()
    world.say(Resume("w"))
    assert [state for state, _ in fates(world)] == ["consumed"] * 2


def test_a_new_version_leaves_what_runs_and_starts_the_next_run() -> None:
    world = World()
    world.apply(node("a"), node("b", 'status(a) == "done"'))
    world.run("r")
    assert world.apply(node("c"))["version"] == 2
    world.run("s")
    world.end("r/a")
    world.end("r/b")
    assert list(world.out) == ["s/c"] and world.state.runs["r"].version == 1
    assert world.apply(node("c"))["changed"] is False
    text = WorkflowSpec(name="w", nodes=(node("d"),)).model_dump_json()
    with pytest.raises(WorkflowError, match="found version 2"):
        world.say(Apply("w", text, "other", "ada", "test", expect=1))


def test_a_retired_workflow_fires_no_more_and_comes_back_when_applied() -> None:
    world = World()
    triggered(world, schedule={"every": "1h"})
    world.say(Retire("w"))
    give(world, 1)
    world.wait(3 * HOUR)
    assert not world.state.runs
    with pytest.raises(WorkflowError, match="retired"):
        world.run()
    triggered(world, schedule={"every": "1h"})
    give(world, 2)
    assert len([run for run in world.state.runs.values() if run.trigger == "t"]) == 1
