"""The scheduler's side: workers that come to the hub, behind the executor's contract."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from penstock.workflows.executor.interface import FromExecutor
from penstock.workflows.executor.local.folders import Folders
from penstock.workflows.hub import Hub, Peer
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

__all__ = ["LEASE_US", "LocalExecutor"]

LEASE_US: Final = 30_000_000
"""How long a worker keeps its tasks without a scheduler, unless a task says otherwise."""


@dataclass
class _Worker:
    peer: Peer
    slots: int
    tasks: set[TaskRef] = field(default_factory=set)


class LocalExecutor:
    """Workers of this machine. Safe to call from any thread.

    Args:
        hub: where workers come; not yet open.
        state: the project's `.penstock`, in which accepted outputs are made visible.
    """

    def __init__(self, hub: Hub, state: Path) -> None:
        self._folders = Folders(state)
        self._lock = threading.RLock()
        self._workers: dict[str, _Worker] = {}
        self._pending: OrderedDict[TaskRef, Assignment] = OrderedDict()
        self._sent: dict[TaskRef, tuple[str, Assignment]] = {}
        self._receive: Callable[[FromExecutor], None] | None = None
        for kind in (Hello, Beat, Started, Progress, Ended):
            hub.route(kind, self._heard)
        hub.notice(gone=self._gone)

    def listen(self, receive: Callable[[FromExecutor], None]) -> None:
        """Sets who is told. Call it before the hub is opened."""
        self._receive = receive

    def slots(self) -> int:
        """How many tasks may run together; 0 when no worker is here."""
        with self._lock:
            return sum(worker.slots for worker in self._workers.values())

    def start(self, assignments: list[Assignment]) -> None:
        """Starts tasks on the workers that have most room; they wait for one while none is here."""
        with self._lock:
            for assignment in assignments:
                self._pending[assignment.task] = assignment
            self._send_pending()

    def kill(self, order: Kill) -> None:
        """Ends a task."""
        with self._lock:
            self._pending.pop(order.task, None)
            self._sent.pop(order.task, None)
            known = [w for w in self._workers.values() if order.task in w.tasks]
            for worker in known or list(self._workers.values()):
                worker.peer.send([order])

    def acknowledge(self, acknowledgements: list[Acknowledged]) -> None:
        """Makes accepted outputs visible, here, before anything that is started later; then tells the workers.

        Raises:
            OSError: outputs cannot be moved; the end stays unacknowledged and is told again.
        """
        for one in acknowledgements:
            self._folders.publish(one.task, one.accepted)
        with self._lock:
            for name, worker in self._workers.items():
                its_own = [one for one in acknowledgements if one.worker in ("", name)]
                if its_own:
                    worker.peer.send(its_own)
                worker.tasks.difference_update(one.task for one in its_own)

    def running(self) -> tuple[TaskRef, ...]:
        """The tasks believed to run, as last told."""
        with self._lock:
            return tuple(task for worker in self._workers.values() for task in worker.tasks)

    def close(self) -> None:
        """Nothing to let go of: the lines are the hub's; tasks go on, and a later scheduler finds them."""
        self._receive = None

    def _send_pending(self) -> None:
        if not self._workers or not self._pending:
            return
        batches: dict[str, list[Message]] = {}
        for task, assignment in self._pending.items():
            name = min(self._workers, key=lambda n: len(self._workers[n].tasks) / max(1, self._workers[n].slots))
            self._workers[name].tasks.add(task)
            self._sent[task] = name, assignment
            batches.setdefault(name, []).append(Start(assignment))
        self._pending.clear()
        for name, batch in batches.items():
            self._workers[name].peer.send(batch)

    def _heard(self, peer: Peer, message: FromExecutor) -> None:
        with self._lock:
            match message:
                case Hello(name, _, slots, holds):
                    self._workers[name] = _Worker(peer, slots, set(holds))
                    peer.send([Welcome(name, LEASE_US)])
                    self._send_again(name)
                    self._send_pending()
                    message = msgspec.structs.replace(message, running=tuple(self._workers[name].tasks))
                case Beat(name, holds):
                    peer.send([Welcome(name, LEASE_US)])
                    if (worker := self._workers.get(name)) is not None:
                        worker.tasks = {*holds, *(t for t, (n, _) in self._sent.items() if n == name)}
                case Started(_, task, _):
                    self._sent.pop(task, None)
                case Ended(name, task):
                    self._sent.pop(task, None)
                    if (worker := self._workers.get(name)) is not None:
                        worker.tasks.discard(task)
        if self._receive is not None:
            self._receive(message)

    def _send_again(self, name: str) -> None:
        """What was sent to a worker that came back, and did not reach it."""
        worker = self._workers[name]
        lost = [(t, a) for t, (n, a) in self._sent.items() if n == name and t not in worker.tasks]
        worker.tasks.update(task for task, _ in lost)
        worker.peer.send([Start(assignment) for _, assignment in lost])

    def _gone(self, peer: Peer) -> None:
        with self._lock:
            worker = self._workers.get(peer.name)
            if worker is not None and worker.peer is peer:
                del self._workers[peer.name]
