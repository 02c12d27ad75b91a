"""A workflow for a reader: its schedule, its nodes, what each waits for."""

from __future__ import annotations

import json

from penstock.workflows.spec.model import Node, WorkflowSpec

__all__ = ["describe"]

_MOST = 100


def describe(spec: WorkflowSpec, where: str = "") -> str:
    """Lines of text: a head, then a line for each node and each of its edges."""
    head = f"{spec.name}   workflow, {_made(spec)}" + (f"   {where}" if where else "")
    lines = [head]
    if spec.overlap.how != "queue" or spec.overlap.limit != 1:
        key = f" for each {spec.overlap.key}" if spec.overlap.key else ""
        lines.append(f"  overlap   {spec.overlap.how}, {spec.overlap.limit} together{key}")
    if spec.parameters:
        given = (f"{p.name} {p.type}" + ("" if p.required else f" = {json.dumps(p.default)}") for p in spec.parameters)
        lines.append("  given     " + " · ".join(given))
    width = max((len(node.name) for node in spec.nodes), default=0)
    for node in spec.nodes:
        lines.append(f"  {node.kind:<7}   {node.name:<{width}}   {_runs(node)}")
        lines += [f"  {'':<7}   {'':<{width}}     {edge.action} when {edge.when}" for edge in node.edges]
    return "\n".join(lines)


def _made(spec: WorkflowSpec) -> str:
    ways = [f"when {trigger.on} ({trigger.consume.how})" for trigger in spec.triggers]
    if spec.schedule is not None:
        schedule = spec.schedule
        step = f"every {schedule.every}" if schedule.every else f"cron {schedule.cron}"
        by = f" by {schedule.by}" if schedule.by else ""
        ways.insert(0, f"{step}{by} in {schedule.zone}")
    return "; ".join(ways) or "started by hand"


def _runs(node: Node) -> str:
    given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in node.parameters.items())
    text = f"{node.component}({given})"
    return text if len(text) <= _MOST else text[: _MOST - 3] + "..."
