"""The worker: takes tasks from the hub and tells what becomes of them.

One thread, one loop. Tasks go on while there is no scheduler; their ends are kept and told to the next one. They end
with the worker, and when no scheduler was reached for their lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from penstock.errors import WorkflowError
from penstock.workflows.executor.local.ends import Ends
from penstock.workflows.executor.local.folders import Folders
from penstock.workflows.executor.local.process import adopt_orphans
from penstock.workflows.executor.local.tasks import Tasks
from penstock.workflows.line import Line
from penstock.workflows.messages import Acknowledged, Assignment, Beat, Ended, Hello, Kill, Start, TaskRef, Welcome
from penstock.workflows.wire import Message

__all__ = ["BEAT_S", "Worker"]

BEAT_S: Final = 1.0
_RETELL_S: Final = 5.0
_REMEMBERED: Final = 10_000
"""Acknowledged tasks of which a late second start is known for what it is."""


class Worker:
    """Runs tasks of one project.

    Args:
        project: its folder; state is below its `.penstock`.
        name: its own, for as long as it lives, and again when it is started anew.
        slots: tasks that run together at most.
        group: of workers, to which nodes may be bound.

    Raises:
        WorkflowError: another worker of that name lives.
    """

    def __init__(self, project: Path, name: str, *, slots: int, group: str = "default") -> None:
        self._name, self._slots, self._group = name, slots, group
        self._folders = Folders(project.resolve() / ".penstock")
        self._folders.run.mkdir(parents=True, exist_ok=True)
        self._lock = _only_one(self._folders.run / f"worker-{name}.lock")
        self._ends = Ends(self._folders.run / f"worker-{name}.ends")
        self._line = Line(self._folders.run, "worker", name)
        self._line_fd = -1
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, Callable[[], object]] = {}
        self._out: list[Message] = []
        self._new_ends: list[Ended] = []
        self._tasks = Tasks(
            project.resolve(), self._folders, name,
            slots=slots, watch=self._watch, tell=self._out.append, ended=self._new_ends.append,
        )  # fmt: skip
        self._acknowledged: OrderedDict[TaskRef, None] = OrderedDict()
        self._heard_s = self._beat_s = self._retold_s = time.monotonic()
        self._is_over = False

    def run(self) -> None:
        """Serves until it is told to end (SIGTERM, SIGINT)."""
        adopt_orphans()
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop
        self._watch(woken.fileno(), lambda: woken.recv(4096))
        try:
            self._tasks.open()
            while not self._is_over:
                self._listen()
                for key, _ in self._selector.select(self._pause_s()):
                    if (call := self._watched.get(key.fd)) is not None:
                        call()
                self._pass()
        finally:
            self._tasks.close()
            self._line.close()
            self._ends.close()
            self._selector.close()
            os.close(self._lock)

    def _end(self, *_: object) -> None:
        self._is_over = True

    def _pass(self) -> None:
        """What follows from all that came in one look."""
        now_s = time.monotonic()
        self._tasks.look(now_s, silent_s=now_s - self._heard_s)
        if self._new_ends:
            self._ends.add(self._new_ends)  # on disk before anybody is told
            self._out += self._new_ends
            self._new_ends.clear()
        if now_s - self._beat_s >= self._beat_every_s():
            self._beat_s = now_s
            self._out.append(Beat(self._name, self._tasks.held()))
        if now_s - self._retold_s >= _RETELL_S:
            self._retold_s = now_s
            self._out += self._ends
        if self._out:
            self._line.send(self._out)
            self._out.clear()

    def _pause_s(self) -> float:
        """Seconds until a clock of ours is due."""
        beat_s = self._beat_every_s() / 2
        pause_s = beat_s if self._line.is_open else min(beat_s, self._line.due_s() + 0.005)
        return max(0.0, min(pause_s, self._tasks.pause_s()))

    def _beat_every_s(self) -> float:
        """Often enough that a lease is renewed well before its end."""
        return min(BEAT_S, self._tasks.shortest_lease_us / 4e6)

    def _watch(self, fd: int, call: Callable[[], object] | None) -> None:
        if call is None:
            self._watched.pop(fd, None)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(fd)
        else:
            self._watched[fd] = call
            self._selector.register(fd, selectors.EVENT_READ)

    # the line

    def _listen(self) -> None:
        """Keeps the line open, and watches what it waits for."""
        if not self._line.is_open:
            if self._line_fd >= 0:
                self._watch(self._line_fd, None)
                self._line_fd = -1
            if self._line.open():
                holds = (*self._tasks.held(), *(end.task for end in self._ends))
                self._line.send([Hello(self._name, self._group, self._slots, holds), *self._ends])
                self._retold_s = self._beat_s = time.monotonic()
        if self._line.is_open:
            if self._line_fd < 0:
                self._line_fd = self._line.fileno()
                self._watch(self._line_fd, self._hear)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._line.wants_write else 0)
            if self._selector.get_key(self._line_fd).events != events:
                self._selector.modify(self._line_fd, events)

    def _hear(self) -> None:
        self._line.flush()
        acknowledged = []
        messages = self._line.receive()
        if messages:
            self._heard_s = time.monotonic()
        for message in messages:
            match message:
                case Start(assignment):
                    self._start(assignment)
                case Kill():
                    self._kill(message)
                case Acknowledged():
                    acknowledged.append(message)
                case Welcome():  # the answer to a hello and to every beat
                    for task in message.forget:
                        self._kill(Kill(task, "it is no longer this worker's", 0))
        self._forget(acknowledged)

    def _start(self, assignment: Assignment) -> None:
        """Starts a task, or answers with what is known of it."""
        if (end := self._ends.get(assignment.task)) is not None:
            self._out.append(end)
        elif assignment.task not in self._acknowledged:
            self._tasks.start(assignment)

    def _kill(self, order: Kill) -> None:
        if (end := self._ends.get(order.task)) is not None:
            self._out.append(end)
        elif not self._tasks.kill(order) and order.task not in self._acknowledged:
            self._out.append(Ended(self._name, order.task, "lost", error="this worker does not have it"))

    def _forget(self, acknowledged: list[Acknowledged]) -> None:
        """Makes accepted outputs visible, and keeps their ends no longer."""
        done = []
        for message in acknowledged:
            if self._ends.get(message.task) is None:
                continue
            try:
                self._folders.publish(message.task, message.accepted)
            except OSError as error:  # it is told again, and so tried again
                print(f"{message.task} cannot be published: {error}", file=sys.stderr)  # noqa: T201  a process' log
                continue
            done.append(message)
            self._acknowledged[message.task] = None
        if done:
            self._ends.drop(done)
        while len(self._acknowledged) > _REMEMBERED:
            self._acknowledged.popitem(last=False)


def _only_one(file: Path) -> int:
    """Holds a lock for as long as we live."""
    lock = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise WorkflowError("one worker of a name", found=f"another holds {file}", remedy="end it first") from None
    return lock
