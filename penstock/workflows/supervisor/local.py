"""The supervisor of streams on this machine: a thread around the reconciler, processes, leases and the hub."""

from __future__ import annotations

import os
import queue
import selectors
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.clock import Clock, WallClock
from penstock.store.meta.rows import LeaseRow, RowChange
from penstock.store.meta.rows_store import RowStore
from penstock.workflows.hub import Hub, Peer
from penstock.workflows.messages import Attach, Command, CommandDone, Detached, Report, Watch
from penstock.workflows.supervisor import processes
from penstock.workflows.supervisor.interface import FromSupervisor, Wanted
from penstock.workflows.supervisor.reconcile import (
    Act,
    Budget,
    End,
    Found,
    Launch,
    Reconciler,
    Record,
    Send,
    Tell,
)

__all__ = ["LocalSupervisor"]

_PREFIX: Final = "stream/"


class _Details(msgspec.Struct, frozen=True):
    generation: int
    crashes: tuple[int, ...]


class _LineGone(msgspec.Struct, frozen=True):
    job: str
    epoch: int


class LocalSupervisor:
    """Keeps stream processes as they are wanted; see `interface.Supervisor`.

    Its clock is the machine's, whatever the deployment replays: patience with processes is real time.

    Args:
        project: the folder of definitions, which processes work in.
        state: the project's `.penstock`.
        store: holds the leases.
        hub: where processes attach.
    """

    def __init__(self, project: Path, state: Path, store: RowStore, hub: Hub, *, budget: Budget | None = None) -> None:
        self._project, self._state, self._store, self._hub = project, state, store, hub
        self._clock: Clock = WallClock()
        self._receive: Callable[[FromSupervisor], None] = lambda message: None
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._watched: dict[tuple[str, int], int] = {}
        self._children: dict[tuple[str, int], int] = {}
        self._last_words: dict[tuple[str, int], Detached] = {}
        self._closing = False
        self._leases = {row.name: row for row in store.read(LeaseRow) if row.name.startswith(_PREFIX)}
        self._reconciler = Reconciler([self._found(row) for row in self._leases.values()], self._now(), budget=budget)
        for kind in (Attach, Report, CommandDone, Detached):
            hub.route(kind, self._heard)
        hub.notice(gone=self._line_gone)
        self._thread = threading.Thread(target=self._run, name="penstock-supervisor", daemon=True)

    def start(self) -> None:
        """Looks for the processes on record and begins; call after `listen`."""
        for name, row in self._leases.items():
            if row.holder:
                self._watch(name.removeprefix(_PREFIX), row.epoch, row.holder)
        self._thread.start()

    def listen(self, receive: Callable[[FromSupervisor], None]) -> None:
        """Sets who is told."""
        self._receive = receive

    def want(self, wanted: list[Wanted]) -> None:
        """States what is wanted of these jobs; returns at once."""
        self._put(*wanted)

    def command(self, commands: list[Command]) -> None:
        """Asks something of the running processes, once per number."""
        self._put(*commands)

    def watch(self, watches: list[Watch]) -> None:
        """Passes on which values somebody waits for."""
        self._put(*watches)

    def close(self) -> None:
        """Lets go, after the hub was closed; the processes go on."""
        self._closing = True
        self._put()
        if self._thread.is_alive():
            self._thread.join()
        self._selector.close()
        for fd in (self._wake_in, self._wake_out, *self._watched.values()):
            os.close(fd)

    # from other threads

    def _put(self, *messages: Any) -> None:
        for message in messages:
            self._inbox.put(message)
        try:
            os.write(self._wake_out, b"x")
        except BlockingIOError:  # full: it is awake already
            return

    def _heard(self, peer: Peer, message: Any) -> None:
        self._put(message)

    def _line_gone(self, peer: Peer) -> None:
        if peer.role == "stream":
            job, _, epoch = peer.name.rpartition("#")
            self._put(_LineGone(job, int(epoch) if epoch.isdigit() else 0))

    # the thread

    def _run(self) -> None:
        while not self._closing:
            due = self._reconciler.due_us()
            timeout_s = None if due is None else max(0.0, (due - self._now()) / 1e6)
            for key, _ in self._selector.select(timeout_s):
                if key.fd == self._wake_in:
                    os.read(self._wake_in, 4096)
                else:
                    self._act(self._died(*key.data))
            while not self._inbox.empty():
                self._act(self._decide(self._inbox.get()))
            self._act(self._reconciler.tick(self._now()))

    def _decide(self, message: Any) -> list[Act]:
        now_us = self._now()
        match message:
            case Wanted():
                return self._reconciler.want(message, now_us)
            case Command():
                return self._reconciler.command(message, now_us)
            case Watch():
                return self._reconciler.watch(message)
            case Attach():
                return self._reconciler.attach(message, now_us)
            case Report():
                return self._reconciler.report(message, now_us)
            case CommandDone():
                return self._reconciler.command_done(message, now_us)
            case _LineGone(job, epoch):
                return self._reconciler.line_gone(job, epoch)
            case Detached():
                # It says how it ends; that it has ended is known when its process is gone.
                self._last_words[message.job, message.epoch] = message
        return []

    def _act(self, acts: list[Act]) -> None:
        waiting = deque(acts)
        while waiting:
            match waiting.popleft():
                case Record() as record:
                    self._record(record)
                case Launch(wanted, epoch):
                    waiting.extend(self._launch(wanted, epoch))
                case Send(job, epoch, message):
                    peer = self._hub.peer("stream", f"{job}#{epoch}")
                    if peer is not None:
                        peer.send([message])
                case End(job, epoch):
                    row = self._leases[_PREFIX + job]
                    if row.epoch == epoch and row.holder:
                        processes.end_session(row.holder)
                    if (job, epoch) not in self._watched:
                        waiting.extend(self._died(job, epoch))
                case Tell(message):
                    self._receive(message)

    def _record(self, record: Record, holder: str = "") -> None:
        name = _PREFIX + record.job
        before = self._leases.get(name)
        details = msgspec.json.encode(_Details(record.generation, record.crashes)).decode()
        after = LeaseRow(name, record.epoch, before.revision + 1 if before else 1, holder, 0, details)
        self._store.commit([RowChange(before, after)])
        self._leases[name] = after

    def _launch(self, wanted: Wanted, epoch: int) -> list[Act]:
        row = self._leases[_PREFIX + wanted.job]
        try:
            pid = processes.launch(self._project, self._state, wanted, epoch)
        except OSError as error:
            return self._reconciler.ended(Detached(wanted.job, epoch, 1, f"it cannot be started: {error}"), self._now())
        self._children[wanted.job, epoch] = pid
        holder = processes.identity(pid)
        after = msgspec.structs.replace(row, holder=holder, revision=row.revision + 1)
        self._store.commit([RowChange(row, after)])
        self._leases[row.name] = after
        self._watch(wanted.job, epoch, holder)
        return []

    def _watch(self, job: str, epoch: int, holder: str) -> None:
        fd = processes.watch_fd(holder) if holder else None
        if fd is None:
            self._act(self._died(job, epoch))
            return
        self._watched[job, epoch] = fd
        self._selector.register(fd, selectors.EVENT_READ, (job, epoch))

    def _died(self, job: str, epoch: int) -> list[Act]:
        fd = self._watched.pop((job, epoch), None)
        if fd is not None:
            self._selector.unregister(fd)
            os.close(fd)
        row = self._leases.get(_PREFIX + job)
        if row is not None and row.epoch == epoch and row.holder:
            processes.end_orphans(row.holder)
        words = self._last_words.pop((job, epoch), None)
        pid = self._children.pop((job, epoch), None)
        code = processes.bury(pid) if pid is not None else words.code if words else 1
        error = words.error if words else "" if code == 0 else _end_text(code, pid is not None)
        return self._reconciler.ended(Detached(job, epoch, code, error), self._now())

    def _now(self) -> int:
        return self._clock.now_us()

    @staticmethod
    def _found(row: LeaseRow) -> Found:
        details = msgspec.json.decode(row.details, type=_Details)
        return Found(row.name.removeprefix(_PREFIX), row.epoch, row.holder, details.generation, details.crashes)


def _end_text(code: int, is_own: bool) -> str:
    if not is_own:
        return "it was gone"
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
