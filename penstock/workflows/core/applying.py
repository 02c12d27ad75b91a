"""Workflows as a whole: a new version, pause and resume, retirement."""

from __future__ import annotations

import heapq

from penstock.errors import WorkflowError
from penstock.store.meta.rows import DefinitionRow, PoolRow, WorkflowRow
from penstock.workflows.core.firing import UNSET, arm_schedule, await_triggers, forget_triggers
from penstock.workflows.core.graph import Graph
from penstock.workflows.core.requests import Apply, Pause, Resume, Retire, SetPool
from penstock.workflows.core.runs import workflow_of
from penstock.workflows.core.streams import apply_stream, forget_stream
from penstock.workflows.core.turn import Turn, dumps, replace
from penstock.workflows.spec.schedule import first_instant_us

__all__ = ["apply", "pause", "resume", "retire", "set_pool"]


def apply(turn: Turn, message: Apply) -> None:
    """Takes a version of a workflow in; what runs goes on with the version it was frozen with.

    Raises:
        WorkflowError: it was made from another version than the newest.
    """
    state = turn.state
    row = state.workflows.get(message.name)
    found = 0 if row is None else row.version
    newest = state.specs.get((message.name, found))
    same = newest is not None and newest.fingerprint == message.fingerprint
    if message.expect is not None and message.expect != found and not same:
        raise WorkflowError(
            f"apply workflow {message.name} over version {message.expect}",
            found=f"version {found}",
            remedy="someone else changed it: look at the difference and apply again",
        )
    version = found if same else found + 1
    graph = state.current(message.name) if same else Graph.of(message.spec, version)
    former = None if row is None else state.current(message.name)
    if not same:
        name = f"workflow/{message.name}"
        turn.put(None, DefinitionRow(
            name, version, message.fingerprint, message.spec, message.author, message.reason, turn.now_us
        ))  # fmt: skip
        state.graphs[message.name, version] = graph
    components = dumps(message.components)
    if row is None:
        after = WorkflowRow(
            message.name, "active", version, 1, _cursor(graph, None, turn.now_us), message.code, components,
            turn.now_us, "{}",
        )  # fmt: skip
    else:
        again = "active" if row.state == "retired" else row.state
        if same and (again, message.code, components) == (row.state, row.code, row.components):
            turn.answer.update(name=row.name, version=row.version, changed=False)
            return
        cursor = row.cursor_us if same else _cursor(graph, row, turn.now_us, former)
        truths = row.truths if same and row.state != "retired" else "{}"
        after = replace(
            row, state=again, version=version, revision=row.revision + 1, cursor_us=cursor, code=message.code,
            components=components, applied_us=turn.now_us, truths=truths,
        )  # fmt: skip
    if former is not None:
        _take_down(turn, former, graph)
    turn.put(row, after)
    _set_up(turn, after, graph, None if row is None or row.state == "retired" else former)
    turn.answer.update(name=after.name, version=version, changed=not same)


def _cursor(graph: Graph, row: WorkflowRow | None, now_us: int, former: Graph | None = None) -> int:
    """How far a schedule has fired: a changed one begins at its start, or now, and never makes again what it made."""
    schedule = graph.spec.schedule
    if row is not None and former is not None and former.spec.schedule == schedule:
        return row.cursor_us
    start = None if schedule is None else first_instant_us(schedule)
    if schedule is not None and start is None and schedule.by is not None:
        return row.cursor_us if row is not None and former is not None and former.spec.schedule else UNSET
    if schedule is None or start is None:
        return max(now_us, row.cursor_us if row is not None else 0)
    # `every` makes its first run at the end of the interval that begins at the start; `cron` may fire at the start.
    first = start if schedule.every is not None else start - 1
    return max(first, row.cursor_us) if row is not None and former is not None and former.spec.schedule else first


def _take_down(turn: Turn, former: Graph, graph: Graph) -> None:
    forget_triggers(turn, former.name, former)
    for plan in former.streams:
        stays = graph.nodes.get(plan.name)
        forget_stream(turn, former, plan, stop=stays is None or stays.spec.kind != "stream")
    kept = {trigger.spec.name for trigger in graph.triggers}
    for key in [key for key in turn.state.waiting if key[0] == former.name and key[1] not in kept]:
        for value in list(turn.state.waiting[key].values()):
            turn.put(value, replace(value, state="skipped"))


def _set_up(turn: Turn, row: WorkflowRow, graph: Graph, former: Graph | None) -> None:
    state = turn.state
    arm_schedule(turn, row)
    await_triggers(turn, row)
    for plan in graph.streams:
        apply_stream(turn, graph, plan, former)
    for key in [key for key in state.queued if key[0] == row.name]:
        by_priority = graph.spec.overlap.how == "priority"
        waiting = [state.runs[run] for run in state.queued[key]]
        state.queues[key] = [(-run.priority if by_priority else 0, run.seq, run.run) for run in waiting]
        heapq.heapify(state.queues[key])
    _wake(turn, row.name)


def _wake(turn: Turn, name: str) -> None:
    """Looks again at everything of a workflow that may have waited for it."""
    for key in [key for key in turn.state.queued if key[0] == name]:
        turn.admit[key] = None
    for key in [key for key in turn.state.waiting if key[0] == name]:
        turn.firing[key] = None


def pause(turn: Turn, message: Pause) -> None:
    """Holds back new runs.

    Raises:
        WorkflowError: there is no such workflow in service.
    """
    row = workflow_of(turn, message.name)
    if row.state != "paused":
        turn.put(row, replace(row, state="paused", revision=row.revision + 1))
    turn.answer.update(name=row.name, state="paused")


def resume(turn: Turn, message: Resume) -> None:
    """Ends a pause: intervals that have passed are made up for; of the instants of a cron only the next ones fire.

    Raises:
        WorkflowError: there is no such workflow in service.
    """
    row = workflow_of(turn, message.name)
    if row.state != "active":
        schedule = turn.state.current(row.name).spec.schedule
        cursor = turn.now_us if schedule and schedule.cron and not schedule.by else row.cursor_us
        after = replace(row, state="active", revision=row.revision + 1, cursor_us=max(cursor, row.cursor_us))
        turn.put(row, after)
        arm_schedule(turn, after)
        _wake(turn, row.name)
    turn.answer.update(name=row.name, state="active")


def retire(turn: Turn, message: Retire) -> None:
    """Takes a workflow out of service.

    Raises:
        WorkflowError: there is no such workflow in service.
    """
    row = workflow_of(turn, message.name)
    graph = turn.state.current(row.name)
    forget_triggers(turn, row.name, graph)
    for plan in graph.streams:
        forget_stream(turn, graph, plan, stop=True)
    turn.put(row, replace(row, state="retired", revision=row.revision + 1))
    turn.answer.update(name=row.name, state="retired")


def set_pool(turn: Turn, message: SetPool) -> None:
    """Sets how many tasks of a pool may be out together."""
    before = turn.state.pools.get(message.name)
    old = None if before is None else PoolRow(message.name, before)
    new = None if message.slots is None else PoolRow(message.name, message.slots)
    if old != new:
        turn.put(old, new)
    turn.dispatch = True
    turn.answer.update(pool=message.name, slots=message.slots)
