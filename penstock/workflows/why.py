"""Why a node of a run is where it is: what it waits for, what stands there now, how fast that moves, until when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from penstock.errors import WorkflowError, nearest
from penstock.store.meta.rows import FactRow, NodeRow, RowChange, RunRow
from penstock.workflows.core.lookup import lookup_in_run, lookup_outside, scope_of
from penstock.workflows.core.moves import ENDED_NODE, OUT
from penstock.workflows.core.state import State
from penstock.workflows.spec.predicate import FactRef, Scope, Unmet
from penstock.workflows.spec.schedule import next_firing

__all__ = ["Firing", "Pace", "Reason", "Why", "firings", "why_node", "why_stream"]

_GROWING: Final = frozenset({"watermark", "frontier", "offset", "rows", "mature"})
_KEPT: Final = 32
_SHOWN: Final = 10


class Pace:
    """How fast facts move: their last values with the instants at which they were told."""

    def __init__(self) -> None:
        self._seen: dict[FactRef, deque[tuple[int, float]]] = {}

    def take(self, changes: list[RowChange]) -> None:
        """Notes what a commit has changed."""
        for change in changes:
            row = change.after
            if isinstance(row, FactRow) and row.kind in _GROWING and not row.scope:
                try:
                    value = float(row.value)
                except ValueError:
                    continue
                self._seen.setdefault(FactRef(row.kind, row.subject), deque(maxlen=_KEPT)).append((row.at_us, value))

    def per_second(self, fact: FactRef, now_us: int) -> float | None:
        """Growth a second, over what is kept; less the longer it stands still; None before there are two values."""
        seen = self._seen.get(fact)
        if not seen or len(seen) < 2:
            return None
        (since_us, low), (_, high) = seen[0], seen[-1]
        return (high - low) * 1e6 / max(now_us - since_us, 1)


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that a node waits for.

    Attributes:
        text: for a reader.
        fact: `kind(subject)` on which it hangs, if it is one.
        present, required: values of the fact; instants are UTC microseconds.
        per_second: how fast the fact moves; None if not known.
        at_us: when it will be met at this pace, or by the clock; None if that cannot be said.
        behind: runs or nodes that come first.
    """

    text: str
    fact: str | None = None
    present: Any = None
    required: Any = None
    per_second: float | None = None
    at_us: int | None = None
    behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Why:
    """The state of a node or a stream in words, and what it waits for; empty when it waits for nothing."""

    run: str
    node: str
    state: str
    summary: str
    reasons: tuple[Reason, ...] = field(default_factory=tuple)

    @property
    def at_us(self) -> int | None:
        """When it will start at this pace; None if some of it cannot be said."""
        known = [reason.at_us for reason in self.reasons]
        return max((at for at in known if at is not None), default=None) if None not in known else None


@dataclass(frozen=True, slots=True)
class Firing:
    """The next firing of a schedule."""

    workflow: str
    at_us: int | None
    state: str


def firings(state: State) -> list[Firing]:
    """The next firing of every schedule, soonest first."""
    found = []
    for name, row in state.workflows.items():
        schedule = state.current(name).spec.schedule
        if schedule is not None and row.state != "retired":
            found.append(Firing(name, next_firing(schedule, row.cursor_us), row.state))
    return sorted(found, key=lambda firing: (firing.at_us is None, firing.at_us or 0, firing.workflow))


def why_node(state: State, run: str, node: str, now_us: int, pace: Pace) -> Why:
    """Why a batch node of a run is where it is.

    Raises:
        WorkflowError: there is no such run or node.
    """
    row = state.runs.get(run)
    if row is None:
        raise WorkflowError(
            f"why run {run!r}", found="no such run", remedy=nearest(run, list(state.runs)) or "`penstock run ls`"
        )
    graph = state.plan(run)
    if node not in graph.nodes:
        raise WorkflowError(f"why node {node!r} of {run}", found="no such node", remedy=nearest(node, graph.nodes))
    if graph.nodes[node].spec.kind == "stream":
        return why_stream(state, f"{row.workflow}.{node}", now_us, pace)
    found = state.nodes.get(run, {}).get(node)
    if row.state == "waiting" or found is None:
        return Why(run, node, row.state, f"the run {_in_words(row.state)}", tuple(_of_run(state, row)))
    summary, reasons = _of_node(state, row, found, now_us, pace)
    return Why(run, node, found.state, summary, tuple(reasons))


def why_stream(state: State, job: str, now_us: int, pace: Pace) -> Why:
    """Why a stream is where it is.

    Raises:
        WorkflowError: there is no such stream.
    """
    row = state.streams.get(job)
    if row is None:
        raise WorkflowError(f"why stream {job!r}", found="no such stream", remedy=nearest(job, state.streams))
    reasons: list[Reason] = []
    graph = state.graph(row.workflow, row.version)
    scope, lookup = Scope(now_us), lookup_outside(state)
    for edge in graph.nodes[row.node].edges if row.node in graph.nodes else ():
        holds = (edge.action == "gate" and row.gate == "held") or (edge.action == "start" and row.desired == "stopped")
        if holds:
            for unmet in edge.predicate.unmet(lookup, scope):
                reasons.append(_of_unmet(unmet, edge.predicate.changes_at(lookup, scope), now_us, pace))
    summary = f"wanted {row.desired}{', held by its gate' if row.gate == 'held' else ''}; seen {row.state or 'never'}"
    return Why("", row.node, row.state, summary + (f": {row.error}" if row.error else ""), tuple(reasons))


def _of_run(state: State, row: RunRow) -> Iterator[Reason]:
    key = (row.workflow, row.overlap_key)
    workflow = state.workflows[row.workflow]
    if workflow.state == "paused":
        yield Reason(f"workflow {row.workflow} is paused: `penstock workflow resume {row.workflow}`")
    overlap = state.current(row.workflow).spec.overlap
    going = tuple(state.going.get(key, ()))
    if len(going) >= overlap.limit:
        part = f" for {overlap.key}={row.overlap_key}" if overlap.key else ""
        text = f"{len(going)} of {overlap.limit} runs go on{part} ({overlap.how})"
        yield Reason(text, present=len(going), required=overlap.limit - 1, behind=going[:_SHOWN])
    ahead = [run for _, _, run in sorted(state.queues.get(key, [])) if run in state.queued.get(key, {})]
    before = ahead[: ahead.index(row.run)] if row.run in ahead else []
    if before:
        yield Reason(f"{len(before)} runs wait before it", behind=tuple(before[:_SHOWN]))


def _of_node(state: State, run: RunRow, row: NodeRow, now_us: int, pace: Pace) -> tuple[str, Iterator[Reason]]:
    if row.state in ENDED_NODE:
        return f"it is {row.state}" + (f": {row.error}" if row.error else ""), iter(())
    if row.state in OUT:
        held = f" on worker {row.worker}" if row.worker else ", sent to a worker that has not answered"
        return f"attempt {row.attempt} {_in_words(row.state)}{held}", iter(())
    if row.state == "retrying":
        retry = Reason(f"attempt {row.attempt} failed: {row.error}", at_us=row.retry_us)
        return "it waits for its next attempt", iter((retry,))
    if row.state == "ready":
        return "it is ready and waits for a place", _of_ready(state, row)
    return "it waits for its edges", _of_edges(state, run, row, now_us, pace)


def _of_ready(state: State, row: NodeRow) -> Iterator[Reason]:
    pool = state.plan(row.run).nodes[row.node].spec.pool
    limit, out = state.pools.get(pool), state.out.get(pool, 0)
    if limit is not None and out >= limit:
        yield Reason(f"pool {pool} is full", present=out, required=limit - 1)
    if not state.workers:
        yield Reason("no worker is here: `penstock up` starts one")
    elif state.out_all >= state.capacity():
        yield Reason("all workers are busy", present=state.out_all, required=state.capacity() - 1)
    entries = sorted(state.ready.get(pool, []))
    ahead = [f"{run}/{node}" for _, _, _, run, node in entries if (run, node) != (row.run, row.node)]
    mine = next((e for e in entries if e[3:] == (row.run, row.node)), None)
    before = [f"{e[3]}/{e[4]}" for e in entries if mine is not None and e < mine]
    if before and ahead:
        yield Reason(f"{len(before)} nodes of more priority or age are ready", behind=tuple(before[:_SHOWN]))


def _of_edges(state: State, run: RunRow, row: NodeRow, now_us: int, pace: Pace) -> Iterator[Reason]:
    lookup, scope, graph = lookup_in_run(state, run.run), scope_of(state, run.run, now_us), state.plan(run.run)
    for edge in graph.nodes[row.node].edges:
        for unmet in edge.predicate.unmet(lookup, scope):
            former = graph.local.get(unmet.fact.subject) if unmet.fact and unmet.fact.kind == "status" else None
            if former is not None:
                found = state.nodes[run.run].get(former)
                status = found.state if found else "waiting"
                yield Reason(f"node {former} is {status}", str_of(unmet.fact), status, unmet.required, behind=(former,))
            else:
                yield _of_unmet(unmet, edge.predicate.changes_at(lookup, scope), now_us, pace)


def _of_unmet(unmet: Unmet, turns_us: int | None, now_us: int, pace: Pace) -> Reason:
    per_second = pace.per_second(unmet.fact, now_us) if unmet.fact is not None else None
    at_us = turns_us
    present, required = unmet.present, unmet.required
    numbers = isinstance(present, int | float) and isinstance(required, int | float) and not isinstance(present, bool)
    if numbers and per_second is not None and per_second > 0 and required > present:
        at_us = now_us + round((required - present) / per_second * 1e6)
    return Reason(unmet.text, str_of(unmet.fact), present, required, per_second, at_us)


def str_of(fact: FactRef | None) -> str | None:
    """A fact as it is written."""
    return None if fact is None else f"{fact.kind}({fact.subject})"


def _in_words(state: str) -> str:
    return {"starting": "starts", "running": "runs", "stopping": "is being ended", "waiting": "waits its turn"}.get(
        state, f"is {state}"
    )
