"""What `penstock plan` says: per definition what it puts out and needs, as text and as a JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from penstock.algebra.layout import SlotKind, Window, WindowKind
from penstock.define.values import format_duration
from penstock.errors import Location
from penstock.plan.expr.types import Column, Schema
from penstock.plan.ir import GroupPlan, JoinPlan, Plan, SourcePlan, ViewPlan
from penstock.plan.keeping import kept_text
from penstock.plan.nodes import Named, inputs_of, kind_of, named_nodes, parts_of, reads_of
from penstock.plan.scope import shown_type

__all__ = ["FORMAT", "document", "render"]

_DAY_US = 86_400_000_000

FORMAT = 1
"""The version of the document's form."""


def document(plan: Plan) -> dict[str, Any]:
    """A plan as JSON data: what `penstock plan --json` prints, and what a later plan is compared with.

    Per definition: kind, version, fingerprint, place, inputs (names), reads (source columns), columns (name, type with
    `?` where null may occur, lineage), needs (of a view: what a request brings), windows and state (of a group), parts.
    """
    return {
        "format": FORMAT,
        "definitions": {name: _described(plan, name, node) for name, node in named_nodes(plan).items()},
        "not_built": dict(plan.not_built),
        "warnings": [{"definition": name, "warning": text} for name, text in plan.warnings],
    }


def _described(plan: Plan, name: str, node: Named) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": kind_of(node),
        "version": node.name.version,
        "fingerprint": node.fingerprint,
        "place": _place(plan.places.get(name)),
        "inputs": list(inputs_of(node)),
        "reads": list(reads_of(node)),
        "columns": [
            {"name": c.name, "type": shown_type(c), "lineage": list(node.lineage[lineage])}
            for c, lineage in _put_out(node)
        ],
        "parts": parts_of(node),
    }
    if isinstance(node, ViewPlan):
        found["needs"] = {c.name: shown_type(c) for c in node.inputs.columns}
    if isinstance(node, GroupPlan):
        found["keys"] = dict(zip(node.key_names, map(str, node.key_types), strict=True))
        found["windows"] = [window_text(w) for w in node.layout.windows]
        found["state"] = state_text(node)
    return found


def _put_out(node: Named) -> Iterator[tuple[Column, str]]:
    """The columns of a node, each with its name in the node's lineage."""
    if isinstance(node, GroupPlan):
        for column in node.outputs.columns:
            yield column, f"{node.name.name}.{column.name}"
    else:
        schema = node.outputs if isinstance(node, ViewPlan) else node.schema
        for column in schema.columns:
            yield column, column.name


def _place(where: Location | None) -> str:
    return "" if where is None else str(where)


# text


def render(plan: Plan) -> str:
    """A plan as text for a terminal, one paragraph per definition."""
    blocks = [_block(plan, name, node) for name, node in named_nodes(plan).items()]
    if plan.not_built:
        width = max(map(len, plan.not_built))
        lines = [f"  {name:<{width}}  {reason}" for name, reason in plan.not_built.items()]
        blocks.append("\n".join(["legal, but not built yet", *lines]))
    if plan.warnings:
        blocks.append("\n".join(["to know", *(f"  {name}: {text}" for name, text in plan.warnings)]))
    return "\n\n".join(blocks) + "\n"


def _block(plan: Plan, name: str, node: Named) -> str:
    version = f"@{node.name.version}" if node.name.version > 1 else ""
    place = plan.places.get(name)
    at = "" if place is None else f"   {place.file.rsplit('/', 1)[-1]}:{place.line}"
    lines = [f"{name}{version}   {_headline(node)}{at}"]
    lines += [f"  {title:<9} {text}" for title, text in _facts(node) if text]
    return "\n".join(lines)


def _headline(node: Named) -> str:
    match node:
        case SourcePlan():
            return f"{node.kind} from {node.source.kind}"
        case JoinPlan():
            observed, outcome = inputs_of(node)[0], inputs_of(node)[-1]
            return f"join of {observed} with {outcome} on {', '.join(node.on)}"
        case GroupPlan():
            return f"group of {inputs_of(node)[0]} by {', '.join(node.key_names)}"
    return "view" if node.observation is None else f"view of {inputs_of(node)[0]}"


def _facts(node: Named) -> Iterator[tuple[str, str]]:
    match node:
        case SourcePlan():
            yield "time", _time_text(node)
            yield "key", ", ".join(node.key)
            yield "id", node.id or ""
            yield "puts out", _columns_text(node.schema)
        case JoinPlan():
            grace = f", grace {format_duration(node.grace_us)}" if node.grace_us else ""
            when = "at closing" if node.emit == "final" else "at the first match"
            yield "window", f"{format_duration(node.within_us)}{grace}; a row is made {when}"
            yield "puts out", _columns_text(node.schema)
            yield "reads", ", ".join(reads_of(node))
        case GroupPlan():
            yield "windows", ", ".join(map(window_text, node.layout.windows))
            yield "puts out", _columns_text(node.outputs)
            yield "reads", ", ".join(reads_of(node))
            yield "state", state_text(node)
        case ViewPlan():
            yield "needs", _columns_text(node.inputs)
            yield "puts out", _columns_text(node.outputs)
            yield "reads", ", ".join(reads_of(node))


def _columns_text(schema: Schema) -> str:
    return " · ".join(f"{c.name} {shown_type(c)}" for c in schema.columns)


def _time_text(source: SourcePlan) -> str:
    if source.known is not None:
        known = source.known.text
    elif source.source.kind in ("files", "hive") and source.source.option("arrivals") != "watch":
        known = "the event time"
    else:
        known = "when it was appended"
    time = "when it became known" if source.time is None else source.time.text
    return f"{time}; known: {known}"


def window_text(window: Window) -> str:
    """A window in words: `7d (steps of 6h, ending 3d before)`."""
    notes = []
    match window.kind:
        case WindowKind.TIME:
            shown = _days_text(window.width_us)
            notes.append(f"steps of {format_duration(window.hop_us)}" if window.hop_us else "exact")
        case WindowKind.CALENDAR:
            shown = f"this {window.unit}"
            notes.append(window.zone)
        case WindowKind.ROWS:
            shown = f"last {window.n} rows"
        case WindowKind.LIFETIME:
            shown = "lifetime"
    if window.offset_us:
        side = "before" if window.offset_us > 0 else "ahead"
        notes.append(f"ending {_days_text(abs(window.offset_us))} {side}")
    if window.closed != "left":
        notes.append(f"closed {window.closed}")
    return f"{shown} ({', '.join(notes)})" if notes else shown


def _days_text(us: int) -> str:
    """A duration with weeks as days, as windows are usually written."""
    return f"{us // _DAY_US}d" if us % _DAY_US == 0 else format_duration(us)


def state_text(group: GroupPlan) -> str:
    """For how long a group's state holds rows, and their size."""
    widths = {SlotKind.BOOL: 1, SlotKind.DECIMAL: 16}
    row_bytes = 24 + sum(widths.get(slot.kind, 8) for slot in group.layout.slots)
    return f"rows, {kept_text(group)}; about {row_bytes} B a row"
