"""What the scheduler asks of whoever keeps streams running.

1. `want` states the whole of what is wanted of a job. It is said again after a restart, and may come doubled: the
   supervisor compares it with what runs. A process of an older `generation` must drain and give way to a new one.
2. The supervisor chooses the epoch of a process and has it on record (`LeaseRow`) before the process starts; what a
   process of an older epoch says is not passed on.
3. A `Command` is asked once per number, until `CommandDone` comes back; one that a newer process need not hear
   (a reload, asked before it started) is answered as done.
4. Nothing here ends a stream because the scheduler went away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from penstock.workflows.messages import Command, CommandDone, Report, Watch

__all__ = ["FromSupervisor", "Observed", "Supervisor", "Wanted"]


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """What is wanted of a stream job."""

    job: str
    workflow: str
    version: int
    node: str
    component: str
    component_version: str
    parameters: dict[str, Any]
    inputs: dict[str, str]
    code: str
    desired: Literal["running", "stopped"]
    held: bool
    """A gate is shut: the process pauses where it is, and is not ended for it."""
    generation: int


class Observed(msgspec.Struct, frozen=True, tag="observed"):
    """What a stream job is seen to do. `epoch` fences: what comes with an older one changes nothing."""

    job: str
    epoch: int
    state: Literal["starting", "running", "paused", "stopping", "stopped", "waiting", "broken"]
    """`waiting`: it has crashed and is started again after a pause; `broken`: its restart budget is spent."""
    generation: int
    error: str = ""


FromSupervisor = Observed | Report | CommandDone


class Supervisor(Protocol):
    """Keeps stream processes as they are wanted. Called from one thread; tells by `listen`'s callback from any."""

    def listen(self, receive: Callable[[FromSupervisor], None]) -> None:
        """Sets who is told."""
        ...

    def want(self, wanted: list[Wanted]) -> None:
        """States what is wanted of these jobs; returns at once."""
        ...

    def command(self, commands: list[Command]) -> None:
        """Asks something of the running processes, once per number."""
        ...

    def watch(self, watches: list[Watch]) -> None:
        """Passes on which values somebody waits for; each replaces the former of its job."""
        ...

    def close(self) -> None:
        """Lets go; the processes go on."""
        ...
