"""Runs: how they are made, which of them go on together, how they end, and how they are run again."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.errors import WorkflowError, nearest
from penstock.store.meta.rows import NodeRow, RunRow, WorkflowRow
from penstock.workflows.core.graph import Graph
from penstock.workflows.core.lookup import SWITCHED_OFF
from penstock.workflows.core.moves import ENDED_RUN
from penstock.workflows.core.requests import KillRun, Rerun, StartRun
from penstock.workflows.core.tasks import await_edges, kill_node, make_node
from penstock.workflows.core.turn import Turn, dumps, replace
from penstock.workflows.spec.check import value_fits

__all__ = ["admit", "close", "kill_run", "make_run", "parameters_of", "rerun", "room_for", "start_run", "workflow_of"]


def workflow_of(turn: Turn, name: str) -> WorkflowRow:
    """A workflow that is in service.

    Raises:
        WorkflowError: there is none, or it is retired.
    """
    row = turn.state.workflows.get(name)
    if row is None or row.state == "retired":
        found = "no such workflow" if row is None else "it is retired"
        raise WorkflowError(f"use workflow {name}", found=found, remedy=nearest(name, turn.state.workflows))
    return row


def parameters_of(graph: Graph, given: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a run: what is given, checked, and the defaults of the rest.

    Raises:
        WorkflowError: one is unknown, missing, or of another type.
    """
    known = {parameter.name: parameter for parameter in graph.spec.parameters}
    for name, value in given.items():
        if name not in known:
            raise WorkflowError(f"set parameter {name} of {graph.name}", found=repr(name), remedy=nearest(name, known))
        if not (value is None and not known[name].required) and not value_fits(known[name], value):
            raise WorkflowError(
                f"set parameter {name} of {graph.name}",
                found=repr(value),
                remedy=f"give it the type {known[name].type}",
            )
    missing = [p.name for p in known.values() if p.required and p.name not in given]
    if missing:
        raise WorkflowError(
            f"run {graph.name}", found=f"no value for {', '.join(missing)}", remedy="give every required parameter"
        )
    return {**graph.defaults, **given}


def overlap_key(graph: Graph, parameters: dict[str, Any]) -> str:
    """The part of the overlap that a run belongs to."""
    name = graph.spec.overlap.key
    return "" if name is None else dumps(parameters.get(name))


def room_for(turn: Turn, workflow: str, key: str) -> bool:
    """Whether a run made now could begin at once."""
    state = turn.state
    if state.workflows[workflow].state != "active" or state.queued.get((workflow, key)):
        return False
    return len(state.going.get((workflow, key), ())) < state.current(workflow).spec.overlap.limit


def make_run(
    turn: Turn,
    run: str,
    workflow: WorkflowRow,
    trigger: str,
    parameters: dict[str, Any],
    *,
    interval: tuple[int, int] | None = None,
    priority: int | None = None,
    author: str = "",
    reason: str = "",
    frozen: RunRow | None = None,
    origin: str = "",
) -> RunRow | None:
    """Makes a run and lets it wait its turn; None where the overlap says that it is skipped.

    Args:
        turn: the turn.
        run: its id.
        workflow: what it runs.
        trigger: what made it.
        parameters: all of them, checked.
        interval: the event time it is for.
        priority: instead of the workflow's.
        author: who asked.
        reason: why.
        frozen: a run whose definition, code and components it takes over.
        origin: the run that it runs again.
    """
    state = turn.state
    graph = state.current(workflow.name)
    key = (workflow.name, overlap_key(graph, parameters))
    overlap = graph.spec.overlap
    waiting, going = state.queued.get(key, {}), state.going.get(key, {})
    if overlap.how == "skip_new" and len(waiting) + len(going) >= overlap.limit:
        return None
    if overlap.how in ("keep_newest", "replace_running"):
        for other in list(waiting):
            _end_run(turn, state.runs[other], "superseded", f"run {run} is newer")
    if overlap.how == "replace_running":
        _make_room(turn, list(going), overlap.limit, run)
    source = frozen or workflow
    low, high = interval or (None, None)
    row = RunRow(
        run, workflow.name, source.version, trigger, key[1], graph.spec.priority if priority is None else priority,
        turn.next_seq(), low, high, dumps(parameters), source.code, source.components, origin, author, reason,
        turn.now_us, "waiting", 0, None, None, "",
    )  # fmt: skip
    turn.put(None, row)
    turn.admit[key] = None
    return row


def _make_room(turn: Turn, going: list[str], limit: int, run: str) -> None:
    """Ends the oldest runs that go on, so that one more has room when they have ended."""
    staying = [other for other in going if turn.state.runs[other].state == "running"]
    for other in staying[: max(0, len(staying) - limit + 1)]:
        _stop(turn, turn.state.runs[other], "stopping", f"replaced by run {run}")


def admit(turn: Turn, key: tuple[str, str]) -> None:
    """Begins the runs that wait, in their order, as far as the overlap has room."""
    state = turn.state
    workflow = state.workflows[key[0]]
    limit = state.current(key[0]).spec.overlap.limit
    while workflow.state != "paused" and len(state.going.get(key, ())) < limit:
        row = state.next_queued(key)
        if row is None:
            break
        _begin(turn, row)
    for trigger in state.current(key[0]).triggers:
        if (key[0], trigger.spec.name) in state.waiting:
            turn.firing[key[0], trigger.spec.name] = None


def _begin(turn: Turn, row: RunRow) -> None:
    state = turn.state
    after = replace(row, state="running", epoch=row.epoch + 1, started_us=turn.now_us)
    turn.put(row, after)
    arm_run(turn, after)
    graph = state.plan(row.run)
    there = state.nodes[row.run]
    for plan in graph.batch:
        if plan.name not in there:
            make_node(turn, row.run, plan)
    for plan in graph.batch:
        if there[plan.name].state == "waiting":
            await_edges(turn, row.run, plan)
    turn.closing[row.run] = None


def arm_run(turn: Turn, row: RunRow) -> None:
    """Sets the timer of a run's time-out."""
    timeout = turn.state.plan(row.run).spec.timeout
    if timeout is not None and row.started_us is not None and row.state == "running":
        turn.state.wake_at(row.started_us + timeout, "run_timeout", row.run)


def close(turn: Turn, run: str) -> None:
    """Ends a run whose nodes have all ended; on a failure, stops the rest if the workflow says so."""
    state = turn.state
    row = state.runs[run]
    if row.state in ENDED_RUN or row.state == "waiting":
        return
    graph = state.plan(run)
    nodes = state.nodes[run]
    failed = [nodes[n] for n in state.failed.get(run, ()) if graph.nodes[n].spec.on_failure == "fail"]
    if state.left[run] == 0:
        final = {"stopping": "killed", "failing": "failed"}.get(row.state, "failed" if failed else "done")
        error = row.error or (f"{failed[0].node}: {failed[0].error}" if failed else "")
        _end_run(turn, row, final, error)
    elif failed and row.state == "running" and graph.spec.failure == "stop":
        _stop(turn, row, "failing", f"{failed[0].node}: {failed[0].error}")


def _stop(turn: Turn, row: RunRow, state: str, reason: str) -> None:
    """Lets a run end early: what has not begun does not, what is at a worker is ended."""
    after = replace(row, state=state, error=reason)
    turn.put(row, after)
    for node in list(turn.state.nodes[row.run].values()):
        kill_node(turn, turn.state.nodes[row.run][node.node], reason)
    turn.closing[row.run] = None


def _end_run(turn: Turn, row: RunRow, state: str, error: str) -> None:
    turn.put(row, replace(row, state=state, ended_us=turn.now_us, error=error))
    turn.admit[row.workflow, row.overlap_key] = None


def time_out(turn: Turn, run: str) -> None:
    """The time-out of a run has passed."""
    row = turn.state.runs.get(run)
    if row is not None and row.state == "running":
        _stop(turn, row, "failing", "timed out")


def start_run(turn: Turn, message: StartRun) -> None:
    """Takes a user's run in; the same id again is answered with the run that is there.

    Raises:
        WorkflowError: the workflow, a parameter or a node is not what it should be.
    """
    found = turn.state.runs.get(message.run)
    if found is not None:
        turn.answer.update(run=found.run, state=found.state)
        return
    _check_run_id(message.run)
    workflow = workflow_of(turn, message.workflow)
    graph = turn.state.current(workflow.name)
    parameters = parameters_of(graph, message.parameters)
    for name in message.off:
        if name not in graph.nodes:
            raise WorkflowError(f"switch off node {name}", found=repr(name), remedy=nearest(name, graph.nodes))
    low, high = message.interval_start_us, message.interval_end_us
    if (low is None) != (high is None) or (low is not None and high is not None and low >= high):
        raise WorkflowError(
            "run for an interval", found=f"[{low}, {high})", remedy="give a start before its end, or neither"
        )
    interval = None if low is None or high is None else (low, high)
    row = make_run(
        turn, message.run, workflow, "manual", parameters, interval=interval, priority=message.priority,
        author=message.author, reason=message.reason,
    )  # fmt: skip
    if row is None:
        turn.answer.update(run=message.run, state="skipped")
        return
    for name in message.off:
        make_node(turn, row.run, graph.nodes[name], off=True)
    turn.answer.update(run=row.run, state=row.state)


def _check_run_id(run: str) -> None:
    if not run or "/" in run or len(run) > 200:
        raise WorkflowError("name a run", found=repr(run), remedy="use up to 200 characters without /")


def _known(turn: Turn, run: str) -> RunRow:
    row = turn.state.runs.get(run)
    if row is None:
        raise WorkflowError(f"use run {run}", found="no such run", remedy="list the runs with `penstock run ls`")
    return row


def kill_run(turn: Turn, message: KillRun) -> None:
    """Ends a run for a user; one that has ended stays as it is.

    Raises:
        WorkflowError: there is no such run.
    """
    row = _known(turn, message.run)
    reason = message.reason or f"killed by {message.author or 'a user'}"
    if row.state == "waiting":
        _end_run(turn, row, "killed", reason)
    elif row.state in ("running", "failing"):
        _stop(turn, row, "stopping", reason)
    turn.answer.update(run=row.run, state=turn.state.runs[row.run].state)


def rerun(turn: Turn, message: Rerun) -> None:
    """Makes a run of what another was; nodes whose result stands are taken over with it.

    Raises:
        WorkflowError: there is no such run or node, or the run has not ended.
    """
    found = turn.state.runs.get(message.run)
    if found is not None:
        turn.answer.update(run=found.run, state=found.state)
        return
    _check_run_id(message.run)
    origin = _known(turn, message.origin)
    if origin.state not in ENDED_RUN:
        raise WorkflowError(f"run {origin.run} again", found=origin.state, remedy="wait for its end, or kill it")
    workflow = workflow_of(turn, origin.workflow)
    frozen = origin if message.how == "same" else None
    version = origin.version if frozen else workflow.version
    graph = turn.state.graph(workflow.name, version)
    parameters = msgspec.json.decode(origin.parameters)
    if frozen is None:
        names = {parameter.name for parameter in graph.spec.parameters}
        parameters = parameters_of(graph, {name: value for name, value in parameters.items() if name in names})
    if message.from_node and message.from_node not in graph.nodes:
        raise WorkflowError(
            f"run again from {message.from_node}", found=repr(message.from_node),
            remedy=nearest(message.from_node, graph.nodes),
        )  # fmt: skip
    low, high = origin.interval_start_us, origin.interval_end_us
    row = make_run(
        turn, message.run, workflow, "rerun", parameters, interval=None if low is None or high is None else (low, high),
        priority=origin.priority, author=message.author, reason=message.reason, frozen=frozen, origin=origin.run,
    )  # fmt: skip
    if row is None:
        turn.answer.update(run=message.run, state="skipped")
        return
    for node in _taken_over(turn, origin, graph, message):
        turn.put(None, replace(node, run=row.run, created_us=row.created_us, origin=node.origin or origin.run))
    turn.answer.update(run=row.run, state=row.state)


def _taken_over(turn: Turn, origin: RunRow, graph: Graph, message: Rerun) -> list[NodeRow]:
    nodes = turn.state.nodes[origin.run]
    again: set[str] = set()
    if message.from_node:
        again.add(message.from_node)
    elif not message.only_failed:
        return []
    again.update(name for name, row in nodes.items() if row.state != "done" and row.origin != SWITCHED_OFF)
    left_out = graph.downstream(frozenset(again))
    return [row for name, row in nodes.items() if name in graph.nodes and name not in left_out]
