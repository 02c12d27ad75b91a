"""The reconciler in a world that loses lines, kills processes and starts the supervisor anew."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from penstock.workflows.messages import Attach, Command, CommandDone, Detached, FactValue, Granted, Refused, Report
from penstock.workflows.supervisor.interface import Observed, Wanted
from penstock.workflows.supervisor.reconcile import Act, Budget, End, Found, Launch, Reconciler, Record, Send, Tell

JOB = "w.live"


def wanted(desired: Any = "running", generation: int = 1, *, held: bool = False) -> Wanted:
    return Wanted(JOB, "w", 1, "live", "c", "1", {}, {}, "code", desired, held, generation)


@dataclass
class Process:
    epoch: int
    granted: bool = False
    line: bool = False
    told_to_stop: bool = False
    alive: bool = True
    paused: bool = False
    reloads: list[int] = field(default_factory=list)


@dataclass
class World:
    """Processes and a record that outlive a supervisor; messages to them arrive at once, if the line stands."""

    now: int = 1_000_000
    record: Found | None = None
    processes: list[Process] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    one: Reconciler = None  # type: ignore[assignment]

    def begin(self) -> None:
        self.one = Reconciler([self.record] if self.record else [], self.now, budget=Budget(crashes=3))

    def do(self, acts: list[Act]) -> None:
        for act in acts:
            match act:
                case Record(job, epoch, generation, crashes):
                    self.record = Found(job, epoch, "", generation, crashes)
                case Launch(_, epoch):
                    assert self.record is not None
                    assert self.record.epoch == epoch, "an epoch is on record before its process starts"
                    self.processes.append(Process(epoch))
                    self.record = Found(JOB, epoch, str(epoch), self.record.generation, self.record.crashes)
                case Send(_, epoch, message):
                    for process in self.processes:
                        if process.alive and process.epoch == epoch and (process.line or isinstance(message, Granted)):
                            self.take(process, message)
                case End(_, epoch):
                    self.kill(next(p for p in self.processes if p.epoch == epoch))
                case Tell(message):
                    self.told.append(message)

    def take(self, process: Process, message: Any) -> None:
        match message:
            case Granted():
                process.granted = process.line = True
            case Refused():
                process.alive = False
            case Command(action="stop"):
                process.told_to_stop = True
            case Command(action="pause" | "resume" as action):
                process.paused = action == "pause"
            case Command(action="reload", number=number):
                process.reloads.append(number)

    def attach(self, process: Process) -> None:
        process.line = True
        self.do(self.one.attach(Attach(JOB, process.epoch, 1), self.now))

    def kill(self, process: Process, code: int = 1) -> None:
        process.alive = process.line = False
        self.do(self.one.ended(Detached(JOB, process.epoch, code), self.now))

    def later(self, us: int) -> None:
        self.now += us
        self.do(self.one.tick(self.now))

    @property
    def state(self) -> str:
        return next(m.state for m in reversed(self.told) if isinstance(m, Observed))

    @property
    def listened_to(self) -> list[Process]:
        return [p for p in self.processes if p.alive and p.granted]


@pytest.fixture
def world() -> World:
    made = World()
    made.begin()
    made.do(made.one.want(wanted(), made.now))
    return made


def test_a_wanted_stream_is_started_once_and_runs_when_it_has_its_lease(world: World) -> None:
    world.do(world.one.want(wanted(), world.now))
    assert [p.epoch for p in world.processes] == [1]
    assert world.state == "starting"
    world.attach(world.processes[0])
    assert world.state == "running"


def test_a_crash_is_restarted_with_a_new_epoch_after_a_growing_pause_until_the_budget_is_spent(world: World) -> None:
    for n in range(3):
        world.attach(world.processes[-1])
        world.kill(world.processes[-1])
        assert world.state == "waiting"
        world.later(200_000 * 2**n - 1)
        assert len(world.processes) == n + 1
        world.later(1)
        assert world.processes[-1].epoch == n + 2
    world.kill(world.processes[-1])
    assert world.state == "broken"
    world.later(10**9)
    assert len(world.processes) == 4
    world.do(world.one.want(wanted(generation=2), world.now))
    assert world.state == "starting"


def test_crashes_long_ago_do_not_count(world: World) -> None:
    for _ in range(6):
        world.kill(world.processes[-1])
        world.later(200_000_000)
    assert world.state == "starting"


def test_stop_is_told_and_what_does_not_stop_is_ended(world: World) -> None:
    world.attach(world.processes[0])
    world.do(world.one.want(wanted("stopped"), world.now))
    assert world.processes[0].told_to_stop
    assert world.state == "stopping"
    world.later(30_000_000)
    assert not world.processes[0].alive
    assert world.state == "stopped"


def test_a_new_generation_waits_for_the_old_process_to_be_gone(world: World) -> None:
    old = world.processes[0]
    world.attach(old)
    world.do(world.one.want(wanted(generation=2), world.now))
    assert old.told_to_stop
    assert len(world.processes) == 1
    world.kill(old, code=0)
    assert [p.epoch for p in world.processes] == [1, 2]
    world.do(world.one.want(wanted(generation=1), world.now))
    assert not world.processes[1].told_to_stop


def test_a_new_supervisor_adopts_the_process_and_does_not_touch_it(world: World) -> None:
    world.attach(world.processes[0])
    world.begin()
    world.do(world.one.want(wanted(), world.now))
    assert len(world.processes) == 1
    world.attach(world.processes[0])
    world.later(5_000_000)
    assert [(p.epoch, p.alive, p.told_to_stop) for p in world.processes] == [(1, True, False)]
    assert world.state == "running"


def test_a_process_that_was_given_up_is_refused_when_it_comes(world: World) -> None:
    old = world.processes[0]
    world.do(world.one.ended(Detached(JOB, old.epoch, 1), world.now))
    world.later(200_000)
    world.attach(world.processes[1])
    world.attach(old)
    assert not old.alive
    assert world.listened_to == [world.processes[1]]


def test_a_silent_process_is_ended_and_one_that_reports_is_not(world: World) -> None:
    world.attach(world.processes[0])
    for _ in range(5):
        world.later(30_000_000)
        world.do(world.one.report(Report(JOB, 1), world.now))
    assert world.processes[0].alive
    world.later(60_000_000)
    assert not world.processes[0].alive


def test_a_gate_is_a_state_told_again_to_every_new_process(world: World) -> None:
    world.do(world.one.want(wanted(held=True), world.now))
    world.attach(world.processes[0])
    assert world.processes[0].paused
    assert world.state == "paused"
    world.do(world.one.want(wanted(), world.now))
    assert not world.processes[0].paused
    assert world.state == "running"


def test_a_command_is_asked_until_it_is_done_and_never_after(world: World) -> None:
    world.attach(world.processes[0])
    reload = Command(JOB, 1, 7, "reload")
    world.do(world.one.command(reload, world.now))
    world.attach(world.processes[0])
    assert world.processes[0].reloads == [7, 7]
    world.do(world.one.command_done(CommandDone(JOB, 1, 7), world.now))
    world.do(world.one.command(reload, world.now))
    assert world.processes[0].reloads == [7, 7]
    assert [m.number for m in world.told if isinstance(m, CommandDone)] == [7, 7]


def test_a_command_to_nobody_is_done_for_what_starts_later_is_new(world: World) -> None:
    world.kill(world.processes[0])
    world.do(world.one.command(Command(JOB, 1, 3, "reload"), world.now))
    assert [m.number for m in world.told if isinstance(m, CommandDone)] == [3]


def test_what_an_older_epoch_reports_is_not_passed_on(world: World) -> None:
    world.kill(world.processes[0])
    world.later(200_000)
    world.do(world.one.report(Report(JOB, 1, (FactValue(JOB, "rows", 5),)), world.now))
    world.do(world.one.report(Report(JOB, 2, (FactValue(JOB, "rows", 6),)), world.now))
    assert [m.epoch for m in world.told if isinstance(m, Report)] == [2]


@pytest.mark.parametrize("seed", range(200))
def test_in_any_world_one_process_at_most_is_listened_to_and_what_is_wanted_comes_true(seed: int) -> None:
    chance, world, generation, desired, number = random.Random(seed), World(), 1, "running", 0
    world.begin()
    world.do(world.one.want(wanted(), world.now))
    for _ in range(60):
        living = [p for p in world.processes if p.alive]
        match chance.randrange(9):
            case 0:
                generation += chance.random() < 0.5
                desired = chance.choice(["running", "stopped"])
                world.do(world.one.want(wanted(desired, generation), world.now))
            case 1 if living:
                world.attach(chance.choice(living))
            case 2 if living:
                world.kill(chance.choice(living))
            case 3 if living:
                process = chance.choice(living)
                process.line = False
                world.do(world.one.line_gone(JOB, process.epoch))
            case 4:
                world.begin()
                found = world.record
                if found and found.process and not any(p.alive and p.epoch == found.epoch for p in world.processes):
                    world.do(world.one.ended(Detached(JOB, found.epoch, 1), world.now))
                world.do(world.one.want(wanted(desired, generation), world.now))
            case 5:
                number += 1
                world.do(world.one.command(Command(JOB, 0, number, "reload"), world.now))
            case _:
                world.later(chance.choice([1, 200_000, 5_000_000, 40_000_000]))
        for process in world.processes:
            if process.told_to_stop and process.alive:
                world.kill(process, code=0)
        current = [p for p in world.listened_to if p.epoch == (world.record.epoch if world.record else 0)]
        assert len([p for p in world.processes if p.alive and p.granted]) == len(current) <= 1
    world.do(world.one.want(wanted("running", generation + 1), world.now))
    for _ in range(40):
        for process in [p for p in world.processes if p.alive]:
            world.kill(process, code=0) if process.told_to_stop else world.attach(process)
        world.later(30_000_000 if not world.listened_to else 1)
    assert world.state == "running"
