"""Who stands around the scheduler: workers, stream processes, and what carries their words."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock.store.meta.rows import LeaseRow, RowChange
from penstock.workflows.executor.interface import FromExecutor
from penstock.workflows.messages import (
    Acknowledged,
    Assignment,
    Attach,
    Beat,
    Command,
    CommandDone,
    Detached,
    Ended,
    FactValue,
    Granted,
    Hello,
    Kill,
    Refused,
    Report,
    Start,
    Started,
    TaskRef,
    Watch,
    Welcome,
)
from penstock.workflows.supervisor.interface import FromSupervisor, Wanted
from penstock.workflows.supervisor.reconcile import Act, Budget, End, Found, Launch, Reconciler, Record, Send, Tell

if TYPE_CHECKING:
    from penstock.testing.simulator.world import World

__all__ = ["Crash", "SimExecutor", "SimStream", "SimSupervisor", "SimWorker"]

BEAT_US: Final = 700_000
REPORT_US: Final = 600_000
_PREFIX: Final = "stream/"


class Crash(BaseException):
    """The server dies here."""


class SimExecutor:
    """The scheduler's side of the workers, as `executor/interface.py` says. It dies with the scheduler.

    A task goes to the same worker however often it is sent, also by a scheduler that comes later.
    """

    def __init__(self, world: World) -> None:
        self._world, self._life = world, world.life
        self._receive: Callable[[FromExecutor], None] | None = None

    def listen(self, receive: Callable[[FromExecutor], None]) -> None:
        """Sets who is told."""
        self._receive = receive

    def slots(self) -> int:
        """How many tasks may run together."""
        return sum(worker.slots for worker in self._world.workers.values())

    def _place(self, task: TaskRef) -> SimWorker:
        names = sorted(self._world.workers)
        return self._world.workers[names[zlib.crc32(f"{task.node_run}#{task.attempt}".encode()) % len(names)]]

    def start(self, assignments: list[Assignment]) -> None:
        """Sends tasks out."""
        for order in assignments:
            self._world.may_die("sending")
            self._world.to_worker(self._place(order.task), Start(order))

    def kill(self, order: Kill) -> None:
        """Ends a task."""
        self._world.may_die("sending")
        self._world.to_worker(self._place(order.task), order)

    def acknowledge(self, acknowledgements: list[Acknowledged]) -> None:
        """Tells that ends are on record."""
        for one in acknowledgements:
            self._world.may_die("sending")
            self._world.to_worker(self._place(one.task), one)

    def running(self) -> tuple[TaskRef, ...]:
        """Not asked here."""
        return ()

    def close(self) -> None:
        """Lets go."""
        self._receive = None

    def heard(self, message: FromExecutor) -> None:
        """A worker's message has arrived."""
        if isinstance(message, Hello | Beat):
            worker = self._world.workers[message.worker]
            self._world.to_worker(worker, Welcome(worker.name, self._world.settings.lease_us))
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
        self._world.to_server(self, message)

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


class SimSupervisor:
    """The production reconciler with leases in the store and simulated processes; it dies with the scheduler."""

    def __init__(self, world: World) -> None:
        self._world, self.life = world, world.life
        self._receive: Callable[[FromSupervisor], None] = lambda message: None
        rows = world.store.read(LeaseRow)
        self._leases = {row.name: row for row in rows}
        found = [self._found(row) for row in rows]
        self._reconciler = Reconciler(found, world.now_us, budget=_BUDGET, lease_us=world.settings.lease_us)
        self._timer = -1

    @staticmethod
    def _found(row: LeaseRow) -> Found:
        generation, crashes = msgspec.json.decode(row.details)
        return Found(row.name.removeprefix(_PREFIX), row.epoch, row.holder, generation, tuple(crashes))

    def start(self) -> None:
        """Looks for the processes on record."""
        for name, row in self._leases.items():
            process = self._world.processes.get((name.removeprefix(_PREFIX), row.epoch))
            if row.holder and (process is None or not process.alive):
                self.post(Detached(name.removeprefix(_PREFIX), row.epoch, 1, "it was gone"))
        self._arm()

    def listen(self, receive: Callable[[FromSupervisor], None]) -> None:
        """Sets who is told."""
        self._receive = receive

    def want(self, wanted: list[Wanted]) -> None:
        """States what is wanted."""
        self._put(wanted)

    def command(self, commands: list[Command]) -> None:
        """Asks something of processes."""
        self._put(commands)

    def watch(self, watches: list[Watch]) -> None:
        """Passes thresholds on."""
        self._put(watches)

    def close(self) -> None:
        """Lets go."""

    def _put(self, messages: list[Any]) -> None:
        for message in messages:
            self._world.may_die("sending")
            self._world.after(1, self.post, message)

    def post(self, message: Any) -> None:
        """Something has come in; it is decided on at once, if the server still lives."""
        if self._world.life != self.life:
            return
        try:
            self._act(self._decide(message))
        except Crash as crash:
            self._world.server_died(crash)
            return
        self._arm()

    def _decide(self, message: Any) -> list[Act]:
        one, now_us = self._reconciler, self._world.now_us
        match message:
            case Wanted():
                return one.want(message, now_us)
            case Command():
                return one.command(message, now_us)
            case Watch():
                return one.watch(message)
            case Attach():
                return one.attach(message, now_us)
            case Report():
                return one.report(message, now_us)
            case CommandDone():
                return one.command_done(message, now_us)
            case Detached():
                return one.ended(message, now_us)
            case ("gone", str(job), int(epoch)):
                return one.line_gone(job, epoch)
        return one.tick(now_us)

    def _arm(self) -> None:
        due = self._reconciler.due_us()
        if due is not None and due != self._timer:
            self._timer = due
            self._world.after(max(0, due - self._world.now_us), self.post, "tick")

    def _act(self, acts: list[Act]) -> None:
        waiting = deque(acts)
        while waiting:
            match waiting.popleft():
                case Record(job, epoch, generation, crashes):
                    self._record(job, epoch, "", (generation, crashes))
                case Launch(wanted, epoch):
                    self._world.may_die("launching")
                    self._world.launch(wanted, epoch)
                    details = msgspec.json.decode(self._leases[_PREFIX + wanted.job].details)
                    self._record(wanted.job, epoch, f"{wanted.job}#{epoch}", tuple(details))
                case Send(job, epoch, message):
                    process = self._world.processes.get((job, epoch))
                    if process is not None:
                        self._world.to_process(process, message)
                case End(job, epoch):
                    process = self._world.processes.get((job, epoch))
                    if process is not None and process.alive:
                        process.die(1, "it was ended")
                    else:
                        waiting.extend(self._decide(Detached(job, epoch, 1, "it was gone")))
                case Tell(message):
                    self._receive(message)
                    self._world.wake()

    def _record(self, job: str, epoch: int, holder: str, details: tuple[Any, ...]) -> None:
        name = _PREFIX + job
        before = self._leases.get(name)
        text = msgspec.json.encode(details).decode()
        after = LeaseRow(name, epoch, before.revision + 1 if before else 1, holder, 0, text)
        self._world.store.commit([RowChange(before, after)])
        self._leases[name] = after


_BUDGET: Final = Budget(
    crashes=6, within_us=60_000_000, wait_us=200_000, most_us=1_000_000, attach_us=4_000_000, silent_us=5_000_000,
    stop_us=2_000_000,
)  # fmt: skip


class SimStream:
    """A stream process: asks for its lease, tells how far it is, obeys; a line carries its words in order."""

    def __init__(self, world: World, wanted: Wanted, epoch: int, number: int) -> None:
        self._world, self.job, self.epoch, self.number = world, wanted.job, epoch, number
        self.alive, self.line, self.granted = True, 0, False
        """`line`: the life of the server that its line leads to; 0 for none."""
        self.paused = False
        self.reloaded: set[int] = set()
        self._position = 0
        self.lines = 0
        self._world.after(self._world.some(400_000), self._attach)

    def _attach(self) -> None:
        if not self.alive:
            return
        if self.line != self._world.life or not self.granted:
            if self.line and self.line == self._world.life:
                self._world.line_gone(self)
            self.line, self.lines, self.granted = self._world.life if self._world.is_up else 0, self.lines + 1, False
            self._world.from_process(self, Attach(self.job, self.epoch, 1))
            self._world.after(1_000_000, self._attach)

    def broken_line(self) -> None:
        """Its line breaks; it comes again."""
        self.line, self.granted = 0, False
        self._world.after(self._world.some(600_000), self._attach)

    def die(self, code: int, error: str = "") -> None:
        """It is gone; its launcher sees that."""
        if self.alive:
            self.alive = False
            self._world.after(
                self._world.some(30_000), self._world.detached, Detached(self.job, self.epoch, code, error)
            )

    def take(self, message: Granted | Refused | Watch | Command) -> None:
        """Something has arrived."""
        match message:
            case Granted():
                if not self.granted:
                    self.granted = True
                    self._world.after(self._world.some(REPORT_US), self._report, self.lines)
            case Refused():
                self.die(0)
            case Command(action="stop" | "drain"):
                self._world.after(self._world.some(300_000), self.die, 0)
            case Command(action="pause" | "resume" as action):
                self.paused = action == "pause"
            case Command(number=number):
                self.reloaded.add(number)
                self._world.from_process(self, CommandDone(self.job, self.epoch, number))

    def _report(self, line: int) -> None:
        if not self.alive or not self.granted or line != self.lines:
            return
        self._position += 1
        told = () if self.paused else self._world.progress(self.job)
        facts = tuple(FactValue("", kind, value, position=self._position) for kind, value in told)
        self._world.from_process(self, Report(self.job, self.epoch, facts))
        self._world.after(REPORT_US, self._report, line)
