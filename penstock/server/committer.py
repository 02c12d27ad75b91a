"""Group commit: what many requests bring is converted and committed together, by one thread."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from penstock.doors.convert import Converter
from penstock.errors import PenstockError, StoreError
from penstock.server.decode import Body, RowDecoder, Unfit
from penstock.server.metrics import Metrics
from penstock.store.log import Append, AppendResult, Log, ProducerId, Topic

__all__ = ["Committer", "Door", "Pending"]

_GROUP_BYTES = 16 << 20


@dataclass(frozen=True)
class Door:
    """One stream or table that takes events.

    Attributes:
        topic: its topic, made.
    """

    name: str
    topic: Topic
    decoder: RowDecoder
    converter: Converter


@dataclass(eq=False)
class Pending:
    """One request on its way into the log; `done` gets its result, or its error."""

    door: Door
    body: Body
    size: int
    producer: ProducerId | None
    sequence: int
    epoch: int
    done: asyncio.Future[AppendResult]
    batch: pa.RecordBatch | None = None
    refused: list[Unfit] = field(default_factory=list)
    kept: list[int] | None = None

    @property
    def letters(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Reason and row of what did not become a row of the batch."""
        return [(unfit.reason, unfit.row) for unfit in (*self.body.refused, *self.refused)]


class Committer:
    """Takes requests from the event loop and answers them after the durable commit.

    While one commit is under way the requests that come wait, and go together into the next: at low load a request
    waits for no other, at high load a commit serves many.
    """

    def __init__(self, log: Log, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._log, self._metrics, self._loop = log, metrics, loop
        self._queue: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="penstock-commit", daemon=True)
        self.waiting_bytes = 0

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, pending: Pending) -> None:
        """Hands over a request; called on the event loop."""
        self.waiting_bytes += pending.size
        self._queue.put(pending)

    def close(self) -> None:
        """Commits what waits, then ends."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, size, last = [first], first.size, False
            while size < _GROUP_BYTES:
                try:
                    pending = self._queue.get_nowait()
                except queue.Empty:
                    break
                if pending is None:
                    last = True
                    break
                group.append(pending)
                size += pending.size
            self._serve(group)
            if last:
                return

    def _serve(self, group: list[Pending]) -> None:
        start_s = time.perf_counter()
        outcomes: dict[Pending, AppendResult | PenstockError] = {}
        try:
            outcomes = self._commit(group)
        except PenstockError as error:
            outcomes = dict.fromkeys(group, error)
        except Exception as error:  # noqa: BLE001  the thread must live on, and every request be answered
            broken = StoreError("the commit goes through", found=repr(error)[:300], remedy="send the events again")
            outcomes = dict.fromkeys(group, broken)
        self._metrics.commit(len(group), time.perf_counter() - start_s)
        self._loop.call_soon_threadsafe(self._answer, outcomes)

    def _answer(self, outcomes: dict[Pending, AppendResult | PenstockError]) -> None:
        for pending, outcome in outcomes.items():
            self.waiting_bytes -= pending.size
            if pending.done.done():  # its deadline has passed
                continue
            if isinstance(outcome, PenstockError):
                pending.done.set_exception(outcome)
            else:
                pending.done.set_result(outcome)

    def _commit(self, group: list[Pending]) -> dict[Pending, AppendResult | PenstockError]:
        outcomes: dict[Pending, AppendResult | PenstockError] = {}
        by_door: dict[str, list[Pending]] = {}
        for pending in group:
            by_door.setdefault(pending.door.name, []).append(pending)
        for requests in by_door.values():
            outcomes |= _convert(requests)
        ready = [p for p in group if p.batch is not None]
        appends = [
            Append(str(p.door.topic.name), p.batch, p.producer, p.sequence, p.epoch, refused=p.letters) for p in ready
        ]
        results: list[Any] = self._log.append_each(appends) if appends else []
        return outcomes | dict(zip(ready, results, strict=True))


def _convert(requests: list[Pending]) -> dict[Pending, PenstockError]:
    """Gives each request its converted batch; those of one stream are converted at once. Returns what failed."""
    door = requests[0].door
    plain = [p for p in requests if not isinstance(p.body.rows, pa.RecordBatch)]
    failed: dict[Pending, PenstockError] = {}
    try:
        rows = [row for p in plain for row in p.body.rows]
        whole = door.converter.convert(door.decoder.batch(rows))
        start = 0
        for p in plain:
            p.batch = whole.slice(start, p.body.num_rows)
            start += p.body.num_rows
    except PenstockError:
        for p in plain:  # one of them is at fault: each by itself
            _convert_one(p, failed)
    for p in requests:
        if isinstance(p.body.rows, pa.RecordBatch):
            try:
                p.batch = door.converter.convert(p.body.rows)
            except PenstockError as error:
                failed[p] = error
    return failed


def _convert_one(pending: Pending, failed: dict[Pending, PenstockError]) -> None:
    door = pending.door
    try:
        pending.kept, pending.refused = door.decoder.fitting(pending.body.rows)
        rows = [pending.body.rows[i] for i in pending.kept]
        pending.batch = door.converter.convert(door.decoder.batch(rows))
    except PenstockError as error:
        failed[pending] = error
