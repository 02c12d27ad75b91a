"""Tasks of a worker: which wait, which run, in which processes, and how they end."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from penstock.errors import WorkflowError, nearest
from penstock.workflows.executor.local.folders import Folders
from penstock.workflows.executor.local.orders import Finished, FromTask, Job, Moved, Ready
from penstock.workflows.executor.local.pool import Pool
from penstock.workflows.executor.local.processes import TaskProcess, Watcher
from penstock.workflows.messages import Assignment, Ended, Kill, Progress, Started, TaskRef
from penstock.workflows.wire import Message

__all__ = ["Tasks"]

Outcome = Literal["done", "failed", "killed", "timed_out", "lost"]

LONGEST_LEASE_US: Final = 1 << 60
_GRACE_US: Final = 5_000_000
_ALONE: Final = ("fresh", "memory_mb", "cpu_s", "requirements")


@dataclass(eq=False)
class _Held:
    """A task that this worker has, until its end is known."""

    assignment: Assignment
    job: Job | None = None
    """Set when it has a slot."""
    process: TaskProcess | None = None
    due_s: float | None = None
    """When it has run for too long; or, when it is to end, when it is ended for certain."""
    ending: Outcome | None = None
    reason: str = ""
    finished: Finished | None = None


class Tasks:
    """Holds tasks and gives them processes.

    Args:
        project: its folder.
        folders: where tasks keep things.
        name: of the worker.
        slots: tasks that run together at most.
        watch: the worker's loop.
        tell: sends a message.
        ended: takes the end of a task.
    """

    def __init__(
        self,
        project: Path,
        folders: Folders,
        name: str,
        *,
        slots: int,
        watch: Watcher,
        tell: Callable[[Message], None],
        ended: Callable[[Ended], None],
    ) -> None:
        self._folders, self._name, self._slots = folders, name, slots
        self._work = folders.work / name
        self._tell, self._tell_end = tell, ended
        self._held: dict[TaskRef, _Held] = {}
        self._of_node_run: dict[str, TaskRef] = {}
        self._waiting: deque[_Held] = deque()
        self._placed: dict[TaskRef, _Held] = {}
        self.shortest_lease_us = LONGEST_LEASE_US
        """Of the tasks that are here; a shorter one of a task that was may count on."""
        self._pool = Pool(
            project, folders, name, watch,
            told=self._heard, given=self._begin, died=self._died, refused=self._refused, lost=self._wait_again,
        )  # fmt: skip

    def open(self) -> None:
        """Makes the first template; what a former worker left in the working folders goes."""
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        self._pool.open()

    def close(self) -> None:
        """Ends all tasks, without a word."""
        self._pool.close()

    def held(self) -> tuple[TaskRef, ...]:
        """The tasks that wait or run."""
        return tuple(self._held)

    def start(self, assignment: Assignment) -> None:
        """Takes a task in; one that is here already is answered by what is known of it."""
        task = assignment.task
        if (held := self._held.get(task)) is not None:
            if held.process is not None:
                self._tell(Started(self._name, task, held.process.pid))
            return
        older = self._of_node_run.get(task.node_run)
        if older is not None and older.epoch < task.epoch and older in self._held:
            self._end(self._held[older], "killed", "it was given out anew", 0)
        held = self._held[task] = _Held(assignment)
        self._of_node_run[task.node_run] = task
        self.shortest_lease_us = min(self.shortest_lease_us, assignment.lease_us)
        self._waiting.append(held)

    def kill(self, order: Kill) -> bool:
        """Ends a task; False when it is not here."""
        held = self._held.get(order.task)
        if held is not None:
            self._end(held, "killed", order.reason, order.grace_us)
        return held is not None

    def look(self, now_s: float, silent_s: float) -> None:
        """Does what is due, and gives waiting tasks a process; `silent_s` since the scheduler was heard."""
        for held in list(self._placed.values()):
            if held.due_s is not None and now_s >= held.due_s:
                self._overdue(held, now_s)
        if not self._held:
            self.shortest_lease_us = LONGEST_LEASE_US
        elif silent_s * 1e6 > self.shortest_lease_us:
            for held in list(self._held.values()):
                if held.ending is None and silent_s * 1e6 > held.assignment.lease_us:
                    self._end(held, "lost", "no scheduler was reached for the lease", 0)
        self._pool.look(now_s)
        if self._waiting and len(self._placed) < self._slots:
            self._place()

    def pause_s(self) -> float:
        """Seconds until something is due."""
        due_s = [held.due_s for held in self._placed.values() if held.due_s is not None]
        return min(due_s) - time.monotonic() if due_s else 3600.0

    # from waiting to running

    def _place(self) -> None:
        """Gives waiting tasks a slot each."""
        if self._waiting[0].assignment.task not in self._held:
            self._waiting.popleft()
            return
        ready = self._pool.ready(self._waiting[0].assignment.code)
        while ready is not None and self._waiting and len(self._placed) < self._slots:
            held = self._waiting.popleft()
            given = held.assignment
            if given.task not in self._held:
                continue
            try:
                modules = self._preload(given, ready)
                held.job = self._job(given)
            except (WorkflowError, OSError) as error:
                self._over(held, "failed", str(error))
                continue
            self._placed[given.task] = held
            self._pool.ask(given.task, modules, tuple(given.isolation.get("requirements") or ()), held.job.alone)

    def _preload(self, given: Assignment, ready: Ready) -> tuple[str, ...]:
        """The modules that a task and its component want loaded.

        Raises:
            WorkflowError: the project's code is another than the run's, or the component is not there.
        """
        if given.code and given.code != self._pool.code:
            raise WorkflowError(
                f"code {given.code} of the project, which the run was frozen with",
                found=self._pool.code,
                remedy="rerun with the newest, or restore the files",
            )
        known = ready.components.get(given.component)
        if known is None:
            broken = ready.broken.get(given.component)
            raise WorkflowError(
                f"a batch component {given.component!r}",
                found=broken or "none of that name",
                remedy="mend it" if broken else nearest(given.component, ready.components),
            )
        return tuple(dict.fromkeys([*known.preload, *(given.isolation.get("preload") or ())]))

    def _job(self, given: Assignment) -> Job:
        alone = any(given.isolation.get(key) for key in _ALONE)
        folders = self._folders
        return Job(given, self._log(given), "", alone, str(folders.staged(given.task)), folders.target(given))

    def _log(self, given: Assignment) -> str:
        return str(self._folders.log(given.run, given.node, given.task.attempt))

    def _begin(self, task: TaskRef, process: TaskProcess) -> bool:
        """A process is there for a task; False when it is not wanted any more."""
        held = self._placed.get(task)
        if held is None or held.job is None or held.process is not None:
            return False
        held.process, process.task = process, task
        if held.assignment.timeout_us is not None:
            held.due_s = time.monotonic() + held.assignment.timeout_us / 1e6
        process.start(msgspec.structs.replace(held.job, work=f"{self._work}/{process.pid}"))
        self._tell(Started(self._name, task, process.pid))
        return True

    def _refused(self, task: TaskRef, outcome: Outcome, error: str) -> None:
        """There is no process to be had for a task."""
        if (held := self._held.get(task)) is not None:
            self._over(held, outcome, error)

    def _wait_again(self, task: TaskRef) -> None:
        """A task that had a slot needs another process."""
        if (held := self._placed.pop(task, None)) is not None:
            held.job = None
            self._waiting.appendleft(held)

    # ends

    def _heard(self, process: TaskProcess, message: FromTask) -> None:
        held = None if process.task is None else self._held.get(process.task)
        if held is None:
            return
        task = held.assignment.task
        if isinstance(message, Moved):
            self._tell(Progress(task, message.done, message.total, message.note))
            return
        held.finished = message
        if message.again and held.ending is None:
            process.task = None
            self._finish(held, message)
            self._pool.give_back(process)

    def _died(self, process: TaskProcess, status: int) -> None:
        """A process has ended, with all that it had started."""
        held = None if process.task is None else self._held.get(process.task)
        shutil.rmtree(f"{self._work}/{process.pid}", ignore_errors=True)
        if held is None:
            return
        if held.ending is not None:
            self._over(held, held.ending, held.reason)
        elif held.finished is not None:
            self._finish(held, held.finished)
        elif process.template.is_over:
            self._over(held, "lost", "the template of its process has ended")
        else:
            self._over(held, "failed", _words(status, held.assignment))

    def _finish(self, held: _Held, finished: Finished) -> None:
        """The end that a task has told itself."""
        task = held.assignment.task
        outputs, facts = finished.outputs, finished.facts
        self._forget(task)
        self._tell_end(Ended(self._name, task, finished.outcome, outputs, facts, finished.error))

    def _over(self, held: _Held, outcome: Outcome, error: str) -> None:
        """The end of a task that did not come to its own."""
        task = held.assignment.task
        log = Path(self._log(held.assignment))
        with contextlib.suppress(OSError):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as out:
                out.write(f"penstock: {outcome}: {error}\n")
        self._forget(task)
        self._tell_end(Ended(self._name, task, outcome, error=error))

    def _forget(self, task: TaskRef) -> None:
        self._held.pop(task, None)
        self._placed.pop(task, None)
        if self._of_node_run.get(task.node_run) == task:
            del self._of_node_run[task.node_run]

    def _end(self, held: _Held, outcome: Outcome, reason: str, grace_us: int) -> None:
        """Ends a task: kindly, and after the grace for certain."""
        if held.process is None:
            self._over(held, outcome, reason)
            return
        certain_s = time.monotonic() + grace_us / 1e6
        if held.ending is None:
            held.ending, held.reason, held.due_s = outcome, reason, certain_s
            if grace_us > 0:
                held.process.signal(signal.SIGTERM)
        held.due_s = min(certain_s, held.due_s or certain_s)
        if grace_us <= 0:
            held.process.end()

    def _overdue(self, held: _Held, now_s: float) -> None:
        timeout_us = held.assignment.timeout_us
        if held.ending is None:
            assert timeout_us is not None
            self._end(held, "timed_out", f"it ran longer than {timeout_us / 1e6:g} s", _GRACE_US)
        elif held.process is not None:
            held.process.end()
            held.due_s = now_s + 1.0  # again, should it have slipped away


def _words(status: int, given: Assignment) -> str:
    """Why a process ended by itself."""
    if status == -signal.SIGXCPU:
        return f"it used more than {given.isolation.get('cpu_s')} s of processor time"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process ended by itself, with code {status}"
