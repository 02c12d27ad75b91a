"""What must hold whatever dies: checked on every commit, on everything made visible, and when the world is quiet."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from penstock.store.meta.rows import (
    AttemptRow,
    ConsumptionRow,
    DefinitionRow,
    FactRow,
    IntervalRow,
    LeaseRow,
    NodeRow,
    OutboxRow,
    PoolRow,
    Row,
    RowChange,
    RunRow,
    StreamRow,
    WorkflowRow,
    key_of,
)
from penstock.workflows.core.firing import SCHEDULE, UNSET
from penstock.workflows.core.graph import Graph
from penstock.workflows.core.moves import ENDED_NODE, ENDED_RUN, OUT
from penstock.workflows.messages import Ended, TaskRef
from penstock.workflows.spec.schedule import next_firing

__all__ = ["BrokenError", "Ledger"]

_GROWING = frozenset({"watermark", "frontier", "offset"})
_UNLIMITED = 1 << 30


class BrokenError(AssertionError):
    """An invariant does not hold."""


class Ledger:
    """A mirror of the tables, and what the actors have really done.

    Args:
        graph: gives a version of a workflow from its stored specification.
        losses_most: how often a task may be lost before its node fails.
    """

    def __init__(self, graph: Callable[[str, int], Graph], losses_most: int) -> None:
        self._graph, self._losses_most = graph, losses_most
        self.rows: dict[tuple[Any, ...], Row] = {}
        self.calm_us: int | None = None
        """From here on no task that begins may be given up."""
        self.held: set[tuple[TaskRef, str]] = set()
        """Tasks that a worker really had."""
        self.ended: dict[tuple[TaskRef, str], str] = {}
        """How they really ended there."""
        self._failing: dict[str, set[int]] = defaultdict(set)
        self.published: dict[tuple[str, str], set[tuple[TaskRef, str]]] = defaultdict(set)
        self._plans: dict[tuple[str, int], Graph] = {}
        self._runs: dict[str, RunRow] = {}
        self._nodes: dict[tuple[str, str], NodeRow] = {}
        self._workflows: dict[str, WorkflowRow] = {}
        self._pools: dict[str, int] = {}
        self._going: Counter[tuple[str, str]] = Counter()
        self._out: Counter[str] = Counter()
        self._failed: Counter[tuple[str, str]] = Counter()
        self._lost: Counter[tuple[str, str]] = Counter()
        self._done: set[tuple[str, int, int]] = set()
        self._streams: dict[str, int] = {}
        self._seq = 0
        self.reloads: dict[str, dict[int, int]] = defaultdict(dict)
        """Job -> number of each reload that was asked -> how many processes had started by then."""
        self.launched = 0

    # commits

    def commit(self, changes: Iterable[RowChange]) -> None:
        """Takes a transaction in that has just been made durable.

        Raises:
            BrokenError: something that must never be.
        """
        made = list(changes)
        before_pools = dict(self._pools)
        for before, after in made:
            row = after if after is not None else before
            assert row is not None
            key = key_of(row)
            _hold(self.rows.get(key) == before, "a row is changed from what it was not", before, after)
            if after is None:
                del self.rows[key]
            else:
                self.rows[key] = after
        for _, after in made:
            if isinstance(after, DefinitionRow):
                name = after.name.removeprefix("workflow/")
                self._plans[name, after.version] = self._graph(after.spec, after.version)
        for _, after in made:
            if isinstance(after, RunRow):
                self._runs[after.run] = after
        began, grown = self._judge(made)
        for key in began:
            limit = self._current(key[0]).spec.overlap.limit
            _hold(self._going[key] <= limit, "more runs of a key go on than its overlap allows", key, limit)
        for pool in grown:
            slots = max(before_pools.get(pool, _UNLIMITED), self._pools.get(pool, _UNLIMITED))
            _hold(self._out[pool] <= slots, "more tasks of a pool are out than it has slots", pool, slots)

    def _judge(self, made: list[RowChange]) -> tuple[list[tuple[str, str]], list[str]]:
        began: list[tuple[str, str]] = []
        grown: list[str] = []
        newest = self._seq
        for before, after in made:
            match after if after is not None else before:
                case RunRow() as run:
                    began += self._run(before, run, made)  # type: ignore[arg-type]
                case NodeRow() as node:
                    grown += self._node(before, node)  # type: ignore[arg-type]
                case FactRow() as fact:
                    newest = max(newest, self._fact(before, fact))  # type: ignore[arg-type]
                case IntervalRow() as interval:
                    self._interval(interval)
                case ConsumptionRow() as value:
                    self._consumption(before, value, made)  # type: ignore[arg-type]
                case WorkflowRow() as workflow:
                    self._workflow(before, workflow)  # type: ignore[arg-type]
                case AttemptRow() as attempt:
                    self._attempt(attempt)
                case StreamRow() | LeaseRow() as row:
                    self._epoch(before, row)  # type: ignore[arg-type]
                case PoolRow() as pool:
                    self._pools[pool.name] = _UNLIMITED if after is None else pool.slots
        self._seq = newest
        for _, after in made:
            if isinstance(after, StreamRow):
                self._streams[after.job] = after.epoch
        return began, grown

    def _current(self, workflow: str) -> Graph:
        return self._plans[workflow, self._workflows[workflow].version]

    def _run(self, before: RunRow | None, run: RunRow, made: list[RowChange]) -> list[tuple[str, str]]:
        _hold(before is None or before.state not in ENDED_RUN, "a run that has ended changes", before, run)
        key = (run.workflow, run.overlap_key)
        was = before is not None and before.state not in ENDED_RUN and before.state != "waiting"
        now = run.state not in ENDED_RUN and run.state != "waiting"
        self._going[key] += now - was
        if before is None and run.trigger not in ("manual", "rerun"):
            named = any(isinstance(row, ConsumptionRow) and row.run == run.run for _, row in made)
            _hold(named, "a run is made, and what it was made of is not on record with it", run)
        return [key] if now and not was else []

    def _node(self, before: NodeRow | None, node: NodeRow) -> list[str]:
        name = (node.run, node.node)
        _hold(before is None or before.state not in ENDED_NODE, "a node that has ended changes", before, node)
        self._nodes[name] = node
        run = self._runs[node.run]
        plan = self._plans[run.workflow, run.version].nodes[node.node].spec
        if before is None:
            return []
        _hold(node.epoch >= before.epoch and node.attempt >= before.attempt, "an epoch goes back", before, node)
        task = TaskRef(f"{node.run}/{node.node}", node.attempt, node.epoch)
        if before.state == "starting" and node.state == "running":
            _hold((task, node.worker) in self.held, "a task runs at a worker that never had it", before, node)
        if node.state == "done":
            found = self.ended.get((task, node.worker))
            _hold(found == "done", "a node is done whose task did not end so", before, node, found)
        really = len(self._failing[task.node_run])
        _hold(node.failures <= really, "more failures are counted than there were", before, node, really)
        if node.state == "failed" and node.failures <= plan.retry.times:
            _hold(self._lost[name] >= self._losses_most, "a node fails before its retries are spent", before, node)
        _hold(node.failures <= plan.retry.times + 1, "a node is tried too often", before, node)
        pool, change = plan.pool, (node.state in OUT) - (before.state in OUT)
        self._out[pool] += change
        return [pool] if change > 0 else []

    def _attempt(self, row: AttemptRow) -> None:
        if row.outcome != "lost":
            self._failed[row.run, row.node] += 1
            return
        self._lost[row.run, row.node] += 1
        late = self.calm_us is not None and row.started_us is not None and row.started_us > self.calm_us
        _hold(not late, "a task is given up though nothing has failed", row)

    def _fact(self, before: FactRow | None, fact: FactRow) -> int:
        _hold(fact.seq > self._seq, "a fact is not newer than those before", before, fact)
        if before is not None:
            grown = msgspec.json.decode(fact.value) > msgspec.json.decode(before.value) if _grows(fact) else True
            _hold(grown, "a fact that only grows goes back", before, fact)
        is_told = before is None or (fact.epoch, fact.position) != (before.epoch, before.position)
        newest = self._streams.get(fact.subject, 0)
        _hold(not fact.epoch or not is_told or fact.epoch >= newest, "an older process is believed", newest, fact)
        for workflow in list(self._workflows):
            for trigger in self._current(workflow).triggers:
                if trigger.bare is None or (trigger.bare.kind, trigger.bare.subject) != (fact.kind, fact.subject):
                    continue
                if before is not None and fact.scope and not trigger.spec.consume.redone:
                    continue
                key = ("consumptions", workflow, trigger.spec.name, fact.scope, fact.seq)
                _hold(key in self.rows, "a new value is on record, and its trigger knows nothing of it", fact, trigger)
        return fact.seq

    def _interval(self, row: IntervalRow) -> None:
        """Done anew, it counts for those who ask for what is redone only."""
        span = (row.subject, row.start_us, row.end_us)
        redone = span in self._done
        self._done.add(span)
        for workflow in list(self._workflows):
            for trigger in self._current(workflow).triggers:
                if trigger.bare is None or (trigger.bare.kind, trigger.bare.subject) != ("interval", row.subject):
                    continue
                key = ("consumptions", workflow, trigger.spec.name, f"{row.start_us}/{row.end_us}", row.seq)
                counts = not redone or trigger.spec.consume.redone
                _hold(
                    (key in self.rows) == counts, "an interval is done, and its trigger is wrong", row, trigger, counts
                )

    def _epoch(self, before: StreamRow | LeaseRow | None, row: StreamRow | LeaseRow) -> None:
        _hold(before is None or row.epoch >= before.epoch, "an epoch goes back", before, row)
        if isinstance(row, StreamRow):
            first = 1 if not isinstance(before, StreamRow) else before.number + 1
            for number in range(first, row.number + 1):
                self.reloads[row.job][number] = self.launched

    def _consumption(self, before: ConsumptionRow | None, value: ConsumptionRow, made: list[RowChange]) -> None:
        _hold(before is None or before.state == "waiting", "a value is consumed twice", before, value)
        if value.state == "consumed":
            here = any(old is None and isinstance(row, RunRow) and row.run == value.run for old, row in made)
            _hold(here, "a value is consumed, and its run is not on record with it", value)
            _hold(self._runs[value.run].trigger == value.trigger, "a run is another trigger's", value)

    def _workflow(self, before: WorkflowRow | None, row: WorkflowRow) -> None:
        self._workflows[row.name] = row
        schedule = self._current(row.name).spec.schedule
        if before is None or before.version != row.version or before.cursor_us == UNSET or schedule is None:
            return
        at, count = next_firing(schedule, before.cursor_us), 0
        while at is not None and at <= row.cursor_us:
            key = ("consumptions", row.name, SCHEDULE, str(at), at)
            _hold(key in self.rows, "an instant of a schedule has passed without a run", row, at)
            at, count = next_firing(schedule, at), count + 1
        _hold(count or row.cursor_us == before.cursor_us, "a schedule moved without an instant", before, row)

    # what the actors did

    def publish(self, task: TaskRef, worker: str) -> None:
        """A worker makes the outputs of a task visible.

        Raises:
            BrokenError: they are not those of a done node.
        """
        run, _, name = task.node_run.rpartition("/")
        node = self._nodes.get((run, name))
        right = node is not None and (node.state, node.attempt, node.epoch) == ("done", task.attempt, task.epoch)
        _hold(right, "outputs become visible that no done node has made", task, worker, node)
        self.published[run, name].add((task, worker))
        _hold(len(self.published[run, name]) == 1, "a node's outputs are made visible twice", task, worker)

    def end(self, message: Ended) -> None:
        """A task really ended so at a worker."""
        self.ended[message.task, message.worker] = message.outcome
        if message.outcome in ("failed", "timed_out", "killed"):
            self._failing[message.task.node_run].add(message.task.attempt)

    # answers

    def answered(self, asked: Any, answer: dict[str, Any]) -> None:
        """Somebody was told so: it must be on record.

        Raises:
            BrokenError: it is not.
        """
        if "run" in answer and answer.get("state") != "skipped":
            _hold(("runs", answer["run"]) in self.rows, "a run was promised that is not on record", asked, answer)

    # the end

    def waits(self) -> list[Row]:
        """What is open."""
        return [
            row for row in self.rows.values()
            if (isinstance(row, RunRow) and row.state not in ENDED_RUN)
            or (isinstance(row, ConsumptionRow) and row.state == "waiting")
            or (isinstance(row, NodeRow) and row.state not in ENDED_NODE)
            or isinstance(row, OutboxRow)
        ]  # fmt: skip

    def close(self, facts: dict[tuple[str, str], int]) -> None:
        """Judges a world that is quiet.

        Args:
            facts: (subject, kind) -> the last position told by somebody outside.

        Raises:
            BrokenError: something was lost or doubled.
        """
        for name, node in self._nodes.items():
            if node.state == "done" and not node.origin:
                _hold(len(self.published[name]) == 1, "a done node's outputs were never made visible", node)
            failures = self._failed[name] + (node.state == "failed" and node.failures > self._failed[name])
            _hold(node.origin or node.failures == failures, "failures and attempts on record differ", node, failures)
        runs: Counter[str] = Counter()
        for row in self.rows.values():
            if isinstance(row, ConsumptionRow) and row.trigger != SCHEDULE:
                self._close_value(row, runs)
        for (subject, kind), position in facts.items():
            found = self.rows.get(("facts", subject, kind, ""))
            is_there = isinstance(found, FactRow) and found.position == position
            _hold(is_there, "the last value told is not on record", subject, kind, position, found)

    def _close_value(self, row: ConsumptionRow, runs: Counter[str]) -> None:
        graph = self._current(row.workflow)
        how = next((t.spec.consume.how for t in graph.triggers if t.spec.name == row.trigger), "")
        if how == "each":
            runs[row.run] += bool(row.run)
            _hold(runs[row.run] <= 1, "values of `each` share a run", row)
            may_skip = graph.spec.overlap.how == "skip_new"
            _hold(row.state == "consumed" or (may_skip and row.state == "skipped"), "a value was passed over", row)


def _grows(fact: FactRow) -> bool:
    return fact.kind in _GROWING and not fact.scope


def _hold(truth: Any, law: str, *about: Any) -> None:
    if not truth:
        raise BrokenError("\n    ".join([law, *map(repr, about)]))
