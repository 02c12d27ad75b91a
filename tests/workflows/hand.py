"""An executor and a supervisor of one process for tests of the scheduler: tasks end as soon as they are started."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from penstock.workflows.executor.interface import FromExecutor
from penstock.workflows.messages import Acknowledged, Assignment, Command, Ended, Hello, Kill, TaskRef, Watch
from penstock.workflows.supervisor.interface import FromSupervisor, Wanted


class Hand:
    """Keeps the contract of an executor; a thread of its own tells the ends, again until they are acknowledged."""

    def __init__(self, slots: int = 4, *, silent: bool = False) -> None:
        self.many, self.silent = slots, silent
        self.known: dict[tuple[str, int], Ended | None] = {}
        self.bodies: list[TaskRef] = []
        self.acknowledged: dict[TaskRef, bool] = {}
        self._todo: SimpleQueue[Assignment | None] = SimpleQueue()
        self._receive: Callable[[FromExecutor], None] = lambda message: None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def listen(self, receive: Callable[[FromExecutor], None]) -> None:
        self._receive = receive
        receive(Hello("hand", "default", self.many, tuple(self.running())))
        for ended in list(self.known.values()):
            if ended is not None:
                receive(ended)

    def slots(self) -> int:
        return self.many

    def start(self, assignments: list[Assignment]) -> None:
        for order in assignments:
            self._todo.put(order)

    def _work(self) -> None:
        while (order := self._todo.get()) is not None:
            name = (order.task.node_run, order.task.attempt)
            if name in self.known:
                ended = self.known[name]
            else:
                self.bodies.append(order.task)
                ended = None if self.silent else Ended("hand", order.task, "done", {"n": 1})
                self.known[name] = ended
            if ended is not None:
                self._receive(ended)

    def kill(self, order: Kill) -> None:
        self._receive(Ended("hand", order.task, "killed"))

    def acknowledge(self, acknowledgements: list[Acknowledged]) -> None:
        for one in acknowledgements:
            self.acknowledged[one.task] = one.accepted

    def running(self) -> tuple[TaskRef, ...]:
        return tuple(task for task in self.bodies if task not in self.acknowledged)

    def close(self) -> None:
        self._todo.put(None)
        self._thread.join()


class Keeper:
    """Keeps the contract of a supervisor, and remembers what it was asked."""

    def __init__(self) -> None:
        self.wanted: list[Wanted] = []
        self.commands: list[Command] = []
        self.watches: list[Watch] = []
        self.receive: Callable[[FromSupervisor], None] = lambda message: None

    def listen(self, receive: Callable[[FromSupervisor], None]) -> None:
        self.receive = receive

    def want(self, wanted: list[Wanted]) -> None:
        self.wanted += wanted

    def command(self, commands: list[Command]) -> None:
        self.commands += commands

    def watch(self, watches: list[Watch]) -> None:
        self.watches += watches

    def close(self) -> None:
        return None
