from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.store.meta.rows import ConsumptionRow, CoverageRow, IntervalRow, NodeRow, Row, RunRow, key_of
from penstock.workflows.core.lookup import lookup_in_run, scope_of
from penstock.workflows.core.moves import ENDED_NODE, ENDED_RUN, OUT
from penstock.workflows.core.requests import FactGiven, KillRun, Pause, Rerun, Resume, SetPool, SignalGiven, Tick
from penstock.workflows.core.turn import Turn
from penstock.workflows.messages import Beat, Ended, FactValue, Hello, Report, Started
from penstock.workflows.supervisor.interface import Observed
from tests.workflows.core.world import World, after, node

OVERLAPS = ("parallel", "queue", "priority", "skip_new", "replace_running", "keep_newest")
CONSUMES = ({"how": "each"}, {"how": "coalesce"}, {"how": "latest"}, {"how": "window", "count": 2, "deadline": "5s"})


def settled_world(overlap: str, limit: int, consume: dict[str, Any], failure: str) -> World:
    world = World(slots=3)
    world.apply(
        node("a", retry={"times": 1, "wait": "1s"}),
        node("b", *after("a"), pool="db"),
        node("c", 'quality(a) == "pass" and offset(s) >= 50'),
        node("d", 'status(b) == "failed" or approved(go)', on_failure="continue", deadline="20s"),
        node("e", *after("d"), "now >= watermark(s) + 1s"),
        node("s", kind="stream", edges=({"action": "reload", "when": 'status(a) == "done"'},
                                        {"action": "gate", "when": "not status(b) == \"running\""})),
        triggers=[{"name": "t", "on": "snapshot(items)", "consume": consume},
                  {"name": "up", "on": "offset(s) >= 30 and offset(s) < 60"}],
        overlap={"how": overlap, "limit": limit}, failure=failure, schedule={"cron": "* * * * *"},
    )  # fmt: skip
    world.say(SetPool("db", 1))
    return world


def act(world: World, action: int, pick: int) -> None:
    """One of everything that can happen, on something that is there."""
    tasks, runs = sorted(world.out), sorted(world.state.runs)
    task = tasks[pick % len(tasks)] if tasks else None
    run = runs[pick % len(runs)] if runs else "none"
    match action:
        case 0 | 1:
            world.run(f"r{pick}", priority=pick % 3)
        case 2 | 3 | 4 if task:
            verdict = ("pass", "fail")[pick % 2]
            world.end(task, facts=(FactValue("", "quality", verdict),))
        case 5 if task:
            world.end(task, ("failed", "lost", "timed_out")[pick % 3])
        case 6 if task:
            world.start(task)
        case 7:
            world.say(FactGiven("items", "snapshot", pick))
        case 8:
            world.say(
                Report(
                    "w.s",
                    pick % 3,
                    (
                        FactValue("", "offset", pick, position=pick),
                        FactValue("", "watermark", pick * 1_000_000, position=pick),
                    ),
                )
            )
        case 9:
            world.say(SignalGiven("go", "approved", run=run if pick % 2 else ""))
        case 10 if runs:
            world.say(KillRun(run))
        case 11:
            world.wait((0, 1_000_000, 3_000_000, 20_000_000)[pick % 4])
        case 12:
            world.again()
        case 13:
            world.say(Hello("w", "default", pick % 4, tuple(o.task for o in world.out.values())[: pick % 3]))
        case 14:
            world.say(Pause("w") if pick % 2 else Resume("w"))
        case 15 if task:
            world.say(Beat("w", (world.out[task].task,)))
        case 16 if task:
            old = world.out[task].task
            world.say(Ended("w", type(old)(old.node_run, old.attempt, old.epoch - 1), "done"))
            world.say(Started("x", type(old)(old.node_run, old.attempt, old.epoch + 1), 1))
        case 17:
            world.say(Observed("w.s", pick % 3, ("running", "waiting")[pick % 2], 1))
        case 18 if runs and world.state.runs[run].state in ENDED_RUN:
            world.say(Rerun(f"x{pick}", run, ("same", "newest")[pick % 2], only_failed=pick % 3 == 0))
        case _:
            world.say(Tick())


def check(world: World) -> None:
    state = world.state
    held = {key_of(row): row for row in state.rows()}
    kept = {key: row for key, row in world.tables.items() if not _left_behind(row)}
    assert held == kept, "the state is what the tables hold"
    limit = state.current("w").spec.overlap.limit
    assert all(len(going) <= limit for going in state.going.values()), "a cap is exceeded"
    assert state.out.get("db", 0) <= 1
    _indexes(world)
    for run, nodes in state.nodes.items():
        ended = all(row.state in ENDED_NODE for row in nodes.values())
        assert state.runs[run].state == "waiting" or ended == (state.runs[run].state in ENDED_RUN), run
        if state.runs[run].state == "running":
            _nothing_stranded(world, run)


def _left_behind(row: Row) -> bool:
    return isinstance(row, IntervalRow) or type(row).TABLE == "attempts" or (
        isinstance(row, ConsumptionRow) and row.state != "waiting"
    )  # fmt: skip


def _indexes(world: World) -> None:
    state = world.state
    out = [row for nodes in state.nodes.values() for row in nodes.values() if row.state in OUT]
    assert state.out_all == len(out) == sum(map(len, state.tasks.values())) == sum(state.out.values())
    for run, nodes in state.nodes.items():
        assert state.left[run] == sum(row.state not in ENDED_NODE for row in nodes.values())
    waiting = {run for runs in state.queued.values() for run in runs}
    assert waiting == {run for run, row in state.runs.items() if row.state == "waiting"}
    if waiting and state.workflows["w"].state == "active":
        assert len(state.going["w", ""]) == state.current("w").spec.overlap.limit, "a run waits though there is room"


def _nothing_stranded(world: World, run: str) -> None:
    """By brute force: no node waits whose edges are all true, and none is ready while there is room for it."""
    state = world.state
    scope, lookup = scope_of(state, run, world.now_us), lookup_in_run(state, run)
    for name, row in state.nodes[run].items():
        edges = state.plan(run).nodes[name].edges
        if row.state == "waiting":
            assert not all(edge.predicate.evaluate(lookup, scope) for edge in edges), name
        if row.state == "ready" and state.plan(run).nodes[name].spec.pool == "default":
            assert state.out_all >= state.capacity(), name


@given(
    st.sampled_from(OVERLAPS),
    st.integers(1, 2),
    st.sampled_from(CONSUMES),
    st.sampled_from(("finish", "stop")),
    st.lists(st.tuples(st.integers(0, 18), st.integers(0, 99)), min_size=10, max_size=80),
)
def test_the_state_is_what_the_tables_hold_and_nothing_strands(
    overlap: str, limit: int, consume: dict[str, Any], failure: str, actions: list[tuple[int, int]]
) -> None:
    world = settled_world(overlap, limit, consume, failure)
    for action, pick in actions:
        act(world, action, pick)
        world.say(Tick())
        check(world)
        before = dict(world.tables)
        world.again()
        assert world.tables == before, "a settled state has nothing to do when it is read again"
        _alive(world)
    _end_all(world)
    assert all(row.state in ENDED_RUN for row in world.tables.values() if isinstance(row, RunRow))
    done = [row for row in world.tables.values() if isinstance(row, NodeRow) and row.state == "done"]
    assert all(row.attempt >= 1 or row.origin for row in done)


def _alive(world: World) -> None:
    """After a death the worker comes again with all it holds; nothing is lost by that."""
    tasks = tuple(order.task for order in world.out.values())
    world.say(Hello("w", "default", 3, tasks))


def _end_all(world: World) -> None:
    """Lets the world come to rest: whatever happened, every run ends."""
    world.say(Resume("w"))
    world.apply(*(plan.spec for plan in world.state.current("w").nodes.values()))
    world.say(FactGiven("w.s", "offset", 100))
    world.say(FactGiven("w.s", "watermark", 1))
    for _ in range(400):
        world.say(SignalGiven("go", "approved"))
        world.say(Hello("w", "default", 3, tuple(order.task for order in world.out.values())))
        for task in list(world.out):
            if task in world.out:
                world.end(task)
        if all(row.state in ENDED_RUN for row in world.state.runs.values()):
            return
        world.wait(1_000_000)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=30))
def test_coverage_is_the_union_of_the_intervals(spans: list[tuple[int, int]]) -> None:
    world, done = World(), set[int]()
    for start, length in spans:
        turn = Turn(world.core, 1)
        turn.tell_interval("x", start, start + length, "UTC", "r")
        world.mirror(turn.changes)
        done.update(range(start, start + length))
        coverage = world.state.coverage["x"]
        ranges = coverage.ranges()
        assert {at for low, high in ranges for at in range(low, high)} == done
        assert all(high < low for (_, high), (low, _) in pairwise(ranges)), "they neither meet nor overlap"
        assert all(coverage.covers(at, at + 3) == (done >= {at, at + 1, at + 2}) for at in range(40))
        rows = {(row.start_us, row.end_us) for row in world.tables.values() if isinstance(row, CoverageRow)}
        assert rows == set(ranges)
