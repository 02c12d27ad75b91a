"""Workflows: stream and batch nodes in one graph, with predicates on their edges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from penstock.define.model import Model
from penstock.define.values import check_name, here
from penstock.errors import Location

__all__ = ["Action", "Node", "Workflow", "fit", "publish", "workflow"]


@dataclass(frozen=True, eq=False)
class Action:
    """What a batch node does: a component and its parameters."""

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
class Node:
    """A node of a workflow and the edges into it: `when`, `after`, `reload`, `gate` and so on."""

    name: str
    kind: str
    runs: Any
    edges: tuple[tuple[str, Any], ...]
    at: Location | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Workflow:
    """A workflow. `stream` and `batch` add a node each, while the definitions are being read."""

    name: str
    every: str | None = None
    zone: str | None = None
    overlap: str = "queue"
    owner: str | None = None
    nodes: list[Node] = field(default_factory=list)
    at: Location | None = field(default=None, repr=False)

    def stream(self, name: str, runs: Any, **edges: Any) -> Node:
        """A node that runs on."""
        return self._add(name, "stream", runs, edges)

    def batch(self, name: str, runs: Any, **edges: Any) -> Node:
        """A node that runs to an end."""
        return self._add(name, "batch", runs, edges)

    def _add(self, name: str, kind: str, runs: Any, edges: dict[str, Any]) -> Node:
        where = here()
        node = Node(check_name(name, "a node", where), kind, runs, tuple(edges.items()), where)
        self.nodes.append(node)
        return node


def workflow(
    name: str,
    *,
    every: str | None = None,
    zone: str | None = None,
    overlap: str = "queue",
    owner: str | None = None,
) -> Workflow:
    """A workflow, on a schedule or driven by its edges."""
    where = here()
    return Workflow(check_name(name, "a workflow", where), every, zone, overlap, owner, at=where)
