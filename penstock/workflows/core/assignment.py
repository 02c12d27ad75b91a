"""A node of a run as a task, whole: parameters filled in, inputs taken from the nodes before it."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.errors import WorkflowError, nearest
from penstock.store.meta.rows import NodeRow
from penstock.workflows.core.moves import ENDED_NODE
from penstock.workflows.core.state import State
from penstock.workflows.messages import Assignment, TaskRef
from penstock.workflows.spec.template import LATE, render, run_values

__all__ = ["assignment", "task_of"]


def task_of(row: NodeRow) -> TaskRef:
    """The task that a node's row stands for."""
    return TaskRef(f"{row.run}/{row.node}", row.attempt, row.epoch)


def assignment(state: State, row: NodeRow, lease_us: int) -> Assignment:
    """What a worker needs to do a node of a run.

    What belongs to the run is filled into the node's parameters; dictionary and secrets are read by the task.

    Raises:
        WorkflowError: a parameter or an output that it needs is not there.
    """
    run = state.runs[row.run]
    node = state.plan(row.run).nodes[row.node].spec
    values = run_values(run.run, run.interval_start_us, run.interval_end_us, state.parameters[run.run])
    return Assignment(
        task=task_of(row),
        run=row.run,
        workflow=row.workflow,
        node=row.node,
        component=node.component,
        component_version=msgspec.json.decode(run.components).get(node.component, ""),
        parameters=render(dict(node.parameters), values, skip=LATE),
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
