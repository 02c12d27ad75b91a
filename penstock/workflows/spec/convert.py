"""From what a user wrote in Python to the specification, remembering where each part stands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from penstock.define.experiment import Endpoint
from penstock.define.relation import Group, Joined
from penstock.define.sample import Samples
from penstock.define.view import View
from penstock.define.workflow import Action, Component, Output, Trigger, Workflow
from penstock.define.workflow import Node as Written
from penstock.errors import Location, NotBuiltError, WorkflowError, nearest
from penstock.workflows.spec.model import WorkflowSpec

__all__ = ["Places", "to_spec", "validated"]

_SCHEDULE: Final = ("start", "skipped", "by")
_OVERLAP: Final = {"overlap": "how", "limit": "limit", "key": "key"}
_WORKFLOW: Final = ("failure", "priority", "timeout", "owner", "purpose", "runbook")
_RETRY: Final = {"retries": "times", "retry_wait": "wait", "retry_factor": "factor", "retry_most": "most"}
_ISOLATION: Final = ("fresh", "preload", "requirements", "memory_mb", "cpu_s")
_NODE: Final = ("timeout", "deadline", "priority", "pool", "on_failure")
_TYPES: Final = {int: "integer", float: "number", str: "string", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Places:
    """Where a workflow and its nodes are written, for errors."""

    workflow: Location | str | None = None
    nodes: Mapping[str, Location | str | None] = field(default_factory=dict)

    def of(self, node: str) -> Location | str | None:
        """The place of a node, or of the workflow."""
        return self.nodes.get(node) or self.workflow


def to_spec(workflow: Workflow, root: Path) -> tuple[WorkflowSpec, Places]:
    """The specification of a workflow, and where its parts stand.

    Args:
        workflow: as written.
        root: the project's folder; functions that nodes run must lie in it.

    Raises:
        WorkflowError: an option or a value does not fit.
        NotBuiltError: a node runs what is not built yet.
    """
    places = Places(workflow.at, {node.name: node.at for node in workflow.nodes})
    what, options = f"workflow {workflow.name}", dict(workflow.options)
    _known(options, (*_SCHEDULE, *_OVERLAP, *_WORKFLOW), what, workflow.at)
    data: dict[str, Any] = {"name": workflow.name, **_picked(options, _WORKFLOW)}
    if workflow.every is not None or workflow.cron is not None:
        data["schedule"] = {"every": workflow.every, "cron": workflow.cron, **_picked(options, _SCHEDULE)}
        if workflow.zone is not None:
            data["schedule"]["zone"] = workflow.zone
    data["overlap"] = {to: options[name] for name, to in _OVERLAP.items() if name in options}
    data["triggers"] = [_trigger(trigger) for trigger in workflow.triggers]
    data["parameters"] = [_parameter(name, value) for name, value in workflow.parameters]
    data["nodes"] = [_node(node, workflow, root) for node in workflow.nodes]
    return validated(data, what, workflow.at), places


def validated(data: Mapping[str, Any], what: str, where: Location | str | None) -> WorkflowSpec:
    """A specification out of plain data.

    Raises:
        WorkflowError: a field is missing, unknown or of the wrong type; all of them are said.
    """
    try:
        return WorkflowSpec.model_validate(data)
    except ValidationError as error:
        found = "; ".join(f"{_path(e['loc'])}: {e['msg']}, found {e['input']!r}" for e in error.errors())
        raise WorkflowError(
            f"{what} does not fit the schema",
            found=found,
            remedy="`penstock workflow schema` prints what each field may be",
            where=where,
        ) from error


def _path(parts: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in parts)


def _picked(options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _known(options: Mapping[str, Any], names: tuple[str, ...], what: str, where: Location | None) -> None:
    for name in options:
        if name not in names:
            raise WorkflowError(f"{what} has no option {name!r}", remedy=nearest(name, names), where=where)


def _trigger(trigger: Trigger) -> dict[str, Any]:
    consume = {"how": trigger.consume, "count": trigger.count, "redone": trigger.redone}
    if trigger.deadline is not None:
        consume["deadline"] = trigger.deadline
    return {"name": trigger.name, "on": trigger.condition, "consume": consume}


def _parameter(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, type):
        return {"name": name, "type": _TYPES.get(value, value.__name__), "required": True}
    if isinstance(value, Mapping) and "type" in value:
        return {"name": name, **value}
    return {"name": name, "type": _TYPES.get(type(value), "json"), "default": value}


def _node(node: Written, workflow: Workflow, root: Path) -> dict[str, Any]:
    what, options = f"{workflow.name}.{node.name}", dict(node.options)
    _known(options, (*_RETRY, *_ISOLATION, *_NODE), what, node.at)
    component, parameters = _runs(node, what, root)
    return {
        "name": node.name,
        "kind": node.kind,
        "component": component,
        "parameters": parameters,
        "inputs": {name: _input(output, node, workflow) for name, output in node.inputs},
        "edges": [
            {"action": action, "when": text} for action, c in node.edges for text in _conditions(c, node, workflow)
        ],
        "retry": {to: options[name] for name, to in _RETRY.items() if name in options},
        "isolation": _picked(options, _ISOLATION),
        **_picked(options, _NODE),
    }


def _runs(node: Written, what: str, root: Path) -> tuple[str, dict[str, Any]]:
    match node.runs:
        case Component(name, parameters):
            return name, dict(parameters)
        case Group(name=name) | Joined(name=name):
            return (
                ("feature_live", {"emit": [name]}) if node.kind == "stream" else ("feature_backfill", {"group": name})
            )
        case View(name=name):
            return (
                ("feature_live", {"serve": [name]}) if node.kind == "stream" else ("feature_backfill", {"view": name})
            )
        case Action() | Samples() | Endpoint():
            raise NotBuiltError(
                f"{what} runs {type(node.runs).__name__.lower()} parts, which are not built yet",
                remedy="use a group, a view, a function or component(...)",
                where=node.at,
            )
        case runs if inspect.isfunction(runs):
            return "python", {"call": _function(runs, what, node.at, root)}
    raise WorkflowError(
        f"{what} runs a group, a view, a function of the project or component(...)",
        found=repr(node.runs),
        remedy='write it as in flow.batch("report", component("shell", command="make report"))',
        where=node.at,
    )


def _function(function: Callable[..., Any], what: str, where: Location | None, root: Path) -> str:
    file = Path(inspect.getfile(function)).resolve()
    if "<" in function.__qualname__ or not file.is_relative_to(root.resolve()):
        raise WorkflowError(
            f"{what} runs a function that another process can find",
            found=f"{function.__qualname__} in {file}",
            remedy="define it at the top of a file of the project",
            where=where,
        )
    module = ".".join(file.relative_to(root.resolve()).with_suffix("").parts)
    return f"{module}:{function.__qualname__}"


def _input(output: Any, node: Written, workflow: Workflow) -> str:
    if isinstance(output, Written):
        return f"{output.name}.result"
    if not isinstance(output, Output) or output.node not in workflow.nodes:
        raise WorkflowError(
            f"{workflow.name}.{node.name} takes an input from a node of the same workflow",
            found=repr(output),
            remedy='write it as in inputs={"rows": earlier["rows"]}',
            where=node.at,
        )
    return f"{output.node.name}.{output.name}"


def _conditions(condition: Any, node: Written, workflow: Workflow) -> list[str]:
    if isinstance(condition, str):
        return [condition]
    if isinstance(condition, tuple | list):
        return [text for part in condition for text in _conditions(part, node, workflow)]
    if isinstance(condition, Written) and condition in workflow.nodes:
        return [f'status({condition.name}) == "done"']
    raise WorkflowError(
        f"an edge into {workflow.name}.{node.name} is a predicate or a node of the same workflow",
        found=repr(condition),
        remedy='write it as in after=fit, or when="watermark(samples) >= end"',
        where=node.at,
    )
