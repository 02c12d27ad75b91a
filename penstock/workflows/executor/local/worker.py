"""The worker: takes tasks from the hub and gives each a process that a warm template has forked.

One thread, one loop. Tasks go on while there is no scheduler; their ends are kept and told to the next one. They end
with the worker, and when no scheduler was reached for their lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from penstock.components.code import CodeIdentity
from penstock.errors import WorkflowError, nearest
from penstock.workflows.executor.local.ends import Ends
from penstock.workflows.executor.local.folders import Folders
from penstock.workflows.executor.local.orders import Finished, FromTask, Job, Moved, Ready
from penstock.workflows.executor.local.process import adopt_orphans
from penstock.workflows.executor.local.processes import TaskProcess, TemplateProcess
from penstock.workflows.line import Line
from penstock.workflows.messages import (
    Acknowledged,
    Assignment,
    Beat,
    Ended,
    Hello,
    Kill,
    Progress,
    Start,
    Started,
    TaskRef,
    Welcome,
)
from penstock.workflows.wire import Message

__all__ = ["Worker"]

Outcome = Literal["done", "failed", "killed", "timed_out", "lost"]

BEAT_S: Final = 1.0
RETELL_S: Final = 5.0
_REMEMBERED: Final = 100_000
_IDLE_S: Final = 30.0
_GRACE_US: Final = 5_000_000
_TEMPLATE_STARTS: Final = 5
_LOOK_S: Final = 0.25


@dataclass
class _Held:
    """A task that this worker has, until its end is on disk."""

    assignment: Assignment
    process: TaskProcess | None = None
    job: Job | None = None
    started_s: float = 0.0
    ending: Outcome | None = None
    reason: str = ""
    certain_s: float | None = None
    finished: Finished | None = None

    @property
    def ref(self) -> TaskRef:
        return self.assignment.task


class Worker:
    """Runs tasks of one project.

    Args:
        project: its folder; state is below its `.penstock`.
        name: its own, for as long as it lives, and again when it is started anew.
        slots: tasks that run together at most.
        group: of workers, to which nodes may be bound.
    """

    def __init__(self, project: Path, name: str, *, slots: int, group: str = "default") -> None:
        self._project, self._name, self._slots, self._group = project.resolve(), name, slots, group
        self._folders = Folders(self._project / ".penstock")
        self._folders.run.mkdir(parents=True, exist_ok=True)
        self._lock = _only_one(self._folders.run / f"worker-{name}.lock")
        self._ends = Ends(self._folders.run / f"worker-{name}.ends")
        self._line = Line(self._folders.run, "worker", name)
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, Callable[[], object]] = {}
        self._held: dict[TaskRef, _Held] = {}
        self._waiting: deque[_Held] = deque()
        self._told: OrderedDict[TaskRef, None] = OrderedDict()
        self._out: list[Message] = []
        self._new_ends: list[Ended] = []
        self._templates: dict[tuple[str, ...], TemplateProcess] = {}
        self._assigned: dict[TemplateProcess, deque[_Held]] = {}
        self._old: list[TemplateProcess] = []
        self._failed_starts = 0
        self._identity = CodeIdentity(self._project)
        self._code, self._looked_s = self._identity.now(), time.monotonic()
        self._line_fd = -1
        self._heard_s = self._beat_s = self._retold_s = time.monotonic()
        self._ended = False

    # -- the loop

    def run(self) -> None:
        """Serves until it is told to end (SIGTERM, SIGINT)."""
        adopt_orphans()
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_end)
        shutil.rmtree(self._folders.work / self._name, ignore_errors=True)
        (self._folders.work / self._name).mkdir(parents=True)
        self._watch(woken.fileno(), lambda: woken.recv(4096))
        self._template(())
        try:
            while not self._ended:
                self._listen()
                for key, _ in self._selector.select(self._pause_s()):
                    if (call := self._watched.get(key.fd)) is not None:
                        call()
                self._pass()
        finally:
            self._close()

    def _asked_to_end(self, *_: object) -> None:
        self._ended = True

    def _pass(self) -> None:
        """What follows from all that came in one look."""
        self._look_at_clocks()
        self._dispatch()
        if self._new_ends:
            self._ends.add(self._new_ends)  # on disk before anybody is told
            self._out += self._new_ends
            self._new_ends = []
        if self._out:
            self._line.send(self._out)
            self._out = []
            self._listen()

    def _pause_s(self) -> float:
        """Seconds until a clock of ours is due."""
        pause = BEAT_S / 2 if self._line.is_open else min(BEAT_S / 2, self._line.due_s() + 0.005)
        now_s = time.monotonic()
        for held in self._held.values():
            if held.process is None:
                continue
            if held.certain_s is not None:
                pause = min(pause, held.certain_s - now_s)
            elif held.assignment.timeout_us is not None:
                pause = min(pause, held.started_s + held.assignment.timeout_us / 1e6 - now_s)
        return max(0.0, pause)

    def _watch(self, fd: int, call: Callable[[], object] | None) -> None:
        if call is None:
            self._watched.pop(fd, None)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(fd)
        else:
            self._watched[fd] = call
            self._selector.register(fd, selectors.EVENT_READ)

    def _listen(self) -> None:
        """Keeps the line open, and watches what it is waiting for."""
        if not self._line.is_open:
            if self._line_fd >= 0:
                self._watch(self._line_fd, None)
                self._line_fd = -1
            if self._line.open():
                self._hello()
        if self._line.is_open:
            if self._line_fd != self._line.fileno():
                self._line_fd = self._line.fileno()
                self._watch(self._line_fd, self._hear)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._line.wants_write else 0)
            if self._selector.get_key(self._line_fd).events != events:
                self._selector.modify(self._line_fd, events)

    def _hello(self) -> None:
        holds = tuple(self._held) + tuple(end.task for end in self._ends)
        self._line.send([Hello(self._name, self._group, self._slots, holds), *self._ends])
        self._retold_s = self._beat_s = time.monotonic()

    def _hear(self) -> None:
        self._line.flush()
        for message in self._line.receive():
            match message:
                case Start(assignment):
                    self._start(assignment)
                case Kill():
                    self._kill(message)
                case Acknowledged():
                    self._acknowledged(message)
                case Welcome():
                    self._heard_s = time.monotonic()
                    for task in message.forget:
                        self._kill(Kill(task, "it is no longer this worker's", 0))
        if not self._line.is_open and self._line_fd >= 0:
            self._watch(self._line_fd, None)
            self._line_fd = -1

    # -- what the scheduler says

    def _start(self, assignment: Assignment) -> None:
        task = assignment.task
        if (end := self._ends.get(task)) is not None:
            self._out.append(end)
        elif (held := self._held.get(task)) is not None:
            if held.process is not None:
                self._out.append(Started(self._name, task, held.process.pid))
        elif task not in self._told:
            for older in self._held.values():
                if older.ref.node_run == task.node_run and older.ref.epoch < task.epoch:
                    self._end(older, "killed", "a newer epoch of it was given", 0)
            held = self._held[task] = _Held(assignment)
            self._waiting.append(held)

    def _kill(self, order: Kill) -> None:
        if (end := self._ends.get(order.task)) is not None:
            self._out.append(end)
        elif (held := self._held.get(order.task)) is not None:
            self._end(held, "killed", order.reason, order.grace_us)
        elif order.task not in self._told:
            error = "this worker does not have it"
            self._out.append(Ended(self._name, order.task, "lost", error=error))

    def _acknowledged(self, message: Acknowledged) -> None:
        if self._ends.get(message.task) is None:
            return
        try:
            self._folders.publish(message.task, message.accepted)
        except OSError as error:  # told again, and so tried again
            print(f"{message.task} cannot be published: {error}", file=sys.stderr)  # noqa: T201  a process' log
            return
        self._ends.drop([message])
        self._told[message.task] = None
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)

    # -- tasks

    def _dispatch(self) -> None:
        """Gives waiting tasks a process, as slots allow."""
        if not self._waiting:
            return
        self._look_at_code(self._waiting[0].assignment.code)
        base = self._template(())
        if base.ready is None:
            return
        busy = sum(1 for held in self._held.values() if held.job is not None)
        while self._waiting and busy < self._slots:
            held = self._waiting.popleft()
            if held.ref not in self._held or held.ending is not None:
                continue
            try:
                template = self._template(self._wanted(held.assignment, base.ready))
                held.job = self._job(held)
            except (WorkflowError, OSError) as error:
                self._over(held, "failed", str(error))
                continue
            busy += 1
            self._assigned[template].append(held)
            self._feed(template)

    def _look_at_code(self, wanted: str) -> None:
        """Makes new templates when the project's code is another than theirs; looked at again after a while only."""
        now_s = time.monotonic()
        if wanted in ("", self._code) and now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        found = self._identity.now()
        if found != self._code:
            self._code = found
            for template in self._templates.values():
                self._retire(template)
            self._templates.clear()

    def _wanted(self, given: Assignment, ready: Ready) -> tuple[str, ...]:
        """The modules that a task's component wants loaded.

        Raises:
            WorkflowError: the project's code is another than the run's, or the component is not there.
        """
        if given.code and given.code != self._code:
            raise WorkflowError(
                f"code {given.code} of the project, which the run was frozen with",
                found=self._code,
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
        return known.preload

    def _job(self, held: _Held) -> Job:
        given, folders = held.assignment, self._folders
        log = folders.log(given.run, given.node, given.task.attempt)
        log.parent.mkdir(parents=True, exist_ok=True)
        alone = any(given.isolation.get(key) for key in ("fresh", "memory_mb", "cpu_s", "requirements"))
        return Job(
            assignment=given,
            log=str(log),
            work="",
            alone=alone,
            staged=str(folders.staged(given.task)),
            target=str(folders.outputs_of(given).relative_to(folders.state)),
        )

    def _feed(self, template: TemplateProcess) -> None:
        """Hands assigned tasks to idle processes, and asks for as many as are missing."""
        assigned = self._assigned[template]
        while assigned and template.ready is not None:
            held = assigned[0]
            assert held.job is not None
            process = _idle(template, held.job.alone)
            if process is None:
                break
            assigned.popleft()
            if held.ref in self._held:
                self._begin(held, process)
        if template.ready is not None:
            for _ in range(len(assigned) - template.forking):
                template.fork()

    def _begin(self, held: _Held, process: TaskProcess) -> None:
        assert held.job is not None
        work = str(self._folders.work / self._name / str(process.pid))
        process.held = held.ref
        held.process, held.started_s = process, time.monotonic()
        process.start(msgspec.structs.replace(held.job, work=work))  # a dead one is told by its template
        self._out.append(Started(self._name, held.ref, process.pid))

    def _heard_task(self, process: TaskProcess, message: FromTask) -> None:
        held = None if process.held is None else self._held.get(process.held)
        if held is None:
            return
        if isinstance(message, Moved):
            self._out.append(Progress(held.ref, message.done, message.total, message.note))
            return
        held.finished = message
        if message.again and held.ending is None:
            process.held = None
            process.idle_since_s = time.monotonic()
            process.template.idle.append(process)
            self._finish(held, message)
            if process.template.retired:
                self._retire(process.template)
            else:
                self._feed(process.template)

    def _forked(self, process: TaskProcess, error: str) -> None:
        """A process is there, or cannot be had."""
        template = process.template
        if process.pid:
            template.idle.append(process)
        elif template.ready is not None and (assigned := self._assigned.get(template)):
            held = assigned.popleft()
            if held.ref in self._held:
                self._over(held, "lost", f"no process could be made: {error}")
        self._feed(template)

    def _died(self, process: TaskProcess, status: int) -> None:
        """A process has ended, with all that it had started."""
        held = None if process.held is None else self._held.get(process.held)
        if held is None:
            return
        shutil.rmtree(self._folders.work / self._name / str(process.pid), ignore_errors=True)
        if held.finished is not None and held.ending is None:
            self._finish(held, held.finished)
        elif held.ending is not None:
            self._over(held, held.ending, held.reason)
        elif process.template.is_over:
            self._over(held, "lost", "the template of its process has ended")
        else:
            self._over(held, "failed", _words(status, held.assignment))
        if process.template.retired:
            self._retire(process.template)

    def _finish(self, held: _Held, finished: Finished) -> None:
        self._new_ends.append(
            Ended(self._name, held.ref, finished.outcome, finished.outputs, finished.facts, finished.error)
        )
        self._held.pop(held.ref, None)

    def _over(self, held: _Held, outcome: Outcome, error: str) -> None:
        """The end of a task that did not come to its own end."""
        with contextlib.suppress(OSError), Path(self._log(held)).open("a") as log:
            log.write(f"penstock: {outcome}: {error}\n")
        self._new_ends.append(Ended(self._name, held.ref, outcome, error=error))
        self._held.pop(held.ref, None)

    def _log(self, held: _Held) -> Path:
        given = held.assignment
        log = self._folders.log(given.run, given.node, given.task.attempt)
        log.parent.mkdir(parents=True, exist_ok=True)
        return log

    def _end(self, held: _Held, outcome: Outcome, reason: str, grace_us: int) -> None:
        """Ends a task: kindly, and after a while for certain."""
        if held.process is None:
            self._over(held, outcome, reason)
            return
        certain_s = time.monotonic() + grace_us / 1e6
        if held.ending is None:
            held.ending, held.reason, held.certain_s = outcome, reason, certain_s
            if grace_us > 0:
                held.process.signal(signal.SIGTERM)
        held.certain_s = min(certain_s, held.certain_s or certain_s)
        if grace_us <= 0:
            held.process.end()

    def _look_at_clocks(self) -> None:
        now_s = time.monotonic()
        silent_us = (now_s - self._heard_s) * 1e6
        for held in list(self._held.values()):
            given = held.assignment
            if held.certain_s is not None:
                if now_s >= held.certain_s and held.process is not None:
                    held.process.end()
                    held.certain_s = now_s + 1.0  # again, should it have slipped away
            elif held.process is not None and now_s - held.started_s >= (given.timeout_us or 1 << 60) / 1e6:
                self._end(held, "timed_out", f"it ran longer than {(given.timeout_us or 0) / 1e6:g} s", _GRACE_US)
            if held.ending is None and silent_us > given.lease_us:
                self._end(held, "lost", "no scheduler was reached for the lease", 0)
        if now_s - self._beat_s >= BEAT_S:
            self._beat_s = now_s
            self._out.append(Beat(self._name, tuple(self._held)))
            self._close_idle(now_s)
        if now_s - self._retold_s >= RETELL_S:
            self._retold_s = now_s
            self._out += self._ends

    # -- templates

    def _template(self, modules: tuple[str, ...]) -> TemplateProcess:
        """The template that has these modules; made when it is first wanted."""
        template = self._templates.get(modules)
        if template is None:
            template = TemplateProcess(
                sys.executable, self._project, modules, self._folders.run / f"worker-{self._name}.log", self._watch,
                told=self._heard_task, forked=self._forked, died=self._died,
                ready=self._ready, ended=self._template_over,
            )  # fmt: skip
            self._templates[modules] = template
            self._assigned[template] = deque()
        return template

    def _ready(self, template: TemplateProcess) -> None:
        self._failed_starts = 0
        self._feed(template)

    def _template_over(self, template: TemplateProcess) -> None:
        """A template has ended by itself: what it was to fork is given to its successor."""
        left = self._assigned.pop(template, deque())
        if self._templates.get(template.modules) is template:
            del self._templates[template.modules]
        if template.ready is None:
            self._failed_starts += 1
        for held in reversed(left):
            if held.ref in self._held:
                held.job = None
                if template.ready is None and self._failed_starts >= _TEMPLATE_STARTS:
                    self._over(held, "failed", f"its template does not start; see worker-{self._name}.log")
                else:
                    self._waiting.appendleft(held)

    def _retire(self, template: TemplateProcess) -> None:
        """Lets a template end its work; what was not begun is begun by another."""
        template.retired = True
        for process in template.idle:
            process.close()
        template.idle.clear()
        for held in reversed(self._assigned.pop(template, deque())):
            held.job = None
            self._waiting.appendleft(held)
        if not any(p.held is not None for p in template.processes.values()):
            template.close()
            self._old.append(template)

    def _close_idle(self, now_s: float) -> None:
        """Lets go of processes that nobody needed for a while, but one."""
        for template in self._templates.values():
            for process in template.idle[1:]:
                if now_s - process.idle_since_s > _IDLE_S:
                    template.idle.remove(process)
                    process.close()
        for old in self._old[:]:
            if old.has_ended:
                self._old.remove(old)

    def _close(self) -> None:
        for template in [*self._templates.values(), *self._old]:
            template.close()
        for template in [*self._templates.values(), *self._old]:
            template.wait(5.0)
        self._line.close()
        self._ends.close()
        self._selector.close()
        os.close(self._lock)


def _idle(template: TemplateProcess, alone: bool) -> TaskProcess | None:
    """The idle process used last; for a task that wants to be alone, one that has served nobody."""
    for i in range(len(template.idle) - 1, -1, -1):
        if not alone or template.idle[i].served == 0:
            return template.idle.pop(i)
    return None


def _words(status: int, given: Assignment) -> str:
    """Why a process ended by itself."""
    if status == -signal.SIGXCPU:
        return f"it used more than {given.isolation.get('cpu_s')} s of processor time"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process ended by itself, with code {status}"


def _only_one(file: Path) -> int:
    """Holds a lock for as long as we live.

    Raises:
        WorkflowError: another worker of that name lives.
    """
    lock = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise WorkflowError("one worker of a name", found=f"another holds {file}", remedy="end it first") from None
    return lock
