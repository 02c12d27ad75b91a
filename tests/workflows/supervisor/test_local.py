"""Real stream processes: killed, hung, left behind by their supervisor, stopped, reloaded."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.clock import WallClock
from penstock.store.meta import Meta
from penstock.store.meta.rows import LeaseRow
from penstock.store.meta.rows_store import RowStore
from penstock.workflows.hub import Hub
from penstock.workflows.messages import Command, CommandDone, Report, Watch
from penstock.workflows.supervisor.interface import Observed, Wanted
from penstock.workflows.supervisor.local import LocalSupervisor
from penstock.workflows.supervisor.processes import is_alive
from penstock.workflows.supervisor.reconcile import Budget

COUNTER = """
import os
from pathlib import Path
from penstock.components.contract import Parameters, StreamComponent

class CounterParameters(Parameters):
    step: int = 1
    hang: bool = False

class Counter(StreamComponent):
    name = "counter"
    parameters = CounterParameters

    def run(self, context, parameters):
        file = context.folder / "count"
        with open(context.folder / "starts", "a") as starts:
            print(context.epoch, os.getpid(), file=starts)
        n, paused = int(file.read_text()) if file.exists() else 0, False
        while True:
            for command in context.commands():
                with open(context.folder / "commands", "a") as commands:
                    print(command, file=commands)
                if command in ("stop", "drain") and not parameters.hang:
                    return
                if command == "crash":
                    raise ValueError("asked to")
                paused = {"pause": True, "resume": False}.get(command, paused)
            if not paused:
                n += parameters.step
                file.with_suffix(".part").write_text(str(n))
                file.with_suffix(".part").replace(file)
                context.report("offset", n)
            if (context.folder / "crash").exists():
                (context.folder / "crash").unlink()
                raise ValueError("asked to crash")
            context.wait(2_000)
"""
JOB = "w.count"


class Plant:
    """A supervisor with its hub and store, which can be left and taken up again."""

    def __init__(self, project: Path) -> None:
        self.project, self.state = project, project / ".penstock"
        self.heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.all: list[Any] = []
        self.open()

    def open(self) -> None:
        self.is_closed = False
        self.state.mkdir(exist_ok=True)
        self.meta = Meta.open(self.state / "meta.db", clock=WallClock())
        self.rows = RowStore(self.meta.engine)
        self.hub = Hub(self.state / "run")
        budget = Budget(crashes=3, wait_us=20_000, stop_us=1_000_000)
        self.one = LocalSupervisor(self.project, self.state, self.rows, self.hub, budget=budget)
        self.one.listen(self.heard.put)
        self.one.start()
        self.hub.open()

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self.hub.close()
        self.one.close()
        self.rows.close()
        self.meta.close()

    def want(self, desired: Any = "running", generation: int = 1, *, held: bool = False, **parameters: Any) -> None:
        self.one.want([Wanted(JOB, "w", 1, "count", "counter", "1", parameters, {}, "", desired, held, generation)])

    def until(self, wanted: Callable[[Any], bool], timeout_s: float = 20.0) -> Any:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                message = self.heard.get(timeout=0.1)
            except queue.Empty:
                continue
            self.all.append(message)
            if wanted(message):
                return message
        raise AssertionError(f"not heard; last: {self.all[-5:]}, log: {self.log()}")

    def state_is(self, *states: str) -> Observed:
        found = self.until(lambda m: isinstance(m, Observed) and m.state in states)
        assert isinstance(found, Observed)
        return found

    def report(self) -> int:
        found = self.until(lambda m: isinstance(m, Report) and bool(m.facts))
        return int(found.facts[0].value)

    @property
    def folder(self) -> Path:
        return self.state / "streams" / JOB

    def log(self) -> str:
        return "".join(file.read_text() for file in sorted(self.folder.glob("*.log"))) if self.folder.exists() else ""

    def starts(self) -> list[tuple[int, int]]:
        lines = (self.folder / "starts").read_text().splitlines()
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def holder(self) -> str:
        return next(row.holder for row in self.rows.read(LeaseRow) if row.name == f"stream/{JOB}")


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "counter.py").write_text(COUNTER)
    made = Plant(tmp_path)
    try:
        yield made
    finally:
        made.close()
        for row in made.folder.glob("starts"):
            for _, pid in [tuple(map(int, line.split())) for line in row.read_text().splitlines()]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def test_a_stream_starts_reports_and_stops(plant: Plant) -> None:
    plant.want()
    plant.state_is("running")
    assert plant.report() > 0
    plant.want("stopped")
    plant.state_is("stopped")
    assert not is_alive(plant.holder())
    assert [epoch for epoch, _ in plant.starts()] == [1]


def test_a_killed_stream_goes_on_with_a_new_epoch_where_it_was(plant: Plant) -> None:
    plant.want()
    plant.state_is("running")
    reached = plant.report()
    os.kill(plant.starts()[0][1], signal.SIGKILL)
    assert plant.state_is("waiting").error == "it was ended by signal 9"
    assert plant.state_is("running").epoch == 2
    assert plant.report() > reached


def test_the_end_of_the_supervisor_does_not_touch_a_stream_and_the_next_adopts_it(plant: Plant) -> None:
    plant.want()
    plant.report()
    plant.close()
    before = int((plant.folder / "count").read_text())
    time.sleep(0.3)
    assert int((plant.folder / "count").read_text()) > before
    plant.open()
    plant.want()
    assert plant.state_is("running").epoch == 1
    assert plant.report() > before
    assert len(plant.starts()) == 1
    plant.want("stopped")
    plant.state_is("stopped")


def test_a_stream_that_died_while_nobody_looked_is_started_again(plant: Plant) -> None:
    plant.want()
    plant.report()
    plant.close()
    os.kill(plant.starts()[0][1], signal.SIGKILL)
    plant.open()
    plant.want()
    assert plant.state_is("running").epoch == 2


def test_a_crash_is_told_with_its_error_and_its_budget_ends(plant: Plant) -> None:
    plant.want()
    for _ in range(4):
        plant.state_is("running")
        (plant.folder / "crash").touch()
        found = plant.state_is("waiting", "broken")
        assert "asked to crash" in found.error
    assert found.state == "broken"
    assert "Traceback" in plant.log()
    plant.want(generation=2)
    plant.state_is("running")


def test_one_that_does_not_stop_is_ended_with_its_whole_session(plant: Plant) -> None:
    plant.want(hang=True)
    plant.state_is("running")
    plant.want("stopped", hang=True)
    plant.state_is("stopped")
    assert not is_alive(plant.holder())


def test_a_new_generation_gives_way_and_takes_new_parameters(plant: Plant) -> None:
    plant.want()
    plant.state_is("running")
    plant.want(generation=2, step=1000)
    assert plant.until(lambda m: isinstance(m, Observed) and m.generation == 2 and m.state == "running").epoch == 2
    assert plant.until(lambda m: isinstance(m, Report) and bool(m.facts) and m.facts[0].value > 1000)
    (first, one), (second, two) = plant.starts()
    assert (first, second) == (1, 2)
    assert not Path(f"/proc/{one}").exists()
    assert Path(f"/proc/{two}").exists()


def test_a_gate_pauses_without_ending_and_a_reload_is_done_once(plant: Plant) -> None:
    plant.want()
    plant.report()
    plant.want(held=True)
    plant.state_is("paused")
    time.sleep(0.1)
    held = int((plant.folder / "count").read_text())
    time.sleep(0.2)
    assert int((plant.folder / "count").read_text()) == held
    plant.want()
    plant.state_is("running")
    for _ in range(2):
        plant.one.command([Command(JOB, 1, 5, "reload")])
        plant.until(lambda m: isinstance(m, CommandDone) and m.number == 5)
    assert (plant.folder / "commands").read_text().split().count("reload") == 1
    assert len(plant.starts()) == 1


def test_a_threshold_is_told_at_once_and_not_with_the_next_second(plant: Plant) -> None:
    plant.want()
    plant.state_is("running")
    late = []
    for _ in range(5):
        at = plant.report() + 20
        plant.one.watch([Watch(JOB, ((JOB, "offset", at),))])
        while plant.report() < at:
            continue
        late.append(int((plant.folder / "count").read_text()) - at)
    # In a second it counts to some hundreds; told at once, it has come a few further at most.
    assert sorted(late)[2] < 100
