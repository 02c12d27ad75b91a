"""What users and programs ask of the scheduler. Ids are given by the asker, so that a request may be sent again."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from penstock.workflows.messages import Beat, Ended, Hello, Progress, Started
from penstock.workflows.supervisor.interface import FromSupervisor

__all__ = [
    "Apply",
    "FactGiven",
    "KillRun",
    "Message",
    "Pause",
    "Request",
    "Rerun",
    "Resume",
    "Retire",
    "SetPool",
    "SetStream",
    "SignalGiven",
    "StartRun",
    "Tick",
]


class Apply(msgspec.Struct, frozen=True, tag="apply"):
    """Makes a workflow what `spec` says (checked JSON of a `WorkflowSpec`); the same fingerprint adds no version."""

    name: str
    spec: str
    fingerprint: str
    author: str
    reason: str
    code: str = ""
    components: dict[str, str] = {}
    """Version of each component by name."""
    expect: int | None = None
    """The version that the change was made from; None to take whatever is there."""


class Retire(msgspec.Struct, frozen=True, tag="retire"):
    """Takes a workflow out of service: nothing fires, its streams stop, what runs goes on to its end."""

    name: str
    author: str = ""
    reason: str = ""


class Pause(msgspec.Struct, frozen=True, tag="pause"):
    """Holds back new runs; what waits goes on waiting, what runs goes on running."""

    name: str


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """Ends a pause: what has waited is taken as its triggers say."""

    name: str


class StartRun(msgspec.Struct, frozen=True, tag="start_run"):
    """Asks for a run; the same id again gives the run that is there."""

    run: str
    workflow: str
    parameters: dict[str, Any] = {}
    interval_start_us: int | None = None
    interval_end_us: int | None = None
    priority: int | None = None
    author: str = ""
    reason: str = ""
    off: tuple[str, ...] = ()
    """Nodes switched off: they are skipped, and what comes after them goes on as if they were done."""


class KillRun(msgspec.Struct, frozen=True, tag="kill_run"):
    """Ends a run with all its tasks."""

    run: str
    author: str = ""
    reason: str = ""


class Rerun(msgspec.Struct, frozen=True, tag="rerun"):
    """Asks for a run of what `origin` was: the same definition and code, or the newest."""

    run: str
    origin: str
    how: Literal["same", "newest"] = "same"
    only_failed: bool = False
    """What is done is taken over; what failed, and what comes after it, runs again."""
    from_node: str = ""
    """This node and what comes after it run again; the rest is taken over."""
    author: str = ""
    reason: str = ""


class SignalGiven(msgspec.Struct, frozen=True, tag="signal_given"):
    """An outside signal, or an approval, for one run or for all; with an `id`, sent again it counts once."""

    name: str
    kind: Literal["signal", "approved"] = "signal"
    value: Any = True
    run: str = ""
    id: str = ""


class FactGiven(msgspec.Struct, frozen=True, tag="fact_given"):
    """Progress told by a program outside; one whose `position` is not larger than the last changes nothing."""

    subject: str
    kind: str
    value: Any
    scope: str = ""
    position: int | None = None


class SetPool(msgspec.Struct, frozen=True, tag="set_pool"):
    """How many tasks of a pool may be out together; None for as many as workers take."""

    name: str
    slots: int | None


class SetStream(msgspec.Struct, frozen=True, tag="set_stream"):
    """Starts, stops, restarts or reloads a stream by hand; its edges act again when they next come true."""

    job: str
    action: Literal["start", "stop", "restart", "reload"]


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """Time has passed: whatever is due is looked at, after the messages that came before."""


Request = (
    Apply | Retire | Pause | Resume | StartRun | KillRun | Rerun | SignalGiven | FactGiven | SetPool | SetStream | Tick
)
Message = Request | Hello | Beat | Started | Progress | Ended | FromSupervisor
