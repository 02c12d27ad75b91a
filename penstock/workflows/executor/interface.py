"""What the scheduler asks of a place where tasks run. The same contract holds on this machine and over a network.

1. `start` returns at once; the task runs in another process, in which no former task has left a trace. A second `start`
   of the same (node run, attempt) starts nothing and is answered with what is known.
2. The end of a task is told again and again until `acknowledge` is called for it, also to a scheduler that came later.
3. Outputs lie under (node run, attempt) and are seen by nobody until the end has been accepted:
   `acknowledge(accepted=True)` follows the commit; with False they are removed.
4. A worker that cannot reach the scheduler for the lease ends its tasks by itself, so that two never run for long; that
   they have no effect is held by the epoch.
5. `kill` ends the whole process group, kindly first. It is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from penstock.workflows.messages import Acknowledged, Assignment, Beat, Ended, Hello, Kill, Progress, Started, TaskRef

__all__ = ["Executor", "FromExecutor"]

FromExecutor = Hello | Beat | Started | Progress | Ended


class Executor(Protocol):
    """Starts and ends tasks. Safe to call from one thread; reports come by `listen`'s callback from any thread."""

    def listen(self, receive: Callable[[FromExecutor], None]) -> None:
        """Sets who is told; what was not yet acknowledged is told again."""
        ...

    def slots(self) -> int:
        """How many tasks may run together; 0 when no worker is here."""
        ...

    def start(self, assignments: list[Assignment]) -> None:
        """Starts tasks, in order, as slots allow; more than there are slots wait in the worker."""
        ...

    def kill(self, order: Kill) -> None:
        """Ends a task."""
        ...

    def acknowledge(self, acknowledgements: list[Acknowledged]) -> None:
        """The ends of these are on record."""
        ...

    def running(self) -> tuple[TaskRef, ...]:
        """The tasks believed to run, as last told."""
        ...

    def close(self) -> None:
        """Lets go of the workers; tasks go on, and a later scheduler finds them."""
        ...
