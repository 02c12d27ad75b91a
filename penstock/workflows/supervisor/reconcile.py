"""Desired state of streams against what runs: decisions alone, so that a simulated world can stand around them.

A process is named by (job, epoch). Its epoch is on record before it starts, and it reads nothing before the lease is
granted to it; so of two processes of one job only the newer is ever listened to, and the older is told to end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from penstock.workflows.messages import (
    Attach,
    Command,
    CommandDone,
    Detached,
    Granted,
    Refused,
    Report,
    Watch,
)
from penstock.workflows.supervisor.interface import Observed, Wanted

__all__ = ["Act", "Budget", "End", "Found", "Launch", "Reconciler", "Record", "Send", "Tell"]

Phase = Literal["idle", "starting", "running", "stopping", "waiting", "failed"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Patience with a stream process. All in microseconds but `crashes`.

    Attributes:
        crashes: as many within `within_us` are restarted; one more and the job is `broken` until somebody acts.
        wait_us, most_us: the first pause before a restart, doubled each time, and the longest.
        attach_us: a process that has not asked for its lease by then is ended.
        silent_us: a process that has not been heard of for so long is ended: it hangs.
        stop_us: a process that was told to stop and has not by then is ended for certain.
    """

    crashes: int = 5
    within_us: int = 600_000_000
    wait_us: int = 200_000
    most_us: int = 30_000_000
    attach_us: int = 30_000_000
    silent_us: int = 60_000_000
    stop_us: int = 30_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """What is on record of a job when a supervisor begins: its last epoch, and the process if one may live."""

    job: str
    epoch: int
    process: str
    """Identity of the process, as its launcher gave it; empty if none was started."""
    generation: int
    crashes: tuple[int, ...] = ()


# What a reconciler decides, in the order in which it must be done.


@dataclass(frozen=True, slots=True)
class Record:
    """Put (job, epoch) on record, before anything of that epoch starts; `process` is known after it has."""

    job: str
    epoch: int
    generation: int
    crashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a process."""

    wanted: Wanted
    epoch: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send to the process of a job, if its line stands."""

    job: str
    epoch: int
    message: Granted | Refused | Watch | Command


@dataclass(frozen=True, slots=True)
class End:
    """End a process with all that it started, for certain."""

    job: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the scheduler."""

    message: Observed | Report | CommandDone


Act: TypeAlias = Record | Launch | Send | End | Tell


@dataclass(slots=True)
class _Job:
    name: str
    epoch: int = 0
    generation: int = 0
    phase: Phase = "idle"
    wanted: Wanted | None = None
    alive: bool = False
    attached: bool = False
    held: bool = False
    since_us: int = 0
    heard_us: int = 0
    retry_us: int = 0
    crashes: tuple[int, ...] = ()
    error: str = ""
    commands: dict[int, Command] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    watch: Watch | None = None


class Reconciler:
    """Decides; the caller does what is returned, in order, and tells what happens.

    Args:
        found: what is on record. A process of it may live: it is waited for, and adopted when it attaches.
        lease_us: told to processes; how often they let themselves be heard follows from it.
    """

    def __init__(
        self, found: list[Found], now_us: int, *, budget: Budget | None = None, lease_us: int = 10_000_000
    ) -> None:
        self.budget, self._lease_us = budget or Budget(), lease_us
        self._jobs: dict[str, _Job] = {}
        for item in found:
            alive = bool(item.process)
            self._jobs[item.job] = _Job(
                item.job,
                item.epoch,
                item.generation,
                "starting" if alive else "idle",
                alive=alive,
                since_us=now_us,
                heard_us=now_us,
                crashes=item.crashes,
            )

    # what is wanted

    def want(self, wanted: Wanted, now_us: int) -> list[Act]:
        """A job is wanted so; an older generation than known changes nothing."""
        job = self._jobs.setdefault(wanted.job, _Job(wanted.job))
        if job.wanted is not None and wanted.generation < job.wanted.generation:
            return []
        anew = job.wanted is None or wanted.generation > job.wanted.generation or wanted.desired == "stopped"
        if anew:
            job.crashes = ()
            if job.phase in ("failed", "waiting"):
                job.phase = "idle"
        job.wanted = wanted
        return [*self._hold(job), *self._reconcile(job, now_us), *self._seen(job)]

    def command(self, command: Command, now_us: int) -> list[Act]:
        """Something is asked of a job, once per number."""
        job = self._jobs.setdefault(command.job, _Job(command.job))
        if command.number in job.done:
            return [Tell(CommandDone(job.name, job.epoch, command.number))]
        if not job.alive:  # whatever starts later starts with what is to be reloaded
            job.done.add(command.number)
            return [Tell(CommandDone(job.name, job.epoch, command.number))]
        job.commands[command.number] = command
        return list(self._commands(job)) if job.attached else []

    def watch(self, watch: Watch) -> list[Act]:
        """Somebody waits for these values of a job; it replaces what was said before."""
        job = self._jobs.setdefault(watch.job, _Job(watch.job))
        job.watch = watch
        return [Send(job.name, job.epoch, watch)] if job.attached else []

    # what happens

    def attach(self, attach: Attach, now_us: int) -> list[Act]:
        """A process asks for its lease, for the first time or after a broken line."""
        job = self._jobs.get(attach.job)
        if job is None or attach.epoch != job.epoch or not job.alive:
            newest = job.epoch if job else 0
            reason = f"epoch {newest} is the newest" if newest > attach.epoch else "this process was given up"
            return [Send(attach.job, attach.epoch, Refused(attach.job, attach.epoch, reason))]
        job.attached, job.heard_us = True, now_us
        acts: list[Act] = [Send(job.name, job.epoch, Granted(job.name, job.epoch, self._lease_us))]
        if job.watch is not None:
            acts.append(Send(job.name, job.epoch, job.watch))
        if job.phase == "starting":
            job.phase, job.held, job.error = "running", False, ""
        acts += [*self._hold(job, anew=True), *self._commands(job)]
        if job.phase == "stopping":
            acts.append(self._stop(job))
        return [*acts, *self._reconcile(job, now_us), *self._seen(job)]

    def report(self, report: Report, now_us: int) -> list[Act]:
        """A process tells progress, or just that it lives."""
        job = self._current(report.job, report.epoch)
        if job is None:
            return [Send(report.job, report.epoch, Refused(report.job, report.epoch, "a newer process holds the job"))]
        job.heard_us = now_us
        return [Tell(report)] if report.facts else []

    def command_done(self, done: CommandDone, now_us: int) -> list[Act]:
        """A process has done what was asked."""
        job = self._current(done.job, done.epoch)
        if job is None or done.number not in job.commands:
            return []
        job.heard_us = now_us
        del job.commands[done.number]
        job.done.add(done.number)
        return [Tell(done)]

    def line_gone(self, name: str, epoch: int) -> list[Act]:
        """The line to a process broke; the process may well live, and come again."""
        job = self._current(name, epoch)
        if job is not None:
            job.attached = False
        return []

    def ended(self, detached: Detached, now_us: int) -> list[Act]:
        """A process is dead: it said so, or its launcher saw it."""
        job = self._current(detached.job, detached.epoch)
        if job is None or not job.alive:
            return []
        job.alive = job.attached = False
        job.error = detached.error or ("it ended by itself" if detached.code == 0 else "")
        acts: list[Act] = []
        for number in sorted(job.commands):
            job.done.add(number)
            acts.append(Tell(CommandDone(job.name, job.epoch, number)))
        job.commands.clear()
        if job.phase == "stopping" or (detached.code == 0 and job.wanted and job.wanted.desired == "stopped"):
            job.phase, job.error = "idle", ""
        else:
            self._crashed(job, now_us)
        acts.append(Record(job.name, job.epoch, job.generation, job.crashes))
        return [*acts, *self._reconcile(job, now_us), *self._seen(job)]

    def tick(self, now_us: int) -> list[Act]:
        """Time has passed."""
        acts: list[Act] = []
        for job in self._jobs.values():
            due = self._due(job)
            if due is None or due > now_us:
                continue
            if job.phase == "waiting":
                job.phase = "idle"
                acts += [*self._reconcile(job, now_us), *self._seen(job)]
            elif job.alive:  # never attached, silent for too long, or does not stop
                job.error = f"{job.phase}, but silent for too long"
                job.since_us = job.heard_us = now_us
                acts.append(End(job.name, job.epoch))
        return acts

    def due_us(self) -> int | None:
        """The next instant at which `tick` has something to do."""
        return min((due for job in self._jobs.values() if (due := self._due(job)) is not None), default=None)

    def running(self) -> dict[str, int]:
        """Jobs whose process is believed to live, and its epoch."""
        return {job.name: job.epoch for job in self._jobs.values() if job.alive}

    # inside

    def _current(self, name: str, epoch: int) -> _Job | None:
        job = self._jobs.get(name)
        return job if job is not None and job.epoch == epoch else None

    def _due(self, job: _Job) -> int | None:
        match job.phase:
            case "waiting":
                return job.retry_us
            case "starting":
                return job.since_us + self.budget.attach_us
            case "running":
                return job.heard_us + self.budget.silent_us
            case "stopping":
                return job.since_us + self.budget.stop_us
        return None

    def _reconcile(self, job: _Job, now_us: int) -> Iterator[Act]:
        wanted = job.wanted
        if wanted is None:
            return
        if job.alive:
            old = job.generation < wanted.generation
            if (wanted.desired == "stopped" or old) and job.phase in ("starting", "running"):
                job.phase, job.since_us = "stopping", now_us
                if job.attached:
                    yield self._stop(job)
        elif job.phase == "idle" and wanted.desired == "running":
            job.epoch += 1
            job.generation = wanted.generation
            job.phase, job.alive, job.attached = "starting", True, False
            job.since_us = job.heard_us = now_us
            yield Record(job.name, job.epoch, job.generation, job.crashes)
            yield Launch(wanted, job.epoch)

    def _stop(self, job: _Job) -> Act:
        return Send(job.name, job.epoch, Command(job.name, job.epoch, 0, "stop"))

    def _hold(self, job: _Job, *, anew: bool = False) -> Iterator[Act]:
        """Says whether a gate is shut; the process takes it as a state, so that it may be said twice."""
        if job.wanted is None or not job.attached or (job.held == job.wanted.held and not anew):
            return
        job.held = job.wanted.held
        yield Send(job.name, job.epoch, Command(job.name, job.epoch, 0, "pause" if job.held else "resume"))

    def _commands(self, job: _Job) -> Iterator[Act]:
        for number in sorted(job.commands):
            command = job.commands[number]
            yield Send(job.name, job.epoch, Command(job.name, job.epoch, number, command.action))

    def _crashed(self, job: _Job, now_us: int) -> None:
        budget = self.budget
        job.crashes = (*(at for at in job.crashes if at > now_us - budget.within_us), now_us)
        if len(job.crashes) > budget.crashes:
            job.phase = "failed"
            return
        job.phase = "waiting"
        job.retry_us = now_us + min(budget.wait_us * 2 ** (len(job.crashes) - 1), budget.most_us)

    def _seen(self, job: _Job) -> Iterator[Act]:
        if job.phase == "idle":
            state: str = "stopped"
        elif job.phase == "running":
            state = "paused" if job.held else "running"
        else:
            state = "broken" if job.phase == "failed" else job.phase
        yield Tell(Observed(job.name, job.epoch, state, job.generation, job.error))  # type: ignore[arg-type]
