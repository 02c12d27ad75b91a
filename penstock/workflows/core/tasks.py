"""Nodes of runs: when they may start, who gets them, how they end, and when they are tried again."""

from __future__ import annotations

import heapq

from penstock.errors import WorkflowError
from penstock.store.meta.rows import AttemptRow, NodeRow
from penstock.workflows.core.assignment import assignment, task_of
from penstock.workflows.core.graph import NodePlan
from penstock.workflows.core.lookup import SWITCHED_OFF, lookup_in_run, scope_of
from penstock.workflows.core.moves import ENDED_NODE, OUT
from penstock.workflows.core.possible import can_come_true
from penstock.workflows.core.turn import Turn, dumps, replace
from penstock.workflows.core.watching import Owner, watch
from penstock.workflows.messages import Acknowledged, Ended, Kill, Start, Started, TaskRef
from penstock.workflows.spec.predicate import FactRef

__all__ = ["arm", "await_edges", "dispatch", "end_node", "ended", "kill_node", "look_at_edge", "lose", "make_node"]
__all__ += ["send_kill", "started"]


def make_node(turn: Turn, run: str, plan: NodePlan, *, off: bool = False) -> None:
    """Puts a node of a run that begins, and lets it wait for its edges, or not at all."""
    row = turn.state.runs[run]
    node = NodeRow(
        run, plan.name, row.workflow, row.created_us, "skipped" if off else "waiting", 0, 0, 0, "",
        None, None, turn.now_us if off else None, None, None, "{}", "{}",
        "switched off" if off else "", SWITCHED_OFF if off else "",
    )  # fmt: skip
    turn.put(None, node)
    if not off:
        arm(turn, node)


def arm(turn: Turn, row: NodeRow) -> None:
    """Sets the timers that a node's row asks for, also after a restart."""
    plan = turn.state.plan(row.run).nodes[row.node].spec
    if plan.deadline is not None and row.late_us is None and row.state not in ENDED_NODE:
        turn.state.wake_at(row.created_us + plan.deadline, "deadline", row.run, row.node)
    if row.state == "retrying" and row.retry_us is not None:
        turn.state.wake_at(row.retry_us, "retry", row.run, row.node, row.epoch)
    if row.state == "running" and plan.timeout is not None and row.started_us is not None:
        at = row.started_us + plan.timeout + turn.settings.overtime_us
        turn.state.wake_at(at, "overtime", row.run, row.node, row.epoch)
    if row.state == "starting" and not row.worker:
        turn.state.wake_at(turn.now_us + turn.settings.lease_us, "unanswered", row.run, row.node, row.epoch)
    if row.state == "stopping":
        turn.state.wake_at(turn.now_us + turn.settings.kill_again_us, "kill", row.run, row.node, row.epoch)


def await_edges(turn: Turn, run: str, plan: NodePlan) -> None:
    """Lets a waiting node wait for its edges; one without any is ready."""
    state, watching = turn.state, turn.watching
    scope = scope_of(state, run, turn.now_us)
    graph = state.plan(run)
    local = {subject: (run, name) for subject, name in graph.local.items()} if plan.edges else {}
    watching.unmet[run, plan.name] = set(range(len(plan.edges)))
    for number, edge in enumerate(plan.edges):
        owner = ("edge", run, plan.name, number)
        watch(watching, state, owner, edge.predicate, scope, local=local)
        turn.touched[owner] = None
    if not plan.edges:
        _ready(turn, state.nodes[run][plan.name])


def look_at_edge(turn: Turn, owner: Owner) -> None:
    """Looks at an edge of a node of a run again: it may start the node, or show that it never will."""
    _, run, node, number = owner
    state = turn.state
    row = state.nodes.get(run, {}).get(node)
    unmet = turn.watching.unmet.get((run, node))
    if row is None or row.state != "waiting" or unmet is None:
        turn.watching.remove(owner)
        return
    edge = state.plan(run).nodes[node].edges[number]
    scope = scope_of(state, run, turn.now_us)
    lookup = lookup_in_run(state, run)
    truth = edge.predicate.evaluate(lookup, scope)
    if truth is not True and edge.local:
        truth = edge.predicate.evaluate(lookup_in_run(state, run, forgive=True), scope)
    if edge.uses_now and (at := edge.predicate.changes_at(lookup, scope)) is not None:
        state.wake_at(at, "look", *owner)
    if truth is True:
        unmet.discard(number)
        if not edge.outside and not edge.uses_now:
            turn.watching.remove(owner)
        if not unmet:
            _ready(turn, row)
        return
    unmet.add(number)
    if edge.local and _impossible(turn, run, node, number):
        reason = f"{edge.predicate.text} can no longer become true"
        end_node(turn, row, "skipped", error=reason)


def _impossible(turn: Turn, run: str, node: str, number: int) -> bool:
    """Whether the nodes of the run that have ended decide that an edge will never be true."""
    state = turn.state
    edge = state.plan(run).nodes[node].edges[number]
    local, nodes = state.plan(run).local, state.nodes[run]
    if not any(nodes[name].state in ENDED_NODE for name in edge.local):
        return False

    def settled(ref: FactRef) -> bool:
        name = local.get(ref.subject)
        return name is not None and ref.kind != "interval" and nodes[name].state in ENDED_NODE

    lookups = (lookup_in_run(state, run), lookup_in_run(state, run, forgive=True))
    return not can_come_true(edge.predicate, settled, lookups, scope_of(state, run, turn.now_us))


def _stop_waiting(turn: Turn, run: str, node: str) -> None:
    unmet = turn.watching.unmet.pop((run, node), None)
    if unmet is not None:
        for number in range(len(turn.state.plan(run).nodes[node].edges)):
            turn.watching.remove(("edge", run, node, number))


def _ready(turn: Turn, row: NodeRow) -> None:
    _stop_waiting(turn, row.run, row.node)
    turn.put(row, replace(row, state="ready", ready_us=turn.now_us))
    turn.dispatch = True


def dispatch(turn: Turn) -> None:
    """Hands ready nodes to the workers, the most urgent first, as far as pools and workers have room."""
    turn.dispatch = False
    state = turn.state
    room = state.capacity() - state.out_all
    while room > 0:
        best: tuple[int, int, int, str, str] | None = None
        chosen = ""
        for pool, heap in list(state.ready.items()):
            if state.out.get(pool, 0) >= state.pools.get(pool, 1 << 30):
                continue
            while heap and not _is_ready(turn, heap[0]):
                heapq.heappop(heap)
            if not heap:
                del state.ready[pool]
            elif best is None or heap[0] < best:
                best, chosen = heap[0], pool
        if best is None:
            return
        heapq.heappop(state.ready[chosen])
        _start(turn, state.nodes[best[3]][best[4]])
        room = state.capacity() - state.out_all


def _is_ready(turn: Turn, entry: tuple[int, int, int, str, str]) -> bool:
    row = turn.state.nodes.get(entry[3], {}).get(entry[4])
    return row is not None and row.state == "ready"


def _start(turn: Turn, row: NodeRow) -> None:
    """Gives a ready node a new epoch and sends it out."""
    out = replace(row, state="starting", epoch=row.epoch + 1, attempt=row.attempt + 1, worker="", started_us=None)
    try:
        order = assignment(turn.state, out, turn.settings.lease_us)
    except WorkflowError as error:
        end_node(turn, row, "failed", error=str(error))
        return
    turn.put(row, out)
    arm(turn, out)
    turn.effects.append(Start(order))
    _tell_status(turn, out, "running")


def _tell_status(turn: Turn, row: NodeRow, status: str, *, always: bool = False) -> None:
    """Tells the status of the node beyond its run: its ends always, its starts if somebody reads them."""
    subject = f"{row.workflow}.{row.node}"
    if always or turn.watched("status", subject):
        turn.tell(subject, "status", status)


def _of_task(turn: Turn, task: TaskRef) -> NodeRow | None:
    run, _, node = task.node_run.rpartition("/")
    return turn.state.nodes.get(run, {}).get(node)


def started(turn: Turn, message: Started | TaskRef, worker: str) -> None:
    """A worker has a task; one that is not its own any more must end."""
    task = message.task if isinstance(message, Started) else message
    row = _of_task(turn, task)
    if row is None or row.epoch != task.epoch or row.state not in OUT:
        mine = row is not None and (row.epoch, row.state, row.worker) == (task.epoch, "done", worker)
        if not mine:
            turn.effects.append(Kill(task, "it is not wanted any more"))
        return
    if row.state == "stopping":
        if not row.worker:
            turn.put(row, replace(row, worker=worker))
        send_kill(turn, row)
    elif row.worker not in ("", worker):
        # It was sent again, and to another worker: neither may go on beside the other.
        turn.effects.append(Kill(task, "two workers have it"))
        _lost(turn, row, f"workers {row.worker} and {worker} both had it")
    elif row.state == "starting" and not isinstance(message, Started):
        # It may still wait there for a slot: how long it runs counts from when its process does.
        if row.worker != worker:
            turn.put(row, replace(row, worker=worker))
    elif row.state == "starting":
        after = replace(row, state="running", worker=worker, started_us=turn.now_us)
        turn.put(row, after)
        arm(turn, after)
        turn.look(row.run, row.node)


def ended(turn: Turn, message: Ended) -> None:
    """A task has ended: takes it in once, and tells the worker in any case that it is on record."""
    task = message.task
    row = _of_task(turn, task)
    if row is None or row.epoch != task.epoch or row.attempt != task.attempt or row.state in ENDED_NODE:
        mine = (task.epoch, task.attempt, "done", message.worker)
        again = row is not None and (row.epoch, row.attempt, row.state, row.worker) == mine
        turn.effects.append(Acknowledged(task, again, message.worker))
        return
    if row.state not in OUT:
        turn.effects.append(Acknowledged(task, accepted=False, worker=message.worker))
        return
    if row.state == "stopping":
        end_node(turn, row, "killed", error=row.error)
    elif message.outcome == "done":
        _done(turn, row, message)
    elif message.outcome == "lost":
        _lost(turn, row, message.error or "the task was lost")
    else:
        _failed(turn, row, message.outcome, message.error)
    accepted = message.outcome == "done" and row.state != "stopping"
    turn.effects.append(Acknowledged(task, accepted, message.worker))
    turn.dispatch = True


def _done(turn: Turn, row: NodeRow, message: Ended) -> None:
    if row.started_us is not None:
        turn.state.pace_us += 0.1 * (max(turn.now_us - row.started_us, 1) - turn.state.pace_us)
    mine = {fact.kind: fact.value for fact in message.facts if fact.subject in ("", row.node)}
    after = replace(
        row, state="done", ended_us=turn.now_us, outputs=dumps(message.outputs), facts=dumps(mine), error="",
        worker=message.worker,
    )  # fmt: skip
    turn.put(row, after)
    for fact in message.facts:
        subject = f"{row.workflow}.{fact.subject or row.node}" if fact.subject in ("", row.node) else fact.subject
        turn.tell(subject, fact.kind, fact.value, scope=fact.scope)
    run = turn.state.runs[row.run]
    if run.interval_start_us is not None and run.interval_end_us is not None:
        schedule = turn.state.plan(row.run).spec.schedule
        zone = "UTC" if schedule is None else schedule.zone
        subject = f"{row.workflow}.{row.node}"
        turn.tell_interval(subject, run.interval_start_us, run.interval_end_us, zone, row.run)
    _after_end(turn, after)


def _failed(turn: Turn, row: NodeRow, outcome: str, error: str) -> None:
    retry = turn.state.plan(row.run).nodes[row.node].spec.retry
    failures = row.failures + 1
    if failures > retry.times:
        end_node(turn, row, "failed", error=error or outcome, failures=failures)
        return
    wait = min(float(retry.most), retry.wait * retry.factor ** (failures - 1))
    _leave(turn, row, outcome, error)
    at = turn.now_us + int(wait)
    now = at == turn.now_us
    after = replace(
        row, state="ready" if now else "retrying", epoch=row.epoch + 1, failures=failures, error=error, worker="",
        started_us=None, retry_us=at, ready_us=at if now else row.ready_us,
    )  # fmt: skip
    turn.put(row, after)
    arm(turn, after)
    turn.look(row.run, row.node)
    turn.dispatch = True


def lose(turn: Turn, row: NodeRow, reason: str) -> None:
    """Gives a task up that went with its worker: it is given out again, or ends if that has happened too often.

    Nobody will tell its end; what it has staged goes as if somebody had.
    """
    _lost(turn, row, reason)
    turn.effects.append(Acknowledged(task_of(row), accepted=False))


def _lost(turn: Turn, row: NodeRow, reason: str) -> None:
    if row.state == "stopping":
        end_node(turn, row, "killed", error=row.error)
        return
    losses = row.attempt - row.failures
    if losses > turn.settings.losses_most:
        end_node(turn, row, "failed", error=f"{reason}; it was lost {losses} times")
        return
    _leave(turn, row, "lost", reason)
    after = replace(row, state="ready", epoch=row.epoch + 1, worker="", ready_us=turn.now_us, started_us=None)
    turn.put(row, after)
    turn.dispatch = True


def _leave(turn: Turn, row: NodeRow, outcome: str, error: str) -> None:
    """Puts an attempt on record that another follows."""
    attempt = AttemptRow(
        row.run, row.node, row.attempt, row.epoch, outcome, row.worker, row.started_us, turn.now_us, error
    )
    turn.put(None, attempt)


def end_node(turn: Turn, row: NodeRow, state: str, *, error: str = "", failures: int | None = None) -> None:
    """Ends a node, its task being at no worker any more."""
    failures = row.failures if failures is None else failures
    after = replace(row, state=state, ended_us=turn.now_us, error=error, failures=failures)
    _stop_waiting(turn, row.run, row.node)
    turn.put(row, after)
    _after_end(turn, after)


def _after_end(turn: Turn, row: NodeRow) -> None:
    if row.state != "skipped":
        _tell_status(turn, row, row.state, always=True)
    turn.look(row.run, row.node)
    turn.closing[row.run] = None
    turn.dispatch = True


def kill_node(turn: Turn, row: NodeRow, reason: str) -> None:
    """Ends a node that has not ended: at once if it is at no worker, else when its worker says so."""
    if row.state in ENDED_NODE or row.state == "stopping":
        return
    if row.state not in OUT:
        end_node(turn, row, "killed", error=reason)
        return
    after = replace(row, state="stopping", error=reason)
    turn.put(row, after)
    arm(turn, after)
    send_kill(turn, after)


def send_kill(turn: Turn, row: NodeRow) -> None:
    """Asks for the end of a task; asked again until it is told."""
    turn.effects.append(Kill(task_of(row), row.error or "killed"))
