"""A version of a workflow, made ready to be run: parsed predicates, and which node's end concerns which other node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from penstock.workflows.spec.grammar import Covers, Fact, Flag
from penstock.workflows.spec.model import Edge, Node, Trigger, WorkflowSpec
from penstock.workflows.spec.predicate import FactRef, Predicate, parse

__all__ = ["EdgePlan", "Graph", "NodePlan", "TriggerPlan"]


@dataclass(frozen=True, slots=True)
class EdgePlan:
    """An edge with its predicate, and what that reads, taken out once."""

    action: str
    predicate: Predicate
    local: frozenset[str]
    """Batch nodes of the same run that it reads."""
    outside: tuple[FactRef, ...]
    """Facts that are not of the same run."""
    uses_now: bool


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node with its edges. `order` is its place in the specification."""

    spec: Node
    order: int
    edges: tuple[EdgePlan, ...]

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class TriggerPlan:
    """A trigger with its predicate; `bare` is the fact of which each new value counts."""

    spec: Trigger
    predicate: Predicate
    bare: FactRef | None
    uses_now: bool


class Graph:
    """One version of a workflow."""

    def __init__(self, spec: WorkflowSpec, version: int) -> None:
        self.spec, self.version, self.name = spec, version, spec.name
        names = frozenset(node.name for node in spec.nodes)
        self.local: Mapping[str, str] = {f"{spec.name}.{n.name}": n.name for n in spec.nodes if n.kind == "batch"}
        """Stored subject -> batch node of the same workflow."""
        self.nodes: dict[str, NodePlan] = {}
        for order, node in enumerate(spec.nodes):
            texts = list(node.edges) + ([] if node.kind == "stream" else self._of_inputs(node))
            edges = tuple(self._edge(edge, names, node.kind) for edge in dict.fromkeys(texts))
            self.nodes[node.name] = NodePlan(node, order, edges)
        self.triggers = tuple(self._trigger(trigger, names) for trigger in spec.triggers)
        by = spec.schedule.by if spec.schedule is not None else None
        self.time = None if by is None else parse(by, workflow=spec.name, nodes=names).bare
        """The fact by which the schedule tells the time; None for the clock."""
        self.batch = tuple(plan for plan in self.nodes.values() if plan.spec.kind == "batch")
        self.streams = tuple(plan for plan in self.nodes.values() if plan.spec.kind == "stream")

    @classmethod
    def of(cls, spec: str, version: int) -> Graph:
        """Reads a stored specification."""
        return cls(WorkflowSpec.model_validate_json(spec), version)

    def _of_inputs(self, node: Node) -> list[Edge]:
        """A node that takes a batch node's output waits for it."""
        sources = dict.fromkeys(source.split(".", 1)[0] for source in node.inputs.values())
        return [Edge(when=f'status({name}) == "done"') for name in sources if f"{self.name}.{name}" in self.local]

    def _edge(self, edge: Edge, names: frozenset[str], kind: str) -> EdgePlan:
        predicate = parse(edge.when, workflow=self.name, nodes=names)
        reads = predicate.reads
        local = (
            frozenset(self.local[ref.subject] for ref in reads if ref.kind != "interval" and ref.subject in self.local)
            if kind == "batch"
            else frozenset()
        )
        outside = tuple(r for r in reads if r.kind == "interval" or kind == "stream" or r.subject not in self.local)
        return EdgePlan(edge.action, predicate, local, outside, predicate.uses_now)

    def _trigger(self, trigger: Trigger, names: frozenset[str]) -> TriggerPlan:
        predicate = parse(trigger.on, workflow=self.name, nodes=names)
        match predicate.root:
            case Fact(fact, subject) | Flag(fact, subject):
                bare: FactRef | None = FactRef(fact, subject)
            case Covers(subject, None, None):
                bare = FactRef("interval", subject)
            case _:
                bare = None
        return TriggerPlan(trigger, predicate, bare, predicate.uses_now)

    @cached_property
    def after(self) -> Mapping[str, frozenset[str]]:
        """Batch node -> the batch nodes whose edges read it."""
        found: dict[str, set[str]] = {plan.name: set() for plan in self.batch}
        for plan in self.batch:
            for edge in plan.edges:
                for name in edge.local:
                    found[name].add(plan.name)
        return {name: frozenset(members) for name, members in found.items()}

    def downstream(self, names: frozenset[str]) -> frozenset[str]:
        """These nodes and all that come after them."""
        reached: set[str] = set()
        left = [name for name in names if name in self.nodes]
        while left:
            name = left.pop()
            if name not in reached:
                reached.add(name)
                left.extend(self.after.get(name, ()))
        return frozenset(reached)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Default of each parameter that has one."""
        return {p.name: p.default for p in self.spec.parameters if not p.required}
