"""A node of a run as a task, whole: parameters filled in, inputs taken from the nodes before it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from penstock.errors import WorkflowError, nearest
from penstock.store.meta.rows import NodeRow, RunRow
from penstock.workflow.core.moves import ENDED_NODE
from penstock.workflow.core.state import State
from penstock.workflow.messages import Assignment, TaskRef

__all__ = ["assignment", "task_of"]

_PLACE: Final = re.compile(r"\{\{\s*(param\.\w+|interval\.start|interval\.end|run)\s*\}\}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def task_of(row: NodeRow) -> TaskRef:
    """The task that a node's row stands for."""
    return TaskRef(f"{row.run}/{row.node}", row.attempt, row.epoch)


def assignment(state: State, row: NodeRow, lease_us: int) -> Assignment:
    """What a worker needs to do a node of a run.

    `{{ param.NAME }}`, `{{ interval.start }}`, `{{ interval.end }}` and `{{ run }}` in the node's parameters are filled
    in; a text that is nothing else takes the parameter's own type, and instants are ISO 8601.

    Raises:
        WorkflowError: a parameter or an output that it needs is not there.
    """
    run = state.runs[row.run]
    node = state.plan(row.run).nodes[row.node].spec
    return Assignment(
        task=task_of(row),
        run=row.run,
        workflow=row.workflow,
        node=row.node,
        component=node.component,
        component_version=msgspec.json.decode(run.components).get(node.component, ""),
        parameters=_filled(dict(node.parameters), run, state.parameters[row.run]),
        inputs={name: _output(state, row, source) for name, source in node.inputs.items()},
        interval_start_us=run.interval_start_us,
        interval_end_us=run.interval_end_us,
        idempotency_key=f"{row.run}/{row.node}",
        code=run.code,
        timeout_us=node.timeout,
        isolation=node.isolation.model_dump(mode="json"),
        lease_us=lease_us,
    )


def _output(state: State, row: NodeRow, source: str) -> Any:
    name, _, output = source.partition(".")
    made = state.nodes[row.run].get(name)
    if made is None or made.state not in ENDED_NODE:
        return None
    outputs = msgspec.json.decode(made.outputs)
    if not output:
        return outputs
    if output not in outputs:
        if made.state != "done":
            return None
        raise WorkflowError(
            f"give {row.node} the output {source}",
            found=f"{name} made {sorted(outputs)}",
            remedy=nearest(output, outputs),
        )
    return outputs[output]


def _filled(value: Any, run: RunRow, parameters: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(part, run, parameters) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, run, parameters) for part in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    whole = _PLACE.fullmatch(value.strip())
    if whole:
        return _place(whole[1], run, parameters)
    return _PLACE.sub(lambda found: str(_place(found[1], run, parameters)), value)


def _place(name: str, run: RunRow, parameters: dict[str, Any]) -> Any:
    if name == "run":
        return run.run
    if name.startswith("param."):
        if name[6:] not in parameters:
            raise WorkflowError(f"fill in {{{{ {name} }}}}", found=repr(name[6:]), remedy=nearest(name[6:], parameters))
        return parameters[name[6:]]
    at = run.interval_start_us if name == "interval.start" else run.interval_end_us
    if at is None:
        raise WorkflowError(
            f"fill in {{{{ {name} }}}}", found="a run without an interval", remedy="start it for an interval"
        )
    return (_EPOCH + timedelta(microseconds=at)).isoformat()
