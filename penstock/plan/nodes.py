"""The named nodes of a plan as plain data: kind, parts down to the next named nodes, and those nodes' names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from penstock.plan.ir import (
    AsOfPlan,
    ComputePlan,
    EnrichPlan,
    FilterPlan,
    GroupPlan,
    JoinPlan,
    LookupPlan,
    Plan,
    RelationPlan,
    SourcePlan,
    ViewPlan,
)

__all__ = ["Named", "inputs_of", "kind_of", "named_nodes", "parts_of", "reads_of"]

Named = SourcePlan | JoinPlan | GroupPlan | ViewPlan
_Below = RelationPlan | AsOfPlan | LookupPlan


def named_nodes(plan: Plan) -> dict[str, Named]:
    """Streams, tables, joins, groups and views by name, in the order in which they were written."""
    found: dict[str, Named] = {}
    for name in plan.places:
        node = plan.relations.get(name) or plan.views.get(name)
        if isinstance(node, Named):
            found[name] = node
    return found


def kind_of(node: Named) -> str:
    """stream, table, join, group or view."""
    match node:
        case SourcePlan(kind=kind):
            return kind
        case JoinPlan():
            return "join"
        case GroupPlan():
            return "group"
    return "view"


def inputs_of(node: Named) -> tuple[str, ...]:
    """The names of the nodes that a node is made from directly, each once, in the order of their first use."""
    found: dict[str, None] = {}
    for below in _below(node):
        found.update(dict.fromkeys(_names(below)))
    return tuple(found)


def reads_of(node: Named) -> tuple[str, ...]:
    """The source columns that anything of a node is computed from, sorted: "departures.dep_delay"."""
    lineage = node.lineage
    names = node.outputs if isinstance(node, ViewPlan) else node.schema
    if isinstance(node, GroupPlan):
        names = [f"{node.name.name}.{column}" for column in node.outputs]  # type: ignore[assignment]
    return tuple(sorted({source for name in names for source in lineage[name]}))


def parts_of(node: Named) -> dict[str, Any]:
    """What a node was written as, in plain data, down to the nodes it names."""
    return {**_own(node), **{part: _spec(below) for part, below in _parts_below(node)}}


def _own(node: Named | _Below) -> dict[str, Any]:
    if isinstance(node, ViewPlan):
        return {k: v for k, v in node.parts.items() if k not in ("lookups", "two_hops")}
    if isinstance(node, EnrichPlan):
        return {}
    return dict(node.parts)


def _spec(node: _Below) -> Any:
    if isinstance(node, SourcePlan | JoinPlan | GroupPlan):
        return node.name.name
    return {**_own(node), **{part: _spec(below) for part, below in _parts_below(node)}}


def _below(node: Named | _Below) -> Iterator[_Below]:
    for _, below in _parts_below(node):
        yield below


def _names(node: _Below) -> Iterator[str]:
    if isinstance(node, SourcePlan | JoinPlan | GroupPlan):
        yield node.name.name
    else:
        for below in _below(node):
            yield from _names(below)


def _source_name(lookup: LookupPlan) -> str:
    return next(_names(lookup))


def _parts_below(node: Named | _Below) -> Iterator[tuple[str, _Below]]:
    match node:
        case FilterPlan() | ComputePlan() | GroupPlan():
            yield "input", node.input
        case EnrichPlan():
            yield "input", node.input
            yield "read", node.lookup
        case JoinPlan():
            yield "observations", node.observation
            yield "outcomes", node.outcome
        case AsOfPlan():
            yield "rows", node.relation
        case LookupPlan():
            yield "from", node.source
        case ViewPlan():
            if node.observation is not None:
                yield "base of", node.observation
            seen: Counter[str] = Counter()
            for lookup in node.lookups:
                label = f"read of {_source_name(lookup)} by {', '.join(lookup.keys)}"
                seen[label] += 1
                yield label if seen[label] == 1 else f"{label}, {seen[label]}", lookup
            for hop in node.two_hops:
                yield f"two hops {hop.name}, value", hop.value
                yield f"two hops {hop.name}, keys", hop.keys
