"""Bugs to be found: each takes one safeguard out of the production code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock.store.meta.rows import ConsumptionRow, FactRow, OutboxRow, RowChange
from penstock.store.meta.rows_store import merge
from penstock.workflows.core import firing, runs, step, tasks, turn
from penstock.workflows.core.moves import ENDED_NODE
from penstock.workflows.messages import Acknowledged, Ended, Started
from penstock.workflows.scheduler import Scheduler

Plant = Callable[[pytest.MonkeyPatch], None]


def _as_if_its_own(of: turn.Turn, task: Any) -> Any:
    """The task as its node's row has it now: nothing is old any more."""
    row = tasks._of_task(of, task)
    return task if row is None else turn.replace(task, attempt=row.attempt, epoch=row.epoch)


def fence_of_ends_removed(patch: pytest.MonkeyPatch) -> None:
    ended = tasks.ended
    patch.setattr(tasks, "ended", lambda t, m: ended(t, turn.replace(m, task=_as_if_its_own(t, m.task))))


def old_start_accepted(patch: pytest.MonkeyPatch) -> None:
    started = tasks.started

    def accept(of: turn.Turn, message: Any, worker: str) -> None:
        task = message.task if isinstance(message, Started) else message
        started(of, _as_if_its_own(of, task), worker)

    patch.setattr(tasks, "started", accept)


def _apart(patch: pytest.MonkeyPatch, kind: type, *, first: bool) -> None:
    """Rows of a kind are committed in a transaction of their own."""

    def finish(self: Any, core: Any, changes: list[RowChange], effects: list[Any]) -> None:
        merged = merge(changes)
        some = [change for change in merged if isinstance(change.after, kind)]
        rest = [change for change in merged if not isinstance(change.after, kind)]
        for part in (some, rest) if first else (rest, some):
            self._store.commit(part)
        self._send(effects)
        core.state.forget_ended(256)

    patch.setattr(Scheduler, "_finish", finish)


def facts_committed_apart(patch: pytest.MonkeyPatch) -> None:
    _apart(patch, FactRow, first=True)


def consumption_committed_after_the_run(patch: pytest.MonkeyPatch) -> None:
    _apart(patch, ConsumptionRow, first=False)


def sent_before_commit(patch: pytest.MonkeyPatch) -> None:
    def finish(self: Any, core: Any, changes: list[RowChange], effects: list[Any]) -> None:
        self._send(effects)
        self._store.commit(merge(changes))
        core.state.forget_ended(256)

    patch.setattr(Scheduler, "_finish", finish)


def lease_not_renewed(patch: pytest.MonkeyPatch) -> None:
    hear = step._hear

    def deaf(of: turn.Turn, name: str, slots: int | None = None) -> None:
        before = of.state.workers.get(name)
        heard_us = None if before is None else before.heard_us
        hear(of, name, slots)
        if heard_us is not None:
            of.state.workers[name].heard_us = heard_us

    patch.setattr(step, "_hear", deaf)


def end_taken_twice(patch: pytest.MonkeyPatch) -> None:
    ended = tasks.ended

    def twice(of: turn.Turn, message: Ended) -> None:
        row = tasks._of_task(of, message.task)
        if row is not None and row.state == "done" and row.epoch == message.task.epoch:
            tasks._done(of, row, message)
        ended(of, message)

    patch.setattr(turn, "check_move", lambda before, after: None)
    patch.setattr(tasks, "ended", twice)


def retry_counted_twice(patch: pytest.MonkeyPatch) -> None:
    failed = tasks._failed

    def twice(of: turn.Turn, row: Any, outcome: str, error: str) -> None:
        counted = turn.replace(row, failures=row.failures + 1)
        of.put(row, counted)
        failed(of, counted, outcome, error)

    patch.setattr(tasks, "_failed", twice)


def one_run_too_many(patch: pytest.MonkeyPatch) -> None:
    admit = runs.admit

    def more(of: turn.Turn, key: tuple[str, str]) -> None:
        admit(of, key)
        row = of.state.next_queued(key)
        going = len(of.state.going.get(key, ()))
        if row is not None and going == of.state.current(key[0]).spec.overlap.limit:
            runs._begin(of, row)

    patch.setattr(runs, "admit", more)


def one_task_too_many(patch: pytest.MonkeyPatch) -> None:
    start = tasks._start

    def more(of: turn.Turn, row: Any) -> None:
        start(of, row)
        for heap in list(of.state.ready.values()):
            if heap and tasks._is_ready(of, heap[0]):
                _, _, _, run, node = heap[0]
                start(of, of.state.nodes[run][node])
                return

    patch.setattr(tasks, "_start", more)


def triggers_forgotten_by_a_restart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(firing, "await_triggers", lambda of, workflow: None)


def command_not_kept(patch: pytest.MonkeyPatch) -> None:
    put = turn.Turn.put

    def forget(self: turn.Turn, before: Any, after: Any) -> None:
        if not isinstance(after or before, OutboxRow):
            put(self, before, after)

    patch.setattr(turn.Turn, "put", forget)


def lost_task_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tasks, "lose", lambda of, row, reason: None)


def start_not_sent_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "Start", lambda order: _Nothing())


class _Nothing:
    """An effect that reaches nobody."""


def another_workers_end_accepted(patch: pytest.MonkeyPatch) -> None:
    ended = tasks.ended

    def accept(of: turn.Turn, message: Ended) -> None:
        row = tasks._of_task(of, message.task)
        if row is not None and (row.state, row.epoch) == ("done", message.task.epoch):
            of.effects.append(Acknowledged(message.task, accepted=True, worker=message.worker))
        else:
            ended(of, message)

    patch.setattr(tasks, "ended", accept)


def end_not_acknowledged_again(patch: pytest.MonkeyPatch) -> None:
    ended = tasks.ended

    def once(of: turn.Turn, message: Ended) -> None:
        row = tasks._of_task(of, message.task)
        if row is None or row.state not in ENDED_NODE:
            ended(of, message)

    patch.setattr(tasks, "ended", once)


PLANTED: tuple[Plant, ...] = (
    fence_of_ends_removed, old_start_accepted, facts_committed_apart, consumption_committed_after_the_run,
    sent_before_commit, lease_not_renewed, end_taken_twice, retry_counted_twice, one_run_too_many, one_task_too_many,
    triggers_forgotten_by_a_restart, command_not_kept, lost_task_kept, start_not_sent_again,
    end_not_acknowledged_again, another_workers_end_accepted,
)  # fmt: skip
