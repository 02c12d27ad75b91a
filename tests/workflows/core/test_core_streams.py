from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import WorkflowError
from penstock.workflows.core.requests import FactGiven, Retire, SetStream
from penstock.workflows.messages import Command, CommandDone, FactValue, Report, Watch
from penstock.workflows.spec.predicate import FactRef
from penstock.workflows.supervisor.interface import Observed, Wanted
from tests.workflows.core.world import World, node


def stream(name: str, *edges: tuple[str, str], **fields: Any) -> Any:
    return node(name, kind="stream", edges=tuple({"action": a, "when": w} for a, w in edges), **fields)


def asked(world: World) -> list[tuple[str, bool, int]]:
    return [(wanted.desired, wanted.held, wanted.generation) for wanted in world.take(Wanted)]


def test_a_stream_without_edges_runs_as_soon_as_it_is_applied() -> None:
    world = World()
    world.apply(stream("s"))
    assert asked(world) == [("running", False, 1)]
    world.apply(stream("s", parameters={"x": 1}))
    assert asked(world) == [("running", False, 2)], "a changed one gives way to a new process"
    world.apply(stream("s", parameters={"x": 1}), node("b"))
    assert asked(world) == [("running", False, 2)]
    world.apply(node("b"))
    assert asked(world) == [("stopped", False, 2)]
    world.apply(stream("s", parameters={"x": 1}), node("b"))
    assert asked(world) == [("running", False, 3)]


def test_batch_results_start_reload_restart_and_stop_a_stream() -> None:
    world = World()
    world.apply(
        node("train"), node("gate", 'status(train) == "done"'),
        stream("score", ("start", 'quality(gate) == "pass"'), ("reload", 'status(train) == "done"'),
               ("restart", "snapshot(code)"), ("stop", 'quality(gate) == "fail"')),
    )  # fmt: skip
    assert asked(world) == [("stopped", False, 1)]
    world.run("r")
    world.end("r/train")
    world.end("r/gate", facts=(FactValue("", "quality", "pass"),))
    assert asked(world) == [("running", False, 1)]
    assert not world.take(Command), "what is true before it runs is no reason to reload it"
    world.run("s")
    world.end("s/train")
    (command,) = world.take(Command)
    assert (command.action, command.number) == ("reload", 1)
    world.again()
    assert world.take(Command) == [command], "asked again until it is answered"
    world.say(CommandDone("w.score", 1, 1))
    world.again()
    assert not world.take(Command)
    world.take(Wanted)
    world.say(FactGiven("code", "snapshot", "abc"))
    assert asked(world) == [("running", False, 2)]
    world.end("s/gate", facts=(FactValue("", "quality", "fail"),))
    assert asked(world) == [("stopped", False, 2)]


def test_a_gate_holds_a_stream_while_it_is_not_true() -> None:
    world = World()
    world.apply(
        stream("a"), stream("b", ("gate", "watermark(a) >= watermark(b) + 10s"), ("gate", 'status(a) == "running"'))
    )
    world.take(Wanted)
    world.say(Observed("w.a", 1, "running", 1))
    world.say(Report("w.a", 1, (FactValue("", "watermark", 20_000_000, position=1),)))
    assert not asked(world)
    world.say(Report("w.b", 1, (FactValue("", "watermark", 5_000_000, position=1),)))
    assert asked(world) == [("running", False, 1)]
    world.say(Report("w.b", 1, (FactValue("", "watermark", 15_000_000, position=2),)))
    assert asked(world) == [("running", True, 1)]
    world.say(Report("w.a", 1, (FactValue("", "watermark", 60_000_000, position=2),)))
    assert asked(world) == [("running", False, 1)]
    world.say(Observed("w.a", 1, "waiting", 1, "crashed"))
    assert asked(world) == [("running", True, 1)]


def test_a_fenced_process_tells_nothing() -> None:
    world = World()
    world.apply(stream("s"))
    world.say(Report("w.s", 3, (FactValue("", "watermark", 10, position=1),)))
    world.say(Report("w.s", 2, (FactValue("", "watermark", 99, position=9),)))
    world.say(Observed("w.s", 2, "broken", 1))
    assert world.state.values["watermark", "w.s"] == 10 and world.state.streams["w.s"].state == "stopped"
    world.say(Report("w.s", 4, (FactValue("", "watermark", 9, position=1),)))
    assert world.state.values["watermark", "w.s"] == 10, "it does not go back"
    world.say(Report("w.s", 4, (FactValue("", "rows", 7, position=1),)))
    world.say(Report("w.s", 4, (FactValue("", "rows", 6, position=1),)))
    assert world.state.values["rows", "w.s"] == 7


def test_awaited_values_are_pushed_down_to_the_stream_that_tells_them() -> None:
    world = World()
    world.apply(
        stream("s"),
        node("b", "watermark(s) >= end and watermark(events) >= end"),
        overlap={"how": "parallel", "limit": 9},
    )
    world.run("r2", interval_start_us=0, interval_end_us=200)
    world.run("r1", interval_start_us=0, interval_end_us=100)
    assert world.take(Watch)[-1].thresholds == (("w.s", "watermark", 100),)
    world.say(Report("w.s", 1, (FactValue("events", "watermark", 50, position=1),)))
    assert world.take(Watch)[-1].thresholds == (("events", "watermark", 100), ("w.s", "watermark", 100))
    world.say(
        Report(
            "w.s", 1, (FactValue("events", "watermark", 500, position=2), FactValue("", "watermark", 150, position=1))
        )
    )
    assert list(world.out) == ["r1/b"]
    assert world.take(Watch)[-1].thresholds == (("w.s", "watermark", 200),)
    world.say(Report("w.s", 1, (FactValue("", "watermark", 200, position=2),)))
    assert list(world.out) == ["r1/b", "r2/b"] and world.take(Watch)[-1].thresholds == ()


def test_ten_thousand_that_wait_for_a_watermark_start_in_its_order() -> None:
    world = World(slots=32)
    world.apply(node("b", "watermark(s) >= end"), overlap={"how": "parallel", "limit": 10_000})
    for number in range(2_000):
        world.run(f"r{number}", interval_start_us=0, interval_end_us=10 + 10 * ((number * 7919) % 2_000))
    looked: list[Any] = []
    touched = world.core.watching.passed

    def count(*arguments: Any) -> Any:
        found = touched(*arguments)
        looked.extend(found)
        return found

    world.core.watching.passed = count  # type: ignore[method-assign,assignment]
    world.say(FactGiven("s", "watermark", 50))
    assert len(world.out) == 5 == len(looked), "only those that it concerns were looked at"


def test_a_user_may_stop_start_restart_and_reload_a_stream() -> None:
    world = World()
    world.apply(stream("s"))
    world.take(Wanted)
    world.say(SetStream("w.s", "stop"))
    world.say(SetStream("w.s", "start"))
    world.say(SetStream("w.s", "restart"))
    assert asked(world) == [("stopped", False, 1), ("running", False, 1), ("running", False, 2)]
    world.say(SetStream("w.s", "reload"))
    assert len(world.take(Command)) == 1
    with pytest.raises(WorkflowError, match="no such stream"):
        world.say(SetStream("w.t", "stop"))
    world.say(Retire("w"))
    assert asked(world) == [("stopped", False, 2)]


def test_a_scheduler_that_comes_back_says_again_what_is_wanted() -> None:
    world = World()
    world.apply(stream("s"))
    world.say(Observed("w.s", 1, "running", 1))
    world.take(Wanted)
    world.again()
    assert asked(world) == [("running", False, 1)]


def test_looking_again_and_again_leaves_nothing_behind() -> None:
    world = World()
    world.apply(
        stream("s", ("start", "offset(x) >= 100 and rows(y) > 5")), node("a"),
        triggers=[{"name": "t", "on": "offset(x) >= 200 and rows(y) > 5"}],
    )  # fmt: skip
    for number in range(500):
        world.say(FactGiven("y", "rows", number % 10))
    assert sum(map(len, world.core.watching.heaps.values())) == 2 and len(world.state.timers) < 5
    world.take(Wanted)
    world.say(FactGiven("x", "offset", 100))
    assert asked(world) == [("running", False, 1)] and not world.out
    world.say(FactGiven("x", "offset", 250))
    assert len(world.out) == 1 and not world.core.watching.heaps.get(FactRef("offset", "x"))
