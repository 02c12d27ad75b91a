"""Workers, and the side of them that lives with the scheduler."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from penstock.workflows.executor.interface import FromExecutor
from penstock.workflows.messages import (
    Acknowledged,
    Assignment,
    Beat,
    Ended,
    FactValue,
    Hello,
    Kill,
    Start,
    Started,
    TaskRef,
    Welcome,
)

if TYPE_CHECKING:
    from penstock.testing.simulator.world import World

__all__ = ["Crash", "SimExecutor", "SimWorker"]

BEAT_US: Final = 700_000


class Crash(BaseException):
    """The server dies here."""


class SimExecutor:
    """The scheduler's side of the workers, as `executor/interface.py` says. It dies with the scheduler.

    In some worlds a task that is sent again reaches the same worker, also from a scheduler that comes later; in others,
    where tasks wander, it goes to any, and kills are told to all.
    """

    def __init__(self, world: World) -> None:
        self._world, self._life = world, world.life
        self._receive: Callable[[FromExecutor], None] | None = None
        self._known: set[str] = set()
        """Workers that have said who they are: a line begins with that, so only a late word can come before."""

    def listen(self, receive: Callable[[FromExecutor], None]) -> None:
        """Sets who is told."""
        self._receive = receive

    def slots(self) -> int:
        """How many tasks may run together."""
        return sum(worker.slots for worker in self._world.workers.values())

    def _places(self, task: TaskRef) -> list[SimWorker]:
        names = sorted(self._world.workers)
        if not self._world.plan.wander:
            names = [names[zlib.crc32(f"{task.node_run}#{task.attempt}".encode()) % len(names)]]
        return [self._world.workers[name] for name in names]

    def start(self, assignments: list[Assignment]) -> None:
        """Sends tasks out."""
        for order in assignments:
            self._world.may_die("sending")
            self._world.net.to_worker(self._world.rng.choice(self._places(order.task)), Start(order))

    def kill(self, order: Kill) -> None:
        """Ends a task."""
        self._world.may_die("sending")
        for worker in self._places(order.task):
            self._world.net.to_worker(worker, order)

    def acknowledge(self, acknowledgements: list[Acknowledged]) -> None:
        """Tells that ends are on record."""
        for one in acknowledgements:
            self._world.may_die("sending")
            self._world.net.to_worker(self._world.workers[one.worker], one)

    def running(self) -> tuple[TaskRef, ...]:
        """Not asked here."""
        return ()

    def close(self) -> None:
        """Lets go."""
        self._receive = None

    def heard(self, message: FromExecutor) -> None:
        """A worker's message has arrived."""
        if isinstance(message, Hello):
            self._known.add(message.worker)
        if isinstance(message, Hello | Beat) and message.worker in self._known:
            worker = self._world.workers[message.worker]
            self._world.net.to_worker(worker, Welcome(worker.name, self._world.settings.lease_us))
        if self._receive is not None:
            self._receive(message)
            self._world.wake()


class SimWorker:
    """A worker process that dies and comes back; ends outlive it, as on a disk."""

    def __init__(self, world: World, name: str, slots: int) -> None:
        self._world, self.name, self.slots = world, name, slots
        self.alive, self.life = False, 0
        self.tasks: dict[TaskRef, Assignment] = {}
        self._running: dict[TaskRef, None] = {}
        self.ends: dict[TaskRef, Ended] = {}
        self._over: set[TaskRef] = set()
        self._heard_us = 0
        self._server = -1
        """The life of the scheduler that has taken it in."""

    def start(self) -> None:
        """It begins, holding nothing but the ends that were not acknowledged."""
        self.alive, self.life = True, self.life + 1
        self.tasks, self._running, self._over = {}, {}, set()
        self._heard_us, self._server = self._world.now_us, -1
        self._beat(self.life)

    def die(self) -> None:
        """It is gone, with all its tasks."""
        self.alive = False
        self.tasks, self._running = {}, {}

    def greet(self) -> None:
        """Its line is a new one: it says who it is."""
        self._server = -1
        if self.alive:
            self._tell(Hello(self.name, "default", self.slots, (*self.tasks, *self.ends)))
            self._retell()

    def _tell(self, message: FromExecutor) -> None:
        self._world.net.to_server(self, message)

    def _retell(self) -> None:
        for end in self.ends.values():
            self._tell(end)

    def _beat(self, life: int) -> None:
        if not self.alive or life != self.life:
            return
        if self._world.now_us - self._heard_us > self._world.settings.lease_us:
            for task in list(self.tasks):
                self._end(task, "lost", "no scheduler was reached for the lease")
            self._heard_us = self._world.now_us
        if self._server == self._world.life:
            self._tell(Beat(self.name, tuple(self.tasks)))
            self._retell()
        else:
            self.greet()
        self._world.after(BEAT_US, self._beat, life)

    def take(self, message: Start | Kill | Acknowledged | Welcome, server: int) -> None:
        """Something has arrived."""
        self._heard_us = self._world.now_us
        match message:
            case Start(order):
                self._start(order)
            case Kill(task):
                if task in self.ends:
                    self._tell(self.ends[task])
                elif task in self.tasks:
                    self._world.after(self._world.some(50_000), self._killed, task, self.life)
                elif task not in self._over:
                    self._tell(Ended(self.name, task, "lost", error="this worker does not have it"))
            case Acknowledged(task, accepted):
                if self.ends.pop(task, None) is not None:
                    self._over.add(task)
                    if accepted:
                        self._world.ledger.publish(task, self.name)
            case Welcome():
                self._server = server

    def _start(self, order: Assignment) -> None:
        task = order.task
        if task in self.ends:
            self._tell(self.ends[task])
        elif task in self._running:
            self._tell(Started(self.name, task, 1))
        elif task not in self.tasks and task not in self._over:
            self.tasks[task] = order
            self._world.ledger.held.add((task, self.name))
            self._fill()

    def _fill(self) -> None:
        for task in list(self.tasks):
            if len(self._running) >= self.slots:
                return
            if task not in self._running:
                self._running[task] = None
                self._tell(Started(self.name, task, 1))
                took_us, outcome = self._world.fate(self.tasks[task])
                self._world.after(took_us, self._ended, task, outcome, self.life)

    def _ended(self, task: TaskRef, outcome: str, life: int) -> None:
        if self.alive and life == self.life and task in self._running:
            self._end(task, outcome, "" if outcome == "done" else f"it {outcome}")

    def _killed(self, task: TaskRef, life: int) -> None:
        if self.alive and life == self.life and task in self.tasks:
            self._end(task, "killed", "killed")

    def _end(self, task: TaskRef, outcome: Any, error: str) -> None:
        order = self.tasks.pop(task)
        self._running.pop(task, None)
        facts = (FactValue("", "snapshot", self._world.count()),) if outcome == "done" else ()
        end = Ended(self.name, task, outcome, {"of": order.node} if outcome == "done" else {}, facts, error)
        self.ends[task] = end
        self._world.ledger.end(end)
        self._tell(end)
        self._fill()
