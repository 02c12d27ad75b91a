"""Workflows: stream and batch nodes in one graph, with predicates on their edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.define.model import Model
from penstock.define.values import check_name, here
from penstock.errors import DefinitionError, Location

__all__ = ["Action", "Component", "Node", "Output", "Trigger", "Workflow"]
__all__ += ["component", "fit", "on", "publish", "workflow"]


@dataclass(frozen=True, eq=False)
class Action:
    """What a batch node does to models: `fit` or `publish`, and how."""

    kind: str
    subjects: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...] = ()


def fit(*models: Model, **options: Any) -> Action:
    """Trains models."""
    return Action("fit", models, tuple(sorted(options.items())))


def publish(*models: Model, **options: Any) -> Action:
    """Publishes models through gates."""
    return Action("publish", models, tuple(sorted(options.items())))


@dataclass(frozen=True, eq=False)
class Component:
    """A component by its name, with the node's parameters; checked when the workflow is."""

    name: str
    parameters: tuple[tuple[str, Any], ...]
    at: Location | None = field(default=None, repr=False)


def component(name: str, **parameters: Any) -> Component:
    """What a node runs: a component and its parameters, as in `component("shell", command="make report")`."""
    return Component(name, tuple(parameters.items()), here())


@dataclass(frozen=True, eq=False)
class Output:
    """An output of a batch node, to be an input of another."""

    node: Node
    name: str


@dataclass(frozen=True, eq=False)
class Node:
    """A node of a workflow. `node["rows"]` is its output of that name.

    Attributes:
        edges: (action, condition): start, gate, stop, restart or reload, and what must hold.
        options: retries, time-out, pool and so on, as given.
    """

    name: str
    kind: str
    runs: Any
    edges: tuple[tuple[str, Any], ...]
    inputs: tuple[tuple[str, Output], ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    at: Location | None = field(default=None, repr=False)

    def __getitem__(self, output: str) -> Output:
        return Output(self, output)


@dataclass(frozen=True, eq=False)
class Trigger:
    """A fact or a condition that makes runs, and how many values one run takes."""

    condition: str
    name: str
    consume: str = "each"
    count: int | None = None
    deadline: str | None = None
    redone: bool = False
    at: Location | None = field(default=None, repr=False)


def on(
    condition: str,
    *,
    name: str | None = None,
    consume: str = "each",
    count: int | None = None,
    deadline: str | None = None,
    redone: bool = False,
) -> Trigger:
    """Makes runs of a workflow out of facts.

    Args:
        condition: a fact whose every new value counts (`snapshot(items)`), or a condition that comes true.
        name: distinguishes several triggers of one workflow.
        consume: `each` value a run, `coalesce` all that wait, `latest` only the newest, `window` by count or deadline.
        count, deadline: for `window`: how many values, or how long after the first of them at most.
        redone: fire also for a revision of something already consumed.
    """
    where = here()
    return Trigger(condition, check_name(name or "on", "a trigger", where), consume, count, deadline, redone, where)


@dataclass(frozen=True, eq=False)
class Workflow:
    """A workflow. `stream` and `batch` add a node each, while the definitions are being read.

    Attributes:
        options: overlap, failure, priority, purpose and so on, as given.
        parameters: (name, type or default), in order.
    """

    name: str
    every: str | None = None
    cron: str | None = None
    zone: str | None = None
    triggers: tuple[Trigger, ...] = ()
    parameters: tuple[tuple[str, Any], ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    nodes: list[Node] = field(default_factory=list)
    at: Location | None = field(default=None, repr=False)

    def stream(
        self,
        name: str,
        runs: Any,
        *,
        start: Any = None,
        gate: Any = None,
        stop: Any = None,
        restart: Any = None,
        reload: Any = None,
        **options: Any,
    ) -> Node:
        """A node that runs on.

        Args:
            name: of the node.
            runs: a group or view that is kept live, or a `component`.
            start: what must hold before it is started; nothing by default.
            gate: it is held while this is false.
            stop, restart, reload: done each time the condition comes true anew, or the node given is done.
            options: retries, retry_wait.
        """
        edges = {"start": start, "gate": gate, "stop": stop, "restart": restart, "reload": reload}
        return self._add(Node(name, "stream", runs, _given(edges), (), tuple(options.items()), here()))

    def batch(
        self,
        name: str,
        runs: Any,
        *,
        after: Any = None,
        when: Any = None,
        inputs: Mapping[str, Output] | None = None,
        **options: Any,
    ) -> Node:
        """A node that runs to an end, once in every run.

        Args:
            name: of the node.
            runs: a `component`, or a function of the project (called with the task's context).
            after: a node, or several, that must be done in the same run.
            when: a predicate over facts that must hold.
            inputs: outputs of earlier nodes, by the name under which they are read.
            options: retries, retry_wait, retry_factor, retry_most, timeout, deadline, priority, pool, requirements,
                memory_mb, cpu_s, on_failure.
        """
        edges = _given({"start": after}) + _given({"start": when})
        return self._add(
            Node(name, "batch", runs, edges, tuple((inputs or {}).items()), tuple(options.items()), here())
        )

    def _add(self, node: Node) -> Node:
        check_name(node.name, "a node", node.at)
        former = next((n for n in self.nodes if n.name == node.name), None)
        if former is not None:
            raise DefinitionError(
                f"workflow {self.name} has two nodes called {node.name!r}",
                found=f"one at {former.at}",
                remedy="rename one",
                where=node.at,
            )
        self.nodes.append(node)
        return node


def _given(edges: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((action, condition) for action, condition in edges.items() if condition is not None)


def workflow(
    name: str,
    *,
    every: str | None = None,
    cron: str | None = None,
    zone: str | None = None,
    on: str | Trigger | tuple[str | Trigger, ...] = (),
    parameters: Mapping[str, Any] | None = None,
    **options: Any,
) -> Workflow:
    """A workflow, on a schedule, driven by facts, or started by hand.

    Args:
        name: of the workflow.
        every: a run for each interval of event time: "15min", "1h", "1d", "1w" or "1mo", in `zone`.
        cron: a run at each tick, in `zone`, by Debian's rules at clock changes.
        zone: an IANA zone; UTC by default.
        on: facts that make runs, as text or by `on(...)`.
        parameters: of a run: a default each, or a type (`int`, `float`, `str`, `bool`) where it must be given.
        options: by (a fact that tells the time instead of the clock), start, skipped; overlap, limit, key; failure,
            priority, timeout, owner, purpose, runbook.
    """
    where = here()
    triggers = (on,) if isinstance(on, str | Trigger) else tuple(on)
    made = tuple(
        Trigger(t, "on" if len(triggers) == 1 else f"on_{i}", at=where) if isinstance(t, str) else t
        for i, t in enumerate(triggers, 1)
    )
    return Workflow(
        check_name(name, "a workflow", where),
        every,
        cron,
        zone,
        made,
        tuple((parameters or {}).items()),
        tuple(options.items()),
        at=where,
    )
