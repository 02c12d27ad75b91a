"""Stream nodes: what is wanted of them, by their edges and by hand, and what is told of them."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.errors import WorkflowError, nearest
from penstock.store.meta.rows import OutboxRow, StreamRow
from penstock.workflows.core.graph import Graph, NodePlan
from penstock.workflows.core.lookup import lookup_outside
from penstock.workflows.core.requests import SetStream
from penstock.workflows.core.turn import Turn, dumps, replace
from penstock.workflows.core.watching import Owner, watch
from penstock.workflows.messages import Command, CommandDone, FactValue, Report, Watch
from penstock.workflows.spec.predicate import FactRef, Scope
from penstock.workflows.supervisor.interface import Observed, Wanted

__all__ = ["await_stream", "command_done", "look_at_stream", "observed", "report", "set_stream", "watch_streams"]
__all__ += ["apply_stream", "command_of", "forget_stream", "wanted"]


def wanted(turn: Turn, row: StreamRow) -> Wanted:
    """What is wanted of a stream, whole."""
    workflow = turn.state.workflows[row.workflow]
    node = turn.state.graph(row.workflow, row.version).nodes[row.node].spec
    return Wanted(
        job=row.job,
        workflow=row.workflow,
        version=row.version,
        node=row.node,
        component=node.component,
        component_version=msgspec.json.decode(workflow.components).get(node.component, ""),
        parameters=dict(node.parameters),
        inputs=dict(node.inputs),
        code=workflow.code,
        desired="running" if row.desired == "running" else "stopped",
        held=row.gate == "held",
        generation=row.generation,
    )


def command_of(row: OutboxRow) -> Command:
    """A command as it lies in the outbox."""
    return msgspec.json.decode(row.body, type=Command)


def apply_stream(turn: Turn, graph: Graph, plan: NodePlan, former: Graph | None) -> None:
    """Makes a stream node of a new version what it shall be; a changed one gives way to a new process.

    `former` is the version in service before, None if there was none: then the stream begins as its edges say.
    """
    job = f"{graph.name}.{plan.name}"
    row = turn.state.streams.get(job)
    desired = "stopped" if any(edge.action == "start" for edge in plan.edges) else "running"
    gate = "held" if any(edge.action == "gate" for edge in plan.edges) else "open"
    old = former.nodes.get(plan.name) if former is not None else None
    if row is None:
        made = StreamRow(
            job, graph.name, plan.name, graph.version, desired, gate, 1, 0, "{}", 0, "stopped", "", 1, turn.now_us
        )
        turn.put(None, made)
        turn.effects.append(wanted(turn, made))
    elif old is None or old.spec.kind != "stream":
        generation = row.generation + 1
        _change(turn, row, version=graph.version, generation=generation, edges="{}", desired=desired, gate=gate)
    else:
        generation = row.generation + (_definition(old) != _definition(plan))
        if old.spec.edges == plan.spec.edges:
            _change(turn, row, version=graph.version, generation=generation)
        else:
            _change(turn, row, version=graph.version, generation=generation, edges="{}", gate=gate)
    await_stream(turn, graph, plan)


def _definition(plan: NodePlan) -> dict[str, Any]:
    return plan.spec.model_dump(include={"component", "parameters", "inputs", "isolation"})


def await_stream(turn: Turn, graph: Graph, plan: NodePlan) -> None:
    """Lets the edges of a stream wait for their facts."""
    job = f"{graph.name}.{plan.name}"
    for number, edge in enumerate(plan.edges):
        owner = ("stream", job, number)
        watch(turn.watching, turn.state, owner, edge.predicate, Scope(turn.now_us))
        turn.touched[owner] = None


def forget_stream(turn: Turn, graph: Graph, plan: NodePlan, *, stop: bool) -> None:
    """Lets the edges of a stream wait no more, and stops it if its node is gone."""
    job = f"{graph.name}.{plan.name}"
    for number in range(len(plan.edges)):
        turn.watching.remove(("stream", job, number))
    row = turn.state.streams.get(job)
    if stop and row is not None:
        _change(turn, row, desired="stopped")


def _change(turn: Turn, row: StreamRow, **values: Any) -> StreamRow:
    """Changes what is wanted of a stream and says so to the supervisor."""
    after: StreamRow = replace(row, **values)
    if after == row:
        return row
    after = replace(after, revision=row.revision + 1, updated_us=turn.now_us)
    turn.put(row, after)
    if any(getattr(row, name) != getattr(after, name) for name in ("desired", "gate", "generation", "version")):
        turn.effects.append(wanted(turn, after))
    return after


def look_at_stream(turn: Turn, owner: Owner) -> None:
    """Looks at an edge of a stream again: a gate follows its truth, the others act each time it comes true anew."""
    _, job, number = owner
    row = turn.state.streams.get(job)
    if row is None or owner not in turn.watching:
        return
    graph = turn.state.current(row.workflow)
    edge = graph.nodes[row.node].edges[number]
    scope, lookup = Scope(turn.now_us), lookup_outside(turn.state)
    found = _value(turn, edge.predicate.bare) if edge.predicate.bare else edge.predicate.evaluate(lookup, scope) is True
    if edge.uses_now and (at := edge.predicate.changes_at(lookup, scope)) is not None:
        turn.state.wake_at(at, "look", *owner)
    seen = msgspec.json.decode(row.edges)
    before = seen.get(str(number))
    if before == found and str(number) in seen:
        return
    seen[str(number)] = found
    row = _change(turn, row, edges=dumps(seen))
    if edge.action == "gate":
        _gate(turn, row, graph, seen)
    elif found and (edge.action in ("start", "stop") or before is not None):
        # What is true when it is first looked at starts or stops a stream; it is no reason to restart or reload one.
        act(turn, row, edge.action)


def _value(turn: Turn, ref: FactRef) -> int:
    """A bare fact counts by its seq: each new value is another."""
    row = turn.state.facts.get((ref.subject, ref.kind, ""))
    return 0 if row is None else row.seq


def _gate(turn: Turn, row: StreamRow, graph: Graph, seen: dict[str, Any]) -> None:
    edges = graph.nodes[row.node].edges
    shut = any(edge.action == "gate" and not seen.get(str(number)) for number, edge in enumerate(edges))
    _change(turn, row, gate="held" if shut else "open")


def act(turn: Turn, row: StreamRow, action: str) -> None:
    """Does what an edge or a user says to a stream; a reload is a command, kept until it is answered."""
    if action == "start":
        _change(turn, row, desired="running")
    elif action == "stop":
        _change(turn, row, desired="stopped")
    elif action == "restart":
        _change(turn, row, generation=row.generation + 1)
    elif action == "reload" and row.desired == "running":
        number = row.number + 1
        command = Command(row.job, row.epoch, number, "reload")
        _change(turn, row, number=number)
        body = msgspec.json.encode(command).decode()
        turn.put(None, OutboxRow(f"command/{row.job}/{number}", "command", body, turn.now_us))
        turn.effects.append(command)


def command_done(turn: Turn, message: CommandDone) -> None:
    """A command has taken effect: it need not be asked again."""
    row = turn.state.outbox.get(f"command/{message.job}/{message.number}")
    if row is not None:
        turn.put(row, None)


def observed(turn: Turn, message: Observed) -> None:
    """What the supervisor sees a stream do; older epochs change nothing."""
    row = turn.state.streams.get(message.job)
    if row is None or message.epoch < row.epoch:
        return
    if (message.epoch, message.state, message.error) != (row.epoch, row.state, row.error):
        _change(turn, row, epoch=message.epoch, state=message.state, error=message.error)
    if message.state != row.state or (row.job, "status", "") not in turn.state.facts:
        turn.tell(row.job, "status", message.state)
    if message.epoch != row.epoch:
        turn.state.told.pop(row.job, None)
        for subject in [row.job, *(s for s, job in turn.state.makers.items() if job == row.job)]:
            for ref in [ref for ref in turn.watching.heaps if ref.subject == subject]:
                turn.watching.moved[ref] = None


def report(turn: Turn, message: Report) -> None:
    """Progress told by a stream; from a process of an older epoch it changes nothing."""
    row = turn.state.streams.get(message.job)
    if row is None or message.epoch < row.epoch:
        return
    if message.epoch > row.epoch:
        row = _change(turn, row, epoch=message.epoch)
    for fact in message.facts:
        _take(turn, row, fact, message.epoch)


def _take(turn: Turn, row: StreamRow, fact: FactValue, epoch: int) -> None:
    subject = row.job if fact.subject in ("", row.node, row.job) else fact.subject
    if turn.state.makers.get(subject) != row.job:
        turn.state.makers[subject] = row.job
        for ref in [ref for ref in turn.watching.heaps if ref.subject == subject]:
            turn.watching.moved[ref] = None
    try:
        turn.tell(subject, fact.kind, fact.value, scope=fact.scope, epoch=epoch, position=fact.position)
    except WorkflowError as error:  # the rest of what it tells is good, and it will tell again
        _change(turn, turn.state.streams[row.job], error=str(error))


def set_stream(turn: Turn, message: SetStream) -> None:
    """Does what a user says to a stream.

    Raises:
        WorkflowError: there is no such stream.
    """
    row = turn.state.streams.get(message.job)
    if row is None:
        raise WorkflowError(
            f"{message.action} stream {message.job}", found="no such stream",
            remedy=nearest(message.job, turn.state.streams),
        )  # fmt: skip
    act(turn, row, message.action)
    after = turn.state.streams[message.job]
    turn.answer.update(job=after.job, desired=after.desired, generation=after.generation)


def watch_streams(turn: Turn) -> None:
    """Pushes the smallest awaited values down to the streams that tell these facts, where they have changed."""
    if not turn.watching.moved:
        return
    jobs = {turn.state.makers.get(ref.subject, ref.subject) for ref in turn.watching.moved}
    turn.watching.moved.clear()
    for job in sorted(jobs & turn.state.streams.keys()):
        found = tuple(
            (ref.subject, ref.kind, value)
            for ref in sorted(turn.watching.heaps)
            if turn.state.makers.get(ref.subject, ref.subject) == job
            and (value := turn.watching.smallest(ref)) is not None
        )
        if turn.state.told.get(job, ()) != found:
            turn.state.told[job] = found
            turn.effects.append(Watch(job, found))
