"""What carries words: between server and workers anything may be lost, late, doubled and out of order.

A stream process has a line instead, which keeps its words in order until it breaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.workflows.executor.interface import FromExecutor

if TYPE_CHECKING:
    from penstock.testing.simulator.actors import SimWorker
    from penstock.testing.simulator.streams import SimStream
    from penstock.testing.simulator.world import World

__all__ = ["Network"]


class Network:
    """The network of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.deaf: dict[str, int] = {}
        """Worker -> until when nothing passes between it and the server."""
        self._line_us: dict[tuple[str, int, bool], int] = {}

    def _delays(self, worker: SimWorker) -> list[int]:
        """When the copies of a message between the server and a worker arrive; none if it is lost."""
        if not self._world.is_stormy:
            return [self._world.rng.randrange(500, 3_000)]
        faults, rng = self._world.plan.faults, self._world.rng
        if self.deaf.get(worker.name, 0) > self._world.now_us or rng.random() < faults.drop:
            return []
        copies = 2 if rng.random() < faults.double else 1
        soon, late = (500, 3_000), (1, 2_000_000)
        return [rng.randrange(*(late if rng.random() < faults.late else soon)) for _ in range(copies)]

    def to_worker(self, worker: SimWorker, message: Any) -> None:
        """Sends to a worker; what its present life does not get is lost."""
        for delay_us in self._delays(worker):
            self._world.after(delay_us, self._at_worker, worker, worker.life, self._world.life, message)

    def _at_worker(self, worker: SimWorker, life: int, server: int, message: Any) -> None:
        if worker.alive and worker.life == life:
            self._world.note(f"to {worker.name}", message)
            worker.take(message, server)

    def to_server(self, worker: SimWorker, message: FromExecutor) -> None:
        """Sends to whoever is the server when it arrives."""
        for delay_us in self._delays(worker):
            self._world.after(delay_us, self._at_server, worker, worker.life, message)

    def _at_server(self, worker: SimWorker, life: int, message: FromExecutor) -> None:
        if self._world.executor is not None and worker.life == life:
            self._world.note(f"from {worker.name}", message)
            self._world.executor.heard(message)

    def line_gone(self, process: SimStream) -> None:
        """The server sees that a line broke."""
        if self._world.supervisor is not None and process.line == self._world.life:
            self._world.supervisor.post(("gone", process.job, process.epoch))

    def from_process(self, process: SimStream, message: Any) -> None:
        """Sends along a process' line."""
        if process.line == self._world.life and self._world.is_up:
            self._along(process, up=True, message=message)

    def to_process(self, process: SimStream, message: Any) -> None:
        """Sends to a process along its line."""
        if process.line == self._world.life and process.alive:
            self._along(process, up=False, message=message)

    def _along(self, process: SimStream, *, up: bool, message: Any) -> None:
        key = (process.job, process.epoch, up)
        delay_us = self._world.some(30_000)
        if self._world.is_stormy and self._world.rng.random() < self._world.plan.faults.late:
            delay_us = self._world.some(600_000)
        at_us = max(self._world.now_us + delay_us, self._line_us.get(key, 0) + 1)
        self._line_us[key] = at_us
        self._world.after(at_us - self._world.now_us, self._at_end, process, process.line, process.lines, up, message)

    def _at_end(self, process: SimStream, life: int, line: int, up: bool, message: Any) -> None:
        if life != self._world.life or process.lines != line or process.line != life:
            return
        self._world.note(f"{'from' if up else 'to'} {process.job}#{process.epoch}", message)
        if not up:
            if process.alive:
                process.take(message)
        elif self._world.supervisor is not None:
            self._world.supervisor.post(message)
