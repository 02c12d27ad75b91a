"""The step: (state, message, now) -> moves. And what a state read from the database must look at first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from penstock.store.meta.rows import NodeRow, RunRow, StreamRow
from penstock.workflows.core import applying, firing, runs, streams, tasks
from penstock.workflows.core.assignment import assignment
from penstock.workflows.core.moves import ENDED_NODE, ENDED_RUN, OUT
from penstock.workflows.core.requests import (
    Apply,
    FactGiven,
    KillRun,
    Message,
    Pause,
    Rerun,
    Resume,
    Retire,
    SetPool,
    SetStream,
    SignalGiven,
    StartRun,
    Tick,
)
from penstock.workflows.core.state import Timer, Worker
from penstock.workflows.core.turn import Core, Moves, Turn, replace
from penstock.workflows.messages import Beat, CommandDone, Ended, Hello, Progress, Report, Start, Started
from penstock.workflows.supervisor.interface import Observed

__all__ = ["recover", "step"]

_NONE: Final[Mapping[str, int]] = MappingProxyType({})


def step(core: Core, message: Message, now_us: int) -> Moves:
    """Takes one message in; the state evolves by exactly the changes that are given back.

    Args:
        core: the state.
        message: what has come; doubled, late and fenced ones change nothing.
        now_us: the present, not before that of the last step.

    Raises:
        WorkflowError: what was asked cannot be; nothing has changed, or else `core.broken` says so.
    """
    turn = Turn(core, now_us)
    try:
        _take(turn, message)
        _settle(turn)
    except BaseException:
        core.broken = core.broken or bool(turn.changes)
        raise
    return Moves(turn.changes, turn.effects, turn.answer)


def recover(core: Core, now_us: int, workers: Iterable[Worker] = (), slots: Mapping[str, int] = _NONE) -> Moves:
    """What a state read from the database asks for: waiting predicates, timers, and every effect that is owed.

    Args:
        core: the state as it was read.
        now_us: the present.
        workers: those that are known to be here.
        slots: what workers said of theirs, also those that were not heard of lately.
    """
    turn = Turn(core, now_us)
    state = turn.state
    state.slots.update(slots)
    for worker in workers:
        _hear(turn, worker.name, worker.slots)
        state.workers[worker.name].heard_us = worker.heard_us
    for workflow in state.workflows.values():
        if workflow.state == "retired":
            continue
        firing.arm_schedule(turn, workflow)
        firing.await_triggers(turn, workflow)
        graph = state.current(workflow.name)
        for plan in graph.streams:
            streams.await_stream(turn, graph, plan)
    for key in state.waiting:
        turn.firing[key] = None
    for key in state.queued:
        turn.admit[key] = None
    turn.effects.extend(streams.wanted(turn, row) for row in state.streams.values() if _has_node(turn, row))
    turn.effects.extend(streams.command_of(row) for row in state.outbox.values() if row.kind == "command")
    for run in list(state.runs.values()):
        if run.state not in ENDED_RUN:
            _recover_run(turn, run)
    turn.dispatch = True
    _settle(turn)
    return Moves(turn.changes, turn.effects, turn.answer)


def _has_node(turn: Turn, row: StreamRow) -> bool:
    return row.node in turn.state.graph(row.workflow, row.version).nodes


def _recover_run(turn: Turn, run: RunRow) -> None:
    if run.state == "waiting":
        return
    state, graph = turn.state, turn.state.plan(run.run)
    runs.arm_run(turn, run)
    turn.closing[run.run] = None
    for node in list(state.nodes[run.run].values()):
        tasks.arm(turn, node)
        if node.state == "waiting":
            tasks.await_edges(turn, run.run, graph.nodes[node.node])
        elif node.state == "starting" and not node.worker:
            turn.effects.append(Start(assignment(state, node, turn.settings.lease_us)))
        elif node.state == "stopping":
            tasks.send_kill(turn, node)
        if node.state in OUT and node.worker and node.worker not in state.workers:
            _hear(turn, node.worker, 0)


def _take(turn: Turn, message: Message) -> None:
    match message:
        case Ended():
            _hear(turn, message.worker)
            tasks.ended(turn, message)
        case Started():
            _hear(turn, message.worker)
            tasks.started(turn, message, message.worker)
        case Beat():
            _hear(turn, message.worker)
            for task in message.running:
                tasks.started(turn, task, message.worker)
        case Hello():
            _hello(turn, message)
        case Tick():
            _timers(turn)
        case Progress():
            pass
        case Report():
            streams.report(turn, message)
        case Observed():
            streams.observed(turn, message)
        case CommandDone():
            streams.command_done(turn, message)
        case _:
            _take_request(turn, message)


def _take_request(turn: Turn, message: Message) -> None:
    match message:
        case StartRun():
            runs.start_run(turn, message)
        case KillRun():
            runs.kill_run(turn, message)
        case Rerun():
            runs.rerun(turn, message)
        case FactGiven():
            _fact_given(turn, message)
        case SignalGiven():
            _signal_given(turn, message)
        case Apply():
            applying.apply(turn, message)
        case Pause():
            applying.pause(turn, message)
        case Resume():
            applying.resume(turn, message)
        case Retire():
            applying.retire(turn, message)
        case SetPool():
            applying.set_pool(turn, message)
        case SetStream():
            streams.set_stream(turn, message)


def _fact_given(turn: Turn, message: FactGiven) -> None:
    new = turn.tell(message.subject, message.kind, message.value, scope=message.scope, position=message.position)
    turn.answer.update(new=new, seq=turn.state.facts[message.subject, message.kind, message.scope].seq)


def _signal_given(turn: Turn, message: SignalGiven) -> None:
    if message.id:
        last = turn.state.facts.get((message.name, f"{message.kind}_id", message.id))
        if last is not None:
            turn.answer.update(new=False, seq=last.seq)
            return
        turn.tell(message.name, f"{message.kind}_id", True, scope=message.id)
    turn.tell(message.name, message.kind, message.value, scope=message.run)
    turn.answer.update(new=True, seq=turn.state.seq)


def _hear(turn: Turn, name: str, slots: int | None = None) -> None:
    """A worker lives; its lease runs anew."""
    if slots:
        turn.state.slots[name] = slots
    elif slots is None:
        slots = turn.state.slots.get(name, 1)
    worker = turn.state.workers.get(name)
    if worker is None:
        worker = turn.state.workers[name] = Worker(name, slots, turn.now_us)
        turn.state.wake_at(turn.now_us + turn.settings.lease_us, "lease", name)
        turn.dispatch = True
    worker.heard_us = turn.now_us
    if slots != worker.slots:
        worker.slots = slots
        turn.dispatch = True


def _hello(turn: Turn, message: Hello) -> None:
    """A worker comes: what it does not hold any more is lost, and what it never got is sent again."""
    _hear(turn, message.worker, message.slots)
    state = turn.state
    held = {task.node_run: task for task in message.running}
    for run, node in list(state.tasks.get(message.worker, ())):
        row = state.nodes[run][node]
        task = held.get(f"{run}/{node}")
        if task is None or task.epoch != row.epoch:
            tasks.lose(turn, row, f"worker {message.worker} came back without it")
    for task in message.running:
        tasks.started(turn, task, message.worker)
    for run, node in list(state.tasks.get("", ())):
        row = state.nodes[run][node]
        if row.state == "starting":
            turn.effects.append(Start(assignment(state, row, turn.settings.lease_us)))
    turn.dispatch = True


def _timers(turn: Turn) -> None:
    for timer in turn.state.due(turn.now_us):
        if timer.kind in ("retry", "overtime", "unanswered", "kill", "deadline"):
            _node_timer(turn, timer)
        elif timer.kind == "look":
            turn.touched[timer.of] = None
        elif timer.kind == "schedule":
            firing.fire_schedule(turn, *timer.of)
        elif timer.kind == "window":
            turn.firing[timer.of[0], timer.of[1]] = None
        elif timer.kind == "lease":
            _lease(turn, timer.of[0])
        elif timer.kind == "run_timeout":
            runs.time_out(turn, timer.of[0])


def _lease(turn: Turn, name: str) -> None:
    """The lease of a worker may be over: then its tasks are given up, and others get them."""
    worker = turn.state.workers.get(name)
    if worker is None:
        return
    until = worker.heard_us + turn.settings.lease_us
    if turn.now_us < until:
        turn.state.wake_at(until, "lease", name)
        return
    del turn.state.workers[name]
    for run, node in list(turn.state.tasks.get(name, ())):
        tasks.lose(turn, turn.state.nodes[run][node], f"worker {name} was not heard of for its lease")


def _node_timer(turn: Turn, timer: Timer) -> None:
    row = turn.state.nodes.get(timer.of[0], {}).get(timer.of[1])
    if row is None or row.state in ENDED_NODE:
        return
    if timer.kind == "deadline":
        _late(turn, row)
        return
    if row.epoch != timer.of[2]:
        return
    if timer.kind == "retry" and row.state == "retrying":
        turn.put(row, replace(row, state="ready", ready_us=turn.now_us))
        turn.dispatch = True
    elif timer.kind == "overtime" and row.state == "running":
        tasks.lose(turn, row, "it ran beyond its time-out, and its worker did not tell")
    elif timer.kind == "unanswered" and row.state == "starting" and not row.worker:
        turn.effects.append(Start(assignment(turn.state, row, turn.settings.lease_us)))
        tasks.arm(turn, row)
    elif timer.kind == "kill" and row.state == "stopping":
        _kill_again(turn, row)


def _kill_again(turn: Turn, row: NodeRow) -> None:
    """Asks again for the end of a task; one that no worker ever answered for is given up instead."""
    if not row.worker:
        tasks.lose(turn, row, "no worker has it")
        return
    tasks.send_kill(turn, row)
    tasks.arm(turn, row)


def _late(turn: Turn, row: NodeRow) -> None:
    if row.late_us is None:
        turn.put(row, replace(row, late_us=turn.now_us))
        turn.tell(f"{row.workflow}.{row.node}", "status", "late")


def _settle(turn: Turn) -> None:
    """Follows what the message has touched until nothing is left to do."""
    while True:
        if turn.touched:
            owner = next(iter(turn.touched))
            del turn.touched[owner]
            _LOOK[owner[0]](turn, owner)
        elif turn.closing:
            run = next(iter(turn.closing))
            del turn.closing[run]
            runs.close(turn, run)
        elif turn.admit:
            key = next(iter(turn.admit))
            del turn.admit[key]
            runs.admit(turn, key)
        elif turn.firing:
            key = next(iter(turn.firing))
            del turn.firing[key]
            firing.consume(turn, key)
        elif turn.dispatch:
            tasks.dispatch(turn)
        else:
            break
    streams.watch_streams(turn)


_LOOK = {
    "edge": tasks.look_at_edge,
    "stream": streams.look_at_stream,
    "condition": firing.look_at_condition,
    "schedule": firing.look_at_schedule,
}
