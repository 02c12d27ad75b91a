"""Stream processes, and the production reconciler that keeps them as they are wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock.store.meta.rows import LeaseRow, RowChange
from penstock.testing.simulator.actors import Crash
from penstock.workflows.messages import (
    Attach,
    Command,
    CommandDone,
    Detached,
    FactValue,
    Granted,
    Refused,
    Report,
    Watch,
)
from penstock.workflows.supervisor.interface import FromSupervisor, Wanted
from penstock.workflows.supervisor.reconcile import Act, Budget, End, Found, Launch, Reconciler, Record, Send, Tell

if TYPE_CHECKING:
    from penstock.testing.simulator.world import World

__all__ = ["SimStream", "SimSupervisor"]

REPORT_US: Final = 600_000
_PREFIX: Final = "stream/"


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
                        self._world.net.to_process(process, message)
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
                self._world.net.line_gone(self)
            self.line, self.lines, self.granted = self._world.life if self._world.is_up else 0, self.lines + 1, False
            self._world.net.from_process(self, Attach(self.job, self.epoch, 1))
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
                self._world.net.from_process(self, CommandDone(self.job, self.epoch, number))

    def _report(self, line: int) -> None:
        if not self.alive or not self.granted or line != self.lines:
            return
        self._position += 1
        told = () if self.paused else self._world.progress(self.job)
        facts = tuple(FactValue("", kind, value, position=self._position) for kind, value in told)
        self._world.net.from_process(self, Report(self.job, self.epoch, facts))
        self._world.after(REPORT_US, self._report, line)
