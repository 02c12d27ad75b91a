from __future__ import annotations

import pytest

from penstock.errors import WorkflowError
from penstock.workflows.core.requests import FactGiven, KillRun, Pause, Rerun, Resume, SetPool, SignalGiven
from penstock.workflows.messages import Acknowledged, Beat, Ended, FactValue, Hello, Kill, Start, Started
from tests.workflows.core.world import World, after, node


def test_a_chain_runs_in_order_and_hands_values_on() -> None:
    world = World()
    world.apply(node("a"), node("b", *after("a"), inputs={"x": "a.n"}), node("c", *after("b")))
    assert world.run() == {"run": "r", "state": "waiting"}
    assert list(world.out) == ["r/a"]
    world.end("r/a", outputs={"n": 5})
    assert world.out["r/b"].inputs == {"x": 5}
    world.end("r/b")
    world.end("r/c")
    assert world.state.runs["r"].state == "done" and not world.out
    assert world.run() == {"run": "r", "state": "done"}, "the same id again is the same run"


def test_a_fan_of_a_thousand_goes_out_as_workers_have_room() -> None:
    world = World(slots=4)
    world.apply(node("root"), *(node(f"n{i}", *after("root")) for i in range(1000)),
                node("end", *after(*(f"n{i}" for i in range(1000)))))  # fmt: skip
    world.run()
    most = 0
    for _ in range(1002):
        most = max(most, len(world.out))
        world.end(next(iter(world.out)))
    assert world.state.runs["r"].state == "done" and most <= world.state.capacity() <= 36


def test_what_depends_on_a_failure_is_skipped_and_the_rest_goes_on() -> None:
    world = World()
    world.apply(
        node("a"), node("b", *after("a")), node("c"), node("d", *after("c")), node("e", 'status(a) == "failed"')
    )
    world.run()
    world.end("r/a", "failed", error="boom")
    world.work()
    assert world.status() == {"a": "failed", "b": "skipped", "c": "done", "d": "done", "e": "done"}
    assert world.state.runs["r"].state == "failed" and world.state.runs["r"].error == "a: boom"


def test_a_failure_may_stop_all_or_be_gone_over() -> None:
    world = World()
    world.apply(node("a"), node("b"), node("c", *after("b")), failure="stop")
    world.run()
    world.end("r/a", "failed")
    assert [kill.task.node_run for kill in world.take(Kill)] == ["r/b"]
    world.end("r/b", "done")
    assert world.status() == {"a": "failed", "b": "killed", "c": "killed"}
    assert world.state.runs["r"].state == "failed"
    world.apply(node("a", on_failure="continue"), node("b", *after("a")), name="v")
    world.run("s", "v")
    world.end("s/a", "failed")
    world.work()
    assert world.status("s") == {"a": "failed", "b": "done"} and world.state.runs["s"].state == "done"


def test_retries_wait_longer_each_time() -> None:
    world = World()
    world.apply(node("a", retry={"times": 2, "wait": "1s", "factor": 3.0}))
    world.run()
    first = world.out["r/a"].task
    world.end("r/a", "failed")
    assert not world.out
    world.wait(999_999)
    assert not world.out
    world.wait(1)
    assert world.out["r/a"].task.epoch > first.epoch
    world.end("r/a", "failed")
    world.wait(2_999_999)
    assert not world.out
    world.wait(1)
    world.end("r/a", "failed")
    assert world.state.runs["r"].state == "failed" and world.state.nodes["r"]["a"].failures == 3


def test_an_end_counts_once_and_a_fenced_one_never() -> None:
    world = World()
    world.apply(node("a", retry={"times": 1, "wait": 0}), node("b", *after("a")))
    world.run()
    old = world.out["r/a"].task
    world.end("r/a", "failed")
    new = world.out["r/a"].task
    world.take(Acknowledged)
    world.say(Ended("w", old, "done", {"n": 1}))
    assert world.take(Acknowledged) == [Acknowledged(old, False, "w")] and world.status()["a"] == "starting"
    world.say(Ended("w", new, "done"))
    world.say(Ended("w", new, "done"))
    assert world.take(Acknowledged) == [Acknowledged(new, True, "w")] * 2
    world.say(Started("w", old, 1))
    assert [kill.task for kill in world.take(Kill)] == [old]


def test_a_worker_that_is_not_heard_of_loses_its_tasks() -> None:
    world = World()
    world.apply(node("a"))
    world.run()
    world.start("r/a")
    old = world.out["r/a"].task
    world.wait(10_000_000)
    world.say(Beat("w", (old,)))
    world.wait(14_000_000)
    assert world.out["r/a"].task == old
    world.wait(2_000_000)
    assert world.status()["a"] == "ready", "nobody is there to take it"
    world.say(Hello("v", "default", 1, ()))
    assert world.out["r/a"].task.epoch > old.epoch


def test_a_worker_that_comes_back_without_a_task_has_lost_it() -> None:
    world = World()
    world.apply(node("a"))
    world.run()
    for _ in range(4):
        world.start("r/a")
        world.say(Hello("w", "default", 4, ()))
    assert world.status()["a"] == "failed" and "lost 4 times" in world.state.runs["r"].error


def test_a_start_without_an_answer_is_sent_again() -> None:
    world = World()
    world.apply(node("a"))
    world.run()
    world.take(Start)
    world.say(Hello("w", "default", 4, ()))
    assert len(world.take(Start)) == 1


def test_a_kill_ends_a_run_when_its_tasks_have_ended() -> None:
    world = World()
    world.apply(node("a"), node("b", *after("a")))
    world.run()
    world.start("r/a")
    world.say(KillRun("r", "ada"))
    assert world.status() == {"a": "stopping", "b": "killed"} and world.state.runs["r"].state == "stopping"
    world.take(Kill)
    world.wait(5_000_000)
    assert len(world.take(Kill)) == 1, "asked again"
    world.end("r/a", "done")
    assert world.state.runs["r"].state == "killed" and not world.take(Acknowledged)[-1].accepted


def test_pools_and_priorities() -> None:
    world = World(slots=2)
    world.say(SetPool("db", 1))
    world.apply(*(node(f"d{i}", pool="db", priority=9) for i in range(3)), node("low"), node("high", priority=5))
    world.run()
    assert [task for task in world.out if "/d" in task] == ["r/d0"]
    world.end("r/d0")
    assert [task for task in world.out if "/d" in task] == ["r/d1"]


def test_only_what_failed_runs_again_and_from_a_node() -> None:
    world = World()
    world.apply(node("a"), node("b", *after("a"), inputs={"x": "a.n"}), node("c", *after("b")), node("d", *after("a")))
    world.run()
    world.end("r/a", outputs={"n": 7})
    world.end("r/b", "failed")
    world.work()
    with pytest.raises(WorkflowError):
        world.say(Rerun("s", "nothing"))
    world.say(Rerun("s", "r", only_failed=True))
    assert list(world.out) == ["s/b"] and world.out["s/b"].inputs == {"x": 7}
    world.work()
    assert world.state.runs["s"].state == "done" and world.state.nodes["s"]["a"].origin == "r"
    world.say(Rerun("t", "s", from_node="c"))
    assert list(world.out) == ["t/c"]
    world.work()
    assert world.state.nodes["t"]["a"].origin == "r" and world.state.nodes["t"]["b"].origin == "s"
    world.say(Rerun("u", "s", "newest"))
    assert list(world.out) == ["u/a"]


def test_parameters_are_checked_and_filled_in() -> None:
    world = World()
    world.apply(
        node("a", parameters={"n": "{{ param.n }}", "text": "n={{ param.n }} of {{ run }}"}),
        parameters=[{"name": "n", "type": "integer", "default": 3}],
    )
    with pytest.raises(WorkflowError, match=r"did you mean n|valid names"):
        world.run(parameters={"m": 1})
    with pytest.raises(WorkflowError, match="type integer"):
        world.run(parameters={"n": "x"})
    world.run(parameters={"n": 4})
    assert world.out["r/a"].parameters == {"n": 4, "text": "n=4 of r"}


def test_nodes_switched_off_are_passed_over() -> None:
    world = World()
    world.apply(node("a"), node("b", *after("a")), node("c", *after("b")))
    world.run(off=("b",))
    world.work()
    assert world.status() == {"a": "done", "b": "skipped", "c": "done"} and world.state.runs["r"].state == "done"


def test_edges_see_the_facts_of_their_own_run_and_of_the_world() -> None:
    world = World()
    world.apply(
        node("samples"), node("train", 'quality(samples) == "pass" and watermark(clicks) >= end'),
        overlap={"how": "parallel", "limit": 2},
    )  # fmt: skip
    world.run("r", interval_start_us=0, interval_end_us=100)
    world.run("s", interval_start_us=100, interval_end_us=200)
    world.end("r/samples", facts=(FactValue("", "quality", "pass"),))
    world.say(FactGiven("clicks", "watermark", 99))
    assert list(world.out) == ["s/samples"]
    world.say(FactGiven("clicks", "watermark", 100))
    assert list(world.out) == ["s/samples", "r/train"]
    world.say(FactGiven("clicks", "watermark", 500))
    world.end("s/samples", facts=(FactValue("", "quality", "fail"),))
    assert world.status("s") == {"samples": "done", "train": "skipped"}
    world.work()
    assert world.state.coverage["w.train"].covers(0, 100) and not world.state.coverage["w.train"].covers(0, 200)


def test_an_approval_is_for_a_run_or_for_all_that_wait() -> None:
    world = World()
    world.apply(node("a", "approved(go)"), overlap={"how": "parallel", "limit": 9})
    world.run("r")
    world.run("s")
    world.say(SignalGiven("go", "approved", run="s"))
    assert list(world.out) == ["s/a"]
    world.wait(1)
    world.say(SignalGiven("go", "approved", id="x"))
    assert world.say(SignalGiven("go", "approved", id="x"))["new"] is False
    assert list(world.out) == ["s/a", "r/a"]
    world.wait(1)
    world.run("t")
    assert "t/a" not in world.out, "an approval given before the run is not for it"


def test_a_pause_holds_back_what_has_not_begun() -> None:
    world = World()
    world.apply(node("a"))
    world.say(Pause("w"))
    world.run()
    assert not world.out
    world.say(Resume("w"))
    assert list(world.out) == ["r/a"]


def test_a_deadline_is_told_before_the_end_and_a_run_may_time_out() -> None:
    world = World()
    world.apply(node("a", deadline="1min"), timeout="2min")
    world.run()
    world.start("r/a")
    world.wait(60_000_000)
    assert world.state.values["status", "w.a"] == "late"
    for _ in range(8):
        world.say(Beat("w", (world.out["r/a"].task,)))
        world.wait(10_000_000)
    assert world.state.runs["r"].state == "failing"
    world.end("r/a", "killed")
    assert world.state.runs["r"].state == "failed" and world.state.runs["r"].error == "timed out"


def test_time_alone_may_start_a_node() -> None:
    world = World()
    world.apply(node("a", "now >= end + 10s"))
    world.run(interval_start_us=0, interval_end_us=1_000_000)
    world.wait(9_999_999)
    assert not world.out
    world.wait(1)
    assert list(world.out) == ["r/a"]


def test_everything_goes_on_after_a_death() -> None:
    world = World()
    world.apply(node("a"), node("b", *after("a")), node("c", "watermark(x) >= end"))
    world.run(interval_start_us=0, interval_end_us=50)
    world.again()
    assert len(world.take(Start)) == 2, "sent again, for nobody has answered"
    world.say(Hello("w", "default", 4, ()))
    world.end("r/a")
    world.again()
    world.say(Hello("w", "default", 4, ()))
    world.end("r/b")
    world.say(FactGiven("x", "watermark", 50))
    world.work()
    assert world.state.runs["r"].state == "done"


def test_a_task_that_waits_in_its_worker_does_not_run_out_of_its_time() -> None:
    world = World()
    world.apply(node("a", timeout="3s"))
    world.run()
    for _ in range(60):
        world.say(Beat("w", (world.out["r/a"].task,)))
        world.wait(1_000_000)
    row = world.state.nodes["r"]["a"]
    assert (row.state, row.worker, row.attempt, row.started_us) == ("starting", "w", 1, None)
    world.start("r/a")
    assert world.status() == {"a": "running"}


def test_a_task_that_two_workers_have_is_taken_from_both_and_only_one_end_counts() -> None:
    world = World()
    world.apply(node("a"), node("b", *after("a")))
    world.run()
    twice = world.out["r/a"].task
    world.start("r/a")
    world.say(Beat("other", (twice,)))
    assert [kill.task for kill in world.take(Kill)] == [twice]
    world.say(Ended("other", twice, "done"))
    assert world.take(Acknowledged) == [Acknowledged(twice, False, "other")]
    second = world.out["r/a"].task
    assert second.epoch > twice.epoch
    world.end("r/a")
    world.say(Ended("other", second, "done"))
    assert world.take(Acknowledged) == [Acknowledged(second, True, "w"), Acknowledged(second, False, "other")]


def test_a_worker_that_was_not_heard_of_for_its_lease_has_its_slots_again_when_it_beats() -> None:
    world = World(slots=7)
    world.wait(60_000_000)
    assert world.state.capacity() == 0
    world.say(Beat("w", ()))
    assert world.state.workers["w"].slots == 7
