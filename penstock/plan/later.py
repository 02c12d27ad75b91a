"""What rests on features and is not built yet: samples, models, experiments, endpoints, workflows."""

from __future__ import annotations

from penstock.define.experiment import Endpoint, Experiment
from penstock.define.model import Model
from penstock.define.sample import Label, Samples
from penstock.define.workflow import Workflow
from penstock.errors import PlanError
from penstock.plan.expr.types import INSTANT
from penstock.plan.ir import RelationPlan
from penstock.plan.relations import plan_relation
from penstock.plan.scope import Scope, column_of

__all__ = ["check_later"]


def check_later(scope: Scope, definition: Samples | Model | Experiment | Endpoint | Workflow) -> str:
    """Checks what can be checked of a definition whose part is not built, and says which part that is.

    Raises:
        PlanError: a column or an expression does not fit.
    """
    match definition:
        case Samples():
            _check_samples(scope, definition)
            return "sample sets come with the closed loop, which is not built yet"
        case Model():
            _check_model(definition)
            return "models come with the closed loop, which is not built yet"
        case Experiment():
            return "experiments come with the closed loop, which is not built yet"
        case Endpoint():
            return "endpoints come with serving, which is not built yet"
        case Workflow():
            return "workflows come with the scheduler, which is not built yet"


def _check_samples(scope: Scope, samples: Samples) -> None:
    what, where = f"samples {samples.name}", samples.at
    observations = plan_relation(scope, samples.observations)
    if samples.at_expression is not None:
        at = scope.expression(samples.at_expression, observations.schema, f"{what}, at", where)
        if at.type != INSTANT:
            raise PlanError(
                f"{what}, at: features are read at an instant",
                found=f"{samples.at_expression} is {at.type}",
                remedy='write at="scheduled_at - 60min"',
                where=where,
            )
    for name, label in samples.labels:
        _check_label(scope, label, observations, f"{what}, {name}")


def _check_label(scope: Scope, label: Label, observations: RelationPlan, what: str) -> None:
    outcome = plan_relation(scope, label.outcome)
    for column in label.on:
        left = column_of(observations.schema, column, f"{what}, on, observations", label.at)
        right = column_of(outcome.schema, column, f"{what}, on, outcomes", label.at)
        if left.type != right.type:
            raise PlanError(
                f"{what}, on: both sides have the column under one type",
                found=f"{column} is {left.type} and {right.type}",
                remedy="cast it where it enters",
                where=label.at,
            )
    if label.value is not None:
        scope.expression(label.value, outcome.schema, what, label.at)


def _check_model(model: Model) -> None:
    labels = [name for name, _ in model.samples.labels]
    if model.target is not None and model.target not in labels:
        raise PlanError(
            f"model {model.name}: its target is a label of its sample set",
            found=repr(model.target),
            remedy=f"labels of {model.samples.name}: {', '.join(labels) or 'none'}",
            where=model.at,
        )
