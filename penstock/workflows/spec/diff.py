"""What changed between two versions of a workflow, in terms of nodes, edges and fields rather than lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from penstock.workflows.spec.model import WorkflowSpec
from penstock.workflows.spec.text import plain

__all__ = ["Change", "diff"]

_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `path` is like `nodes.fit.parameters.rounds`; `before` or `after` is None where there is nothing."""

    path: str
    how: Literal["added", "removed", "changed"]
    before: Any
    after: Any

    def __str__(self) -> str:
        match self.how:
            case "added":
                return f"+ {self.path}{_short(self.after)}"
            case "removed":
                return f"- {self.path}{_short(self.before)}"
        return f"~ {self.path}{_short(self.before)} ->{_short(self.after).removeprefix(':')}"


def diff(before: WorkflowSpec | None, after: WorkflowSpec) -> tuple[Change, ...]:
    """All changes, in the order of the newer specification; a node is known by its name, an edge by its text."""
    former = _named(plain(before)) if before is not None else {}
    return tuple(_compare("", former, _named(plain(after))))


def _named(data: dict[str, Any]) -> dict[str, Any]:
    """Lists of named things as objects by name, so that order and position do not count."""
    data = {key: value for key, value in data.items() if key not in ("format", "notes")}
    for key in ("nodes", "parameters", "triggers"):
        items = data.get(key, [])
        data[key] = {item["name"]: {k: v for k, v in item.items() if k != "name"} for item in items}
    for node in data["nodes"].values():
        if "edges" in node:
            edges = node["edges"]
            node["edges"] = {f"{e.get('action', 'start')} when {e['when']}": True for e in edges}
    return data


def _compare(path: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*after, *(k for k in before if k not in after)]:
            inner = f"{path}.{key}" if path else str(key)
            yield from _compare(inner, before.get(key, _MISSING), after.get(key, _MISSING))
    elif before is _MISSING:
        if after != {}:
            yield Change(path, "added", None, after)
    elif after is _MISSING:
        if before != {}:
            yield Change(path, "removed", before, None)
    elif before != after:
        yield Change(path, "changed", before, after)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{key}={part}" for key, part in value.items())
    return "" if value is True else f": {value}"
