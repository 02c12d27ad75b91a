"""The state of all workflows: what the tables hold of everything open, indexed by what the scheduler asks.

`put` is the only way a row changes; every index follows from the rows, so that a state read from the database is the
state that was left. Besides rows there is only what can be learned anew: workers, timers, who tells which fact.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from penstock.store.meta.rows import (
    ConsumptionRow,
    CoverageRow,
    DefinitionRow,
    FactRow,
    IntervalRow,
    NodeRow,
    OutboxRow,
    PoolRow,
    Row,
    RunRow,
    StreamRow,
    WorkflowRow,
)
from penstock.workflows.core.graph import Graph
from penstock.workflows.core.moves import ENDED_NODE, ENDED_RUN, OUT

__all__ = ["Coverage", "State", "Timer", "Worker"]


class Timer(NamedTuple):
    """Something to look at when its instant has come; what it finds decides, so that an old one does no harm."""

    at_us: int
    order: int
    kind: str
    of: tuple[Any, ...]


class Worker(msgspec.Struct):
    """A worker as last heard of."""

    name: str
    slots: int
    heard_us: int


class Coverage:
    """The union of done intervals, as sorted disjoint ranges."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def covers(self, start_us: int, end_us: int) -> bool:
        """Whether all of [start, end) is done."""
        at = bisect_right(self.starts, start_us) - 1
        return at >= 0 and self.ends[at] >= end_us

    def touching(self, start_us: int, end_us: int) -> list[tuple[int, int]]:
        """The ranges that overlap [start, end) or meet it, in order."""
        low, high = bisect_left(self.ends, start_us), bisect_right(self.starts, end_us)
        return list(zip(self.starts[low:high], self.ends[low:high], strict=True))

    def replace(self, former: int | None, start_us: int, end_us: int | None) -> None:
        """Takes the range that begins at `former` out, and [start, end) in."""
        if former is not None:
            at = bisect_left(self.starts, former)
            del self.starts[at], self.ends[at]
        if end_us is not None:
            at = bisect_left(self.starts, start_us)
            self.starts.insert(at, start_us)
            self.ends.insert(at, end_us)

    def ranges(self) -> list[tuple[int, int]]:
        """The ranges in order."""
        return list(zip(self.starts, self.ends, strict=True))


class State:
    """Rows of what is open, and their indexes."""

    def __init__(self) -> None:
        self.workflows: dict[str, WorkflowRow] = {}
        self.specs: dict[tuple[str, int], DefinitionRow] = {}
        self.runs: dict[str, RunRow] = {}
        self.nodes: dict[str, dict[str, NodeRow]] = {}
        self.facts: dict[tuple[str, str, str], FactRow] = {}
        self.streams: dict[str, StreamRow] = {}
        self.outbox: dict[str, OutboxRow] = {}
        self.pools: dict[str, int] = {}
        self.waiting: dict[tuple[str, str], dict[tuple[str, int], ConsumptionRow]] = {}
        """(workflow, trigger) -> values that wait for it, oldest first."""
        self.coverage: dict[str, Coverage] = {}
        self.seq = 0
        """Of the newest fact, interval or run."""

        self.values: dict[tuple[str, str], Any] = {}
        """(kind, subject) -> value of the fact of no scope."""
        self.going: dict[tuple[str, str], dict[str, None]] = {}
        """(workflow, overlap key) -> runs that go on, oldest first."""
        self.queued: dict[tuple[str, str], dict[str, None]] = {}
        """(workflow, overlap key) -> runs that wait."""
        self.queues: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
        self.ready: dict[str, list[tuple[int, int, int, str, str]]] = {}
        """Pool -> heap of ready nodes: (-priority, run's seq, place, run, node); old entries are passed over."""
        self.out: dict[str, int] = {}
        self.out_all = 0
        self.tasks: dict[str, dict[tuple[str, str], None]] = {}
        """Worker -> the tasks it has; under "" those that no worker has answered for."""
        self.left: dict[str, int] = {}
        """Run -> nodes that have not ended."""
        self.failed: dict[str, dict[str, None]] = {}
        """Run -> nodes that failed or were killed."""
        self.ended: dict[str, None] = {}
        """Ended runs that are still in memory, oldest first."""

        self.graphs: dict[tuple[str, int], Graph] = {}
        self.parameters: dict[str, dict[str, Any]] = {}
        self.workers: dict[str, Worker] = {}
        self.slots: dict[str, int] = {}
        """What each worker said of its slots, also one whose lease ran out: it does not say it twice."""
        self.makers: dict[str, str] = {}
        """Subject -> the stream job that tells its facts."""
        self.told: dict[str, tuple[tuple[str, str, float | int], ...]] = {}
        self.timers: list[Timer] = []
        self._order = 0
        self.pace_us = 10_000.0
        """How long a task takes, as a running mean: short ones are sent ahead to the workers."""

    def put(self, before: Row | None, after: Row | None) -> None:
        """Replaces a row, and brings the indexes after it."""
        match after if after is not None else before:
            case NodeRow():
                self._put_node(before, after)  # type: ignore[arg-type]
            case RunRow():
                self._put_run(before, after)  # type: ignore[arg-type]
            case FactRow():
                self._put_fact(after)  # type: ignore[arg-type]
            case IntervalRow() as row:
                self.seq = max(self.seq, row.seq)
            case CoverageRow() as row:
                ranges = self.coverage.setdefault(row.subject, Coverage())
                ranges.replace(
                    None if before is None else row.start_us, row.start_us, None if after is None else row.end_us
                )
            case ConsumptionRow():
                self._put_consumption(after)  # type: ignore[arg-type]
            case WorkflowRow() as row:
                self.workflows[row.name] = row
            case DefinitionRow() as row:
                self.specs[row.name.removeprefix("workflow/"), row.version] = row
            case StreamRow() as row:
                self.streams[row.job] = row
            case OutboxRow() as row:
                if after is None:
                    del self.outbox[row.id]
                else:
                    self.outbox[row.id] = row
            case PoolRow() as row:
                if after is None:
                    self.pools.pop(row.name, None)
                else:
                    self.pools[row.name] = row.slots

    def _put_run(self, before: RunRow | None, after: RunRow) -> None:
        self.runs[after.run] = after
        self.seq = max(self.seq, after.seq)
        key = (after.workflow, after.overlap_key)
        if after.run not in self.parameters:
            self.parameters[after.run] = msgspec.json.decode(after.parameters)
            self.nodes.setdefault(after.run, {})
            self.left.setdefault(after.run, 0)
        if after.state == "waiting":
            if before is None:
                self.queued.setdefault(key, {})[after.run] = None
                priority = -after.priority if self._by_priority(after.workflow) else 0
                heapq.heappush(self.queues.setdefault(key, []), (priority, after.seq, after.run))
        elif before is None or before.state == "waiting":
            _drop(self.queued, key, after.run)
        if after.state in ENDED_RUN:
            _drop(self.going, key, after.run)
            self.ended[after.run] = None
        elif after.state != "waiting":
            self.going.setdefault(key, {})[after.run] = None

    def _by_priority(self, workflow: str) -> bool:
        row = self.workflows.get(workflow)
        return row is not None and self.graph(workflow, row.version).spec.overlap.how == "priority"

    def next_queued(self, key: tuple[str, str]) -> RunRow | None:
        """The run that is next of those that wait."""
        heap, members = self.queues.get(key, []), self.queued.get(key, {})
        while heap and heap[0][2] not in members:
            heapq.heappop(heap)
        if not heap:
            self.queues.pop(key, None)
            return None
        return self.runs[heap[0][2]]

    def _put_node(self, before: NodeRow | None, after: NodeRow) -> None:
        nodes = self.nodes.setdefault(after.run, {})
        nodes[after.node] = after
        ended = after.state in ENDED_NODE
        if before is None:
            self.left[after.run] = self.left.get(after.run, 0) + (not ended)
        elif ended and before.state not in ENDED_NODE:
            self.left[after.run] -= 1
        if after.state in ("failed", "killed"):
            self.failed.setdefault(after.run, {})[after.node] = None
        was_out, is_out = before is not None and before.state in OUT, after.state in OUT
        if was_out or is_out:
            self._put_out(before if was_out else None, after if is_out else None)
        if after.state == "ready" and (before is None or before.state != "ready"):
            plan = self.plan(after.run).nodes[after.node]
            run = self.runs[after.run]
            entry = (-(plan.spec.priority + run.priority), run.seq, plan.order, after.run, after.node)
            heapq.heappush(self.ready.setdefault(plan.spec.pool, []), entry)

    def _put_out(self, before: NodeRow | None, after: NodeRow | None) -> None:
        row = after or before
        assert row is not None
        if before is None or after is None:
            change = 1 if before is None else -1
            pool = self.plan(row.run).nodes[row.node].spec.pool
            self.out[pool] = self.out.get(pool, 0) + change
            self.out_all += change
        if before is not None and (after is None or before.worker != after.worker):
            _drop(self.tasks, before.worker, (row.run, row.node))
        if after is not None and (before is None or before.worker != after.worker):
            self.tasks.setdefault(after.worker, {})[row.run, row.node] = None

    def _put_fact(self, row: FactRow) -> None:
        self.facts[row.subject, row.kind, row.scope] = row
        self.seq = max(self.seq, row.seq)
        if not row.scope:
            self.values[row.kind, row.subject] = msgspec.json.decode(row.value)

    def _put_consumption(self, row: ConsumptionRow) -> None:
        key, one = (row.workflow, row.trigger), (row.scope, row.revision)
        if row.state == "waiting":
            self.waiting.setdefault(key, {})[one] = row
        else:
            _drop(self.waiting, key, one)

    def graph(self, workflow: str, version: int) -> Graph:
        """A version of a workflow, made ready."""
        found = self.graphs.get((workflow, version))
        if found is None:
            found = self.graphs[workflow, version] = Graph.of(self.specs[workflow, version].spec, version)
        return found

    def plan(self, run: str) -> Graph:
        """The version that a run was frozen with."""
        row = self.runs[run]
        return self.graph(row.workflow, row.version)

    def current(self, workflow: str) -> Graph:
        """The newest version of a workflow."""
        return self.graph(workflow, self.workflows[workflow].version)

    def capacity(self) -> int:
        """How many tasks may be out: the workers' slots, and a few more as long as tasks are short."""
        slots = sum(worker.slots for worker in self.workers.values())
        return slots + min(32, 4 * slots, int(slots * 40_000 / max(self.pace_us, 1.0)))

    def wake_at(self, at_us: int, kind: str, *of: Any) -> None:
        """Sets a timer."""
        self._order += 1
        heapq.heappush(self.timers, Timer(at_us, self._order, kind, of))

    def next_wake_us(self) -> int | None:
        """When the next timer is due."""
        return self.timers[0].at_us if self.timers else None

    def due(self, now_us: int) -> list[Timer]:
        """The timers whose instant has come, in order."""
        found = []
        while self.timers and self.timers[0].at_us <= now_us:
            found.append(heapq.heappop(self.timers))
        return found

    def forget_ended(self, keep: int) -> None:
        """Lets go of all but the last ended runs; the database has them."""
        for run in list(self.ended)[: max(0, len(self.ended) - keep)]:
            del self.ended[run], self.runs[run]
            self.parameters.pop(run, None)
            self.nodes.pop(run, None)
            self.left.pop(run, None)
            self.failed.pop(run, None)

    def rows(self) -> Iterable[Row]:
        """Every row it holds; of intervals that is their union."""
        for table in (self.workflows, self.specs, self.runs, self.facts, self.streams, self.outbox):
            yield from table.values()
        yield from (PoolRow(name, slots) for name, slots in self.pools.items())
        for waiting in self.waiting.values():
            yield from waiting.values()
        for nodes in self.nodes.values():
            yield from nodes.values()
        for subject, coverage in self.coverage.items():
            yield from (CoverageRow(subject, low, high) for low, high in coverage.ranges())


def _drop(index: dict[Any, dict[Any, None]] | dict[Any, dict[Any, Any]], key: Any, member: Any) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(member, None)
        if not members:
            del index[key]
