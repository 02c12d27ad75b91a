"""Messages between the scheduler and everything else. Any may be lost, late, doubled or out of order.

A task is named by (node run, attempt) and fenced by `epoch`: the scheduler raises the epoch when it gives a task up,
and what comes with an older one changes nothing. A stream process is named by its job and fenced in the same way.
Instants are UTC microseconds of the deployment's clock.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "Acknowledged",
    "Assignment",
    "Attach",
    "Beat",
    "Command",
    "CommandDone",
    "Detached",
    "Ended",
    "FactValue",
    "Granted",
    "Hello",
    "Kill",
    "Progress",
    "Refused",
    "Report",
    "Start",
    "Started",
    "TaskRef",
    "Watch",
    "Welcome",
]


class TaskRef(msgspec.Struct, frozen=True):
    """One attempt of a node of a run, and the epoch it was given."""

    node_run: str
    attempt: int
    epoch: int


class FactValue(msgspec.Struct, frozen=True):
    """Progress of a subject as its maker tells it. `position` orders the reports of one maker (larger is newer)."""

    subject: str
    kind: str
    value: Any
    scope: str = ""
    position: int = 0


class Assignment(msgspec.Struct, frozen=True):
    """A task, whole: what a worker needs without asking anybody."""

    task: TaskRef
    run: str
    workflow: str
    node: str
    component: str
    component_version: str
    parameters: dict[str, Any]
    inputs: dict[str, Any]
    interval_start_us: int | None
    interval_end_us: int | None
    idempotency_key: str
    code: str
    """Identity of the project's code the run was frozen with; a worker refuses another one."""
    timeout_us: int | None
    isolation: dict[str, Any]
    lease_us: int
    """The worker ends the task by itself when it has not reached the scheduler for so long."""


# scheduler -> worker


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """Takes a worker in; `forget` are tasks that it holds and must end, for they are no longer its own."""

    worker: str
    lease_us: int
    forget: tuple[TaskRef, ...] = ()


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Start a task. A worker that has it already, running or ended, answers with what it knows and starts nothing."""

    assignment: Assignment


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """End a task with all its processes: first kindly, after `grace_us` for certain."""

    task: TaskRef
    reason: str
    grace_us: int = 5_000_000


# worker -> scheduler


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A worker comes, for the first time or again, with what it still holds, running or ended but unacknowledged."""

    worker: str
    group: str
    slots: int
    running: tuple[TaskRef, ...]


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """A worker lives and runs these."""

    worker: str
    running: tuple[TaskRef, ...]


class Started(msgspec.Struct, frozen=True, tag="started"):
    """A task's process runs."""

    worker: str
    task: TaskRef
    pid: int


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a task is."""

    task: TaskRef
    done: float
    total: float | None = None
    note: str = ""


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A task has ended. Its outputs are staged; the scheduler's accepting this makes them visible, or never.

    Sent again until the scheduler acknowledges it (`Acknowledged`).
    """

    worker: str
    task: TaskRef
    outcome: Literal["done", "failed", "killed", "timed_out", "lost"]
    outputs: dict[str, Any] = {}
    facts: tuple[FactValue, ...] = ()
    error: str = ""


class Acknowledged(msgspec.Struct, frozen=True, tag="acknowledged"):
    """The end of a task is on record: `accepted`, or fenced off; its staged outputs may go."""

    task: TaskRef
    accepted: bool
    worker: str = ""
    """Whose end it is; another worker's of the same task is answered by itself. Empty: whoever has it."""


# stream process <-> supervisor


class Attach(msgspec.Struct, frozen=True, tag="attach"):
    """A stream process asks for the lease of its job before it reads anything, or comes back after a broken line."""

    job: str
    epoch: int
    pid: int


class Granted(msgspec.Struct, frozen=True, tag="granted"):
    """The lease is its own for `lease_us`, and again with every report."""

    job: str
    epoch: int
    lease_us: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Somebody newer holds the job: end at once, write nothing."""

    job: str
    epoch: int
    reason: str


class Watch(msgspec.Struct, frozen=True, tag="watch"):
    """The smallest values that somebody waits for, by (subject, kind): a crossing is reported at once."""

    job: str
    thresholds: tuple[tuple[str, str, float | int], ...]


class Command(msgspec.Struct, frozen=True, tag="command"):
    """Something asked of a stream process, once per `number`."""

    job: str
    epoch: int
    number: int
    action: Literal["stop", "drain", "reload", "pause", "resume"]


class CommandDone(msgspec.Struct, frozen=True, tag="command_done"):
    """The command has taken effect."""

    job: str
    epoch: int
    number: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """Progress of a stream job; renews the lease, also when empty."""

    job: str
    epoch: int
    facts: tuple[FactValue, ...] = ()


class Detached(msgspec.Struct, frozen=True, tag="detached"):
    """A stream process has ended: `code` 0 when it was told to, else a crash."""

    job: str
    epoch: int
    code: int
    error: str = ""
