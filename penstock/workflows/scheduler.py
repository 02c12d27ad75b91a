"""The scheduler: takes what waits, steps, commits once, then sends. One thread, woken by what comes.

What is decided is durable before anybody hears of it; what was decided and not sent is owed by the state itself, and a
scheduler that comes later sends it again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeVar

from penstock.clock import Clock
from penstock.errors import PenstockError, StoreError, WorkflowError
from penstock.store.meta.rows import RowChange
from penstock.store.meta.rows_store import ConflictError, RowStore, merge
from penstock.workflows.core.requests import KillRun, Message, Rerun, StartRun, Tick
from penstock.workflows.core.state import Worker
from penstock.workflows.core.step import recover, step
from penstock.workflows.core.turn import Core, Effect, Settings
from penstock.workflows.executor.interface import Executor
from penstock.workflows.loading import load_runs, load_state
from penstock.workflows.messages import Acknowledged, Beat, Command, Ended, Hello, Kill, Start, Started, Watch
from penstock.workflows.supervisor.interface import Supervisor, Wanted

__all__ = ["Scheduler", "Subscriber"]

_LOG: Final = logging.getLogger(__name__)
_BATCH: Final = 512
_KEPT_ENDED: Final = 256
_TRIES: Final = 10
_LONGEST_WAIT_S: Final = 60.0
_PAUSE_S: Final = 1.0
_PATIENCE_S: Final = 0.005
"""So long a word that a task runs waits for company: nothing follows from it, and a short task's end comes right after
it, which would otherwise wait for a commit of its beginning."""

T = TypeVar("T")
Subscriber = Callable[[list[RowChange]], None]
"""Told of what a commit has changed, in the scheduler's thread: it hands on and returns at once."""


class _Posted(NamedTuple):
    message: Message
    answer: Future[dict[str, Any]] | None


class _Look(NamedTuple):
    at: Callable[[Core, int], Any]
    answer: Future[Any]


class Scheduler:
    """Runs the step function over a store, a clock, an executor and a supervisor."""

    def __init__(
        self,
        store: RowStore,
        clock: Clock,
        executor: Executor,
        supervisor: Supervisor,
        settings: Settings | None = None,
    ) -> None:
        self._store, self._clock = store, clock
        self._executor, self._supervisor = executor, supervisor
        self._settings = settings or Settings()
        self._core: Core | None = None
        self._workers: Mapping[str, Worker] = {}
        self._slots: Mapping[str, int] = {}
        """As last heard of; they do not say who they are again because a commit has failed here."""
        self._inbox: queue.SimpleQueue[_Posted | None] = queue.SimpleQueue()
        self._again: list[_Posted] = []
        self._looks: queue.SimpleQueue[_Look] = queue.SimpleQueue()
        self._subscribers: list[Subscriber] = []
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._tries = 0
        self._alone = 0
        """Messages still to be taken one at a time, to find the one that cannot be written."""

    def post(self, message: Message) -> Future[dict[str, Any]]:
        """Gives a message in, from any thread; the answer comes when what follows from it is durable.

        The future fails with a `WorkflowError` for what cannot be, with a `StoreError` if it could not be written.
        """
        answer: Future[dict[str, Any]] = Future()
        self._inbox.put(_Posted(message, answer))
        return answer

    def tell(self, message: Message) -> None:
        """Gives a message in to which nobody waits for an answer."""
        self._inbox.put(_Posted(message, None))

    def look(self, at: Callable[[Core, int], T]) -> Future[T]:
        """Reads the state between two passes: calls `at(state, now)` in the scheduler's thread; it changes nothing."""
        answer: Future[T] = Future()
        self._looks.put(_Look(at, answer))
        self._inbox.put(None)
        return answer

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Lets somebody be told of every change after its commit; gives a function that ends it."""
        self._subscribers = [*self._subscribers, subscriber]

        def end() -> None:
            self._subscribers = [one for one in self._subscribers if one is not subscriber]

        return end

    def start(self) -> None:
        """Reads the state, sends what is owed, and runs in a thread until `close`."""
        self.open()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Reads the state and sends what is owed; `start` does it, and a simulator that makes its own passes.

        Raises:
            StoreError: the state cannot be read.
        """
        self._reload()
        self._executor.listen(self.tell)
        self._supervisor.listen(self.tell)

    def close(self) -> None:
        """Ends the thread after the pass in hand; tasks and streams go on. Who still waits for an answer is told."""
        self._closing.set()
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        left = self._take((), most=1 << 62)
        _fail(left, WorkflowError("ask the scheduler", found="it has been closed", remedy="ask the one that follows"))

    def next_wake_us(self) -> int | None:
        """When the next timer is due, for whoever makes the passes."""
        return None if self._core is None else self._core.state.next_wake_us()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                first = self._wait()
                if not self._closing.is_set():
                    self.make_pass(first)
            except StoreError as error:
                _LOG.error("the scheduler cannot use its database, and tries again: %s", error)
                self._closing.wait(_PAUSE_S)
            except Exception:  # noqa: BLE001 the edge of the process: the scheduler goes on with what is on record
                _LOG.exception("a pass of the scheduler failed, and the state is read again")
                self._core = None
                self._closing.wait(_PAUSE_S)

    def _wait(self) -> list[_Posted]:
        """What has come, or nothing when a timer is due."""
        if self._again or self._core is None:
            return []
        found: list[_Posted] = []
        until_s = time.monotonic() + self._until_timer_s(_LONGEST_WAIT_S)
        while (wait_s := until_s - time.monotonic()) > 0 or not found:
            try:
                posted = self._inbox.get(timeout=wait_s) if wait_s > 0 else self._inbox.get_nowait()
            except queue.Empty:
                break
            if posted is None:
                break
            found.append(posted)
            if not isinstance(posted.message, Started) or len(found) >= _BATCH:
                break
            if len(found) == 1:
                until_s = time.monotonic() + self._until_timer_s(_PATIENCE_S)
        return found

    def _until_timer_s(self, longest_s: float) -> float:
        at = self.next_wake_us()
        return longest_s if at is None else min(longest_s, max(0.0, (at - self._clock.now_us()) / 1e6))

    def make_pass(self, first: Iterable[_Posted] = ()) -> bool:
        """One pass over what waits: steps, one commit, effects. False if there was nothing to do.

        Raises:
            StoreError: the database failed; the state is read again in the next pass, and who waits is told.
        """
        if self._core is None:
            self._reload()
        assert self._core is not None
        self._answer_looks(self._core)
        batch = self._take(first, _BATCH)
        at = self._core.state.next_wake_us()
        if at is not None and at <= self._clock.now_us():
            batch.append(_Posted(Tick(), None))
        if not batch:
            return False
        try:
            self._pass(self._core, batch)
        except ConflictError as error:
            self._core = None
            self._tries += 1
            if self._tries > _TRIES:
                self._tries = 0
                _fail(batch, error)
                raise
            self._again = batch + self._again
        except StoreError as error:
            self._core = None
            _fail(batch, error)
            # Nobody says again what nobody waits for: it is kept until the disk takes it.
            self._again = [posted for posted in batch if posted.answer is None] + self._again
            raise
        except Exception as error:  # noqa: BLE001 the edge of the process: what cannot be written is found and refused
            self._core = None
            if len(batch) > 1:
                self._again, self._alone = batch + self._again, len(batch)
            else:
                self._again = self._refuse(batch[0], error) + self._again
        else:
            self._tries = 0
        return True

    def _take(self, first: Iterable[_Posted], most: int) -> list[_Posted]:
        """What waits, oldest first; one at a time after a pass that failed for a reason of its own."""
        waiting = [*self._again, *first]
        while len(waiting) < most:
            try:
                posted = self._inbox.get_nowait()
            except queue.Empty:
                break
            if posted is not None:
                waiting.append(posted)
        if self._alone > 0:
            self._alone -= 1
            most = 1
        self._again = waiting[most:]
        return waiting[:most]

    def _answer_looks(self, core: Core) -> None:
        while not self._looks.empty():
            look = self._looks.get()
            try:
                look.answer.set_result(look.at(core, self._clock.now_us()))
            except Exception as error:  # noqa: BLE001 the edge of the process: who asked is told
                look.answer.set_exception(error)

    def _pass(self, core: Core, batch: list[_Posted]) -> None:
        changes: list[RowChange] = []
        effects: list[Effect] = []
        answers: list[tuple[Future[dict[str, Any]], dict[str, Any] | Exception]] = []
        load_runs(self._store, core.state, _runs_named(batch, core))
        for number, posted in enumerate(batch):
            answer: dict[str, Any] | Exception
            try:
                moves = step(core, posted.message, self._clock.now_us())
            except Exception as error:  # noqa: BLE001 the edge of the process: one bad message must not end the others
                if core.broken or not isinstance(error, WorkflowError):
                    self._core = None
                    again = [*batch[:number], *self._refuse(posted, error), *batch[number + 1 :]]
                    self._again = again + self._again
                    return
                answer = error
            else:
                changes += moves.changes
                effects += moves.effects
                answer = moves.answer
            if posted.answer is not None:
                answers.append((posted.answer, answer))
        self._finish(core, changes, effects)
        for future, answer in answers:
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _finish(self, core: Core, changes: list[RowChange], effects: list[Effect]) -> None:
        merged = merge(changes)
        self._store.commit(merged)
        self._send(effects)
        core.state.forget_ended(_KEPT_ENDED)
        if merged:
            for subscriber in self._subscribers:
                try:
                    subscriber(merged)
                except Exception:  # noqa: BLE001 the edge of the process: a listener's fault is its own
                    _LOG.exception("a subscriber failed")

    def _refuse(self, posted: _Posted, error: Exception) -> list[_Posted]:
        """Answers a message that cannot be taken in; the end of a task becomes a failure, so that it does end."""
        _LOG.error("a message could not be taken in: %r", posted.message, exc_info=error)
        if posted.answer is not None:
            posted.answer.set_exception(error)
        message = posted.message
        if isinstance(message, Ended) and (message.outcome == "done" or message.outputs or message.facts):
            text = f"its end could not be taken in: {type(error).__name__}: {error}"
            text = text.encode("utf-8", "replace").decode()
            return [_Posted(Ended(message.worker, message.task, "failed", error=text[:2_000]), None)]
        return []

    def _reload(self) -> None:
        """Reads the state anew and sends all effects that are owed."""
        core = Core(self._settings)
        load_state(self._store, core.state)
        moves = recover(core, self._clock.now_us(), self._workers.values(), self._slots)
        self._core, self._workers, self._slots = core, core.state.workers, core.state.slots
        try:
            self._finish(core, moves.changes, moves.effects)
        except StoreError:
            self._core = None
            raise

    def _send(self, effects: list[Effect]) -> None:
        """Sends in the order of the decisions; what fails is owed, and sent again when its timer says so."""
        for kind, group in groupby(effects, type):
            try:
                _send_group(self._executor, self._supervisor, kind, list(group))
            except (PenstockError, OSError) as error:
                _LOG.warning("effects %s could not be sent, and are sent again: %s", kind.__name__, error)


def _send_group(executor: Executor, supervisor: Supervisor, kind: type[Effect], effects: list[Any]) -> None:
    if kind is Start:
        executor.start([effect.assignment for effect in effects])
    elif kind is Acknowledged:
        executor.acknowledge(effects)
    elif kind is Kill:
        for effect in effects:
            executor.kill(effect)
    elif kind is Wanted:
        supervisor.want(effects)
    elif kind is Command:
        supervisor.command(effects)
    elif kind is Watch:
        supervisor.watch(effects)


def _fail(batch: list[_Posted], error: Exception) -> None:
    for posted in batch:
        if posted.answer is not None and not posted.answer.done():
            posted.answer.set_exception(error)


def _runs_named(batch: list[_Posted], core: Core) -> list[str]:
    """Runs that the messages are about and that are not in memory."""
    found: list[str] = []
    for message, _ in batch:
        match message:
            case Ended() | Started():
                found.append(message.task.node_run.rpartition("/")[0])
            case Beat() | Hello():
                found.extend(task.node_run.rpartition("/")[0] for task in message.running)
            case StartRun() | KillRun():
                found.append(message.run)
            case Rerun():
                found.extend((message.run, message.origin))
    return [run for run in found if run not in core.state.runs]
