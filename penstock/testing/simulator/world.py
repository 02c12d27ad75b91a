"""The world around the scheduler: time, a network that fails, processes that die, and who asks for something."""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from random import Random
from typing import Any, Final

from penstock.errors import StoreError, WorkflowError
from penstock.store.meta.rows import StreamRow
from penstock.testing.simulator.actors import Crash, SimExecutor, SimWorker
from penstock.testing.simulator.disk import SimStore
from penstock.testing.simulator.generate import STORM_US, Plan, generate
from penstock.testing.simulator.ledger import BrokenError, Ledger
from penstock.testing.simulator.network import Network
from penstock.testing.simulator.streams import SimStream, SimSupervisor
from penstock.workflows.core.graph import Graph
from penstock.workflows.core.requests import Apply, FactGiven, SetStream, SignalGiven
from penstock.workflows.core.turn import Settings
from penstock.workflows.messages import Assignment, Detached
from penstock.workflows.scheduler import Scheduler
from penstock.workflows.supervisor.interface import Wanted

__all__ = ["World", "judge", "simulate"]

_BEGIN_US: Final = 1_767_225_600_000_000
_CALM_MOST_US: Final = 1_200_000_000
_STOPPED_US: Final = 15_000_000
_LOOK_US: Final = 1_000_000
_PASSES_MOST: Final = 200
SETTINGS: Final = Settings(
    lease_us=2_000_000, losses_most=3, kill_again_us=1_000_000, overtime_us=2_000_000, catch_up_most=20
)


class SimClock:
    """The clock of the deployment: it may jump forward; set back, it stands still until its time has come again."""

    def __init__(self, world: World) -> None:
        self._world, self._last_us = world, 0
        self.off_us = 0

    def now_us(self) -> int:
        """The present instant."""
        self._last_us = max(self._last_us, self._world.now_us + self.off_us)
        return self._last_us


@functools.lru_cache(64)
def _graph(spec: str, version: int) -> Graph:
    return Graph.of(spec, version)


class World:
    """One seed's world.

    Args:
        plan: what is in it.
        trace: how many of its last happenings are kept.
    """

    def __init__(self, plan: Plan, *, trace: int = 60) -> None:
        self.plan, self.settings = plan, SETTINGS
        self.rng = Random(plan.seed + 1)  # noqa: S311  a world is decided by its seed
        self.now_us = _BEGIN_US
        self.is_stormy = True
        self.clock = SimClock(self)
        self.ledger = Ledger(_graph, SETTINGS.losses_most)
        self.store = SimStore(self)
        self.net = Network(self)
        self.life = 0
        self.scheduler: Scheduler | None = None
        self.executor: SimExecutor | None = None
        self.supervisor: SimSupervisor | None = None
        self.workers = {name: SimWorker(self, name, slots) for name, slots in plan.workers.items()}
        self.processes: dict[tuple[str, int], SimStream] = {}
        self.trace: deque[tuple[int, str, Any]] = deque(maxlen=trace)
        self._agenda: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._numbers = itertools.count(1)
        self._asked: list[tuple[Future[dict[str, Any]], Any]] = []
        self._unasked = 0
        self._pass_us = 1 << 62
        self._progress: dict[str, int] = {}

    # time

    def after(self, delay_us: int, action: Callable[..., None], *of: Any) -> None:
        """Lets something happen later."""
        heapq.heappush(self._agenda, (self.now_us + delay_us, next(self._order), action, of))

    def some(self, most_us: int) -> int:
        """A length of time."""
        return self.rng.randrange(1, most_us)

    def count(self) -> int:
        """Another number each time."""
        return next(self._numbers)

    def note(self, what: str, about: Any = "") -> None:
        """Keeps a happening for whoever looks for a fault."""
        self.trace.append((self.now_us, what, about))

    def _go_until(self, until_us: int) -> None:
        while self._agenda and self._agenda[0][0] <= until_us:
            at_us, _, action, of = heapq.heappop(self._agenda)
            self.now_us = at_us
            action(*of)
        self.now_us = until_us

    # life and death

    def run(self) -> None:
        """The storm, the calm, the end.

        Raises:
            BrokenError: an invariant does not hold.
        """
        faults = self.plan.faults
        self._start_server()
        for worker in self.workers.values():
            worker.start()
        for at_us, message in self.plan.script:
            self.after(at_us, self._ask, message)
        for mean_us, action in (
            (faults.server_us, self._kill_server), (faults.worker_us, self._kill_worker),
            (faults.stream_us, self._kill_stream), (faults.line_us, self._break_line),
            (faults.deaf_us, self._go_deaf), (faults.step_us, self._step_clock),
        ):  # fmt: skip
            if mean_us:
                self.after(self.some(2 * mean_us), self._strike, mean_us, action)
        self._go_until(self.now_us + STORM_US)
        self._calm()

    def _calm(self) -> None:
        self.note("calm")
        self.is_stormy = False
        self.net.deaf.clear()
        self._go_until(self.now_us + 4_000_000)
        for message in self.plan.last:
            self._ask(message)
        for (subject, kind), position in self.plan.facts.items():
            self._ask(FactGiven(subject, kind, position, position=position))
        self._go_until(self.now_us + 6 * self.settings.lease_us)
        self.ledger.calm_us = self.clock.now_us()
        until_us = self.now_us + _CALM_MOST_US
        # Who waits for a stream that was stopped is told by somebody else in the end.
        self.after(_STOPPED_US, self._ask, FactGiven("s.feed", "offset", 1_000))
        while (open_rows := self._open()) and self.now_us < until_us:
            # A signal counts for the runs that were made before it.
            self._ask(SignalGiven("go", id=f"calm/{self.now_us}"))
            for row in self._broken_streams():
                self._ask(SetStream(row.job, "restart"))
            self._go_until(self.now_us + _LOOK_US)
        if open_rows:
            raise BrokenError("\n    ".join(["the world never comes to rest", *map(repr, open_rows)]))
        self._go_until(self.now_us + 3_000_000)
        self.ledger.close(self.plan.facts)
        until_us = self.now_us + 60_000_000
        while self._moving_streams() and self.now_us < until_us:
            self._go_until(self.now_us + _LOOK_US)
        self._close_streams()

    def _open(self) -> list[Any]:
        ends = [end for worker in self.workers.values() for end in worker.ends.values()]
        tasks = [task for worker in self.workers.values() for task in worker.tasks]
        return [
            *self.ledger.waits()[:8],
            *self._broken_streams(),
            *ends,
            *tasks,
            *self._asked,
            *([self._unasked] if self._unasked else []),
        ]

    def _broken_streams(self) -> list[StreamRow]:
        rows = [row for row in self.ledger.rows.values() if isinstance(row, StreamRow)]
        return [row for row in rows if (row.state, row.desired) == ("broken", "running")]

    def _moving_streams(self) -> list[StreamRow]:
        """Those that a run's end has just started or stopped."""
        rows = [row for row in self.ledger.rows.values() if isinstance(row, StreamRow)]
        still = {"running": ("running", "paused"), "stopped": ("stopped",)}
        return [row for row in rows if row.state not in still[row.desired]]

    def _close_streams(self) -> None:
        for row in self.store.read(StreamRow):
            living = [p for p in self.processes.values() if p.job == row.job and p.alive and p.granted]
            wanted = row.desired == "running"
            if len(living) != wanted:
                raise BrokenError(f"{len(living)} processes are listened to\n    {row!r}")
            for process in living:
                if process.epoch != row.epoch or process.paused != (row.gate == "held"):
                    raise BrokenError(
                        f"a stream is not as it is wanted: {process.epoch}, {process.paused}\n    {row!r}"
                    )
                for number, started in self.ledger.reloads[row.job].items():
                    if process.number < started and number not in process.reloaded:
                        raise BrokenError(f"reload {number} reached no process\n    {row!r}")

    def _strike(self, mean_us: int, action: Callable[[], None]) -> None:
        if self.is_stormy:
            action()
            self.after(self.some(2 * mean_us), self._strike, mean_us, action)

    def may_die(self, where: str) -> None:
        """A place where the server may die.

        Raises:
            Crash: it does.
        """
        faults = self.plan.faults
        chance = faults.die_at_commit if "commit" in where else faults.die_at_send
        if self.is_stormy and chance and self.rng.random() < chance:
            raise Crash(where)

    def server_died(self, where: object) -> None:
        """The server is gone, with all that it had in memory."""
        self.note("the server dies", str(where))
        self.life += 1
        self.scheduler = self.executor = self.supervisor = None
        self._pass_us = 1 << 62
        for _, message in self._asked:
            self._unasked += 1
            self.after(self.some(500_000), self._ask_again, message)
        self._asked = []
        self.after(self.some(800_000), self._start_server)

    @property
    def is_up(self) -> bool:
        """Whether a server lives."""
        return self.scheduler is not None

    def _start_server(self) -> None:
        if self.scheduler is not None:
            return
        self.life += 1
        self.note("a server starts", self.life)
        try:
            self.executor, self.supervisor = SimExecutor(self), SimSupervisor(self)
            self.scheduler = Scheduler(self.store, self.clock, self.executor, self.supervisor, self.settings)
            self.scheduler.open()
        except (Crash, StoreError) as error:
            self.server_died(error)
            return
        self.supervisor.start()
        for worker in self.workers.values():
            self.after(self.some(200_000), worker.greet)
        self.wake()

    def _kill_server(self) -> None:
        if self.scheduler is not None:
            self.server_died("killed")

    def _kill_worker(self) -> None:
        worker = self.rng.choice(list(self.workers.values()))
        if worker.alive:
            self.note("a worker dies", worker.name)
            worker.die()
            self.after(self.some(4_000_000), worker.start)

    def _kill_stream(self) -> None:
        living = [process for process in self.processes.values() if process.alive]
        if living:
            process = self.rng.choice(living)
            self.note("a stream dies", (process.job, process.epoch))
            process.die(1, "killed")

    def _break_line(self) -> None:
        living = [process for process in self.processes.values() if process.alive and process.line]
        if living:
            process = self.rng.choice(living)
            self.net.line_gone(process)
            process.broken_line()

    def _go_deaf(self) -> None:
        self.net.deaf[self.rng.choice(list(self.workers))] = self.now_us + self.some(5_000_000)

    def _step_clock(self) -> None:
        self.clock.off_us += self.rng.choice((-500_000, 300_000, 2_500_000))
        self.note("the clock is set", self.clock.off_us)
        self.wake()

    # passes

    def wake(self, delay_us: int | None = None) -> None:
        """The scheduler looks at what has come, soon."""
        at_us = self.now_us + (self.rng.randrange(3_000) if delay_us is None else delay_us)
        if at_us < self._pass_us and self.scheduler is not None:
            self._pass_us = at_us
            self.after(at_us - self.now_us, self._pass, self.life)

    def _pass(self, life: int) -> None:
        scheduler = self.scheduler
        if scheduler is None or life != self.life or self.now_us < self._pass_us:
            return
        self._pass_us = 1 << 62
        try:
            for _ in range(_PASSES_MOST):
                if not scheduler.make_pass():
                    break
            else:
                raise BrokenError("the scheduler never comes to rest")
        except Crash as crash:
            self.server_died(crash)
            return
        except StoreError as error:
            self.note("a commit fails", error.found)
            self.wake(200_000)
        self._hear_answers()
        at_us = scheduler.next_wake_us()
        if at_us is not None:
            self.wake(max(0, at_us - self.clock.now_us()))

    def _hear_answers(self) -> None:
        asked, self._asked = self._asked, []
        for future, message in asked:
            if not future.done():
                self._asked.append((future, message))
                continue
            error = future.exception()
            if error is None:
                self.ledger.answered(message, future.result())
            elif isinstance(error, StoreError):
                self._unasked += 1
                self.after(self.some(500_000), self._ask_again, message)
            elif not isinstance(error, WorkflowError) or isinstance(message, Apply):
                raise BrokenError(f"a request raised {error!r}\n    {message!r}") from error

    def _ask(self, message: Any) -> None:
        self._unasked += 1
        self._ask_again(message)

    def _ask_again(self, message: Any) -> None:
        if self.scheduler is None:
            self.after(300_000, self._ask_again, message)
            return
        self._unasked -= 1
        self.note("ask", message)
        self._asked.append((self.scheduler.post(message), message))
        self.wake()

    def fate(self, order: Assignment) -> tuple[int, str]:
        """How long a task takes, and how it ends."""
        faults, rng = self.plan.faults, self.rng
        took_us = self.some(400_000)
        if rng.random() < faults.long_task or (not self.is_stormy and rng.random() < 0.1):
            took_us = 2_000_000 + self.some(4_000_000)
        if order.timeout_us is not None and (took_us > order.timeout_us or rng.random() < faults.hang_task):
            return order.timeout_us, "timed_out"
        return took_us, "failed" if rng.random() < faults.fail_task else "done"

    # streams

    def launch(self, wanted: Wanted, epoch: int) -> None:
        """Starts a stream process."""
        self.note("launch", (wanted.job, epoch))
        self.processes[wanted.job, epoch] = SimStream(self, wanted, epoch, self.ledger.launched)
        self.ledger.launched += 1

    def detached(self, message: Detached) -> None:
        """A process is seen to be gone."""
        if self.supervisor is not None:
            self.note("gone", message)
            self.supervisor.post(message)

    def progress(self, job: str) -> list[tuple[str, int]]:
        """How far the source of a stream is: it has an end."""
        at = self._progress[job] = min(self._progress.get(job, 0) + self.rng.randrange(3), 30)
        return [("watermark", _BEGIN_US + at * 700_000), ("offset", at)]


def simulate(seed: int, *, trace: int = 60) -> World:
    """Runs one seed's world.

    Raises:
        BrokenError: an invariant does not hold; its notes hold the last happenings and how to see them again.
    """
    world = World(generate(seed), trace=trace)
    try:
        world.run()
    except Exception as error:
        lines = [f"{(at - _BEGIN_US) / 1e6:10.6f}  {what}  {about!r}" for at, what, about in world.trace]
        error.add_note("\n".join(lines))
        error.add_note(f"replay: python -m penstock.testing.simulator --seed {seed} --trace")
        raise
    return world


def judge(seed: int, trace: int = 60) -> tuple[int, str]:
    """Runs one seed's world, as a process of its own may: the seed, and what broke, empty if nothing did."""
    logging.disable(logging.CRITICAL)
    try:
        simulate(seed, trace=trace)
    except Exception as error:  # noqa: BLE001 whatever a world ends with is its finding
        return seed, "".join(traceback.format_exception(error))
    return seed, ""
