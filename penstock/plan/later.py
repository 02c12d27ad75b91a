"""What rests on features and is not built yet: samples, models, experiments, endpoints."""

from __future__ import annotations

from penstock.define.experiment import Endpoint, Experiment
from penstock.define.model import Model
from penstock.define.sample import Label, Samples
from penstock.define.view import View
from penstock.errors import Location, PlanError, nearest
from penstock.plan.asking import source_of
from penstock.plan.expr import Expression
from penstock.plan.expr.types import INSTANT, Schema
from penstock.plan.hops import moved_from
from penstock.plan.ir import RelationPlan
from penstock.plan.relations import plan_relation
from penstock.plan.scope import Scope, column_of
from penstock.plan.views import plan_view

__all__ = ["check_later"]


def check_later(scope: Scope, definition: Samples | Model | Experiment | Endpoint) -> str:
    """Checks what can be checked of a definition whose part is not built, and says which part that is.

    Raises:
        PlanError: a column or an expression does not fit; a sample would see its future.
    """
    match definition:
        case Samples():
            _check_samples(scope, definition)
            return "sample sets come with the closed loop, which is not built yet"
        case Model():
            _check_model(scope, definition)
            return "models come with the closed loop, which is not built yet"
        case Experiment():
            return "experiments come with the closed loop, which is not built yet"
        case Endpoint():
            return "endpoints come with serving, which is not built yet"


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
        if samples.allow_leak is None:
            _check_known_at(at, observations, what, where)
    _check_features(scope, samples.features, observations.schema, what, where)
    for name, label in samples.labels:
        _check_label(scope, label, observations, f"{what}, {name}")


def _check_known_at(at: Expression, observations: RelationPlan, what: str, where: Location | None) -> None:
    """The observation itself must be known at the instant of its features; what cannot be shown here is checked later.

    Where no known time is declared, a row is known at its event time at the earliest.
    """
    source = source_of(observations)
    known = source.known if source.known is not None else source.time
    if known is None:
        return
    (base, asked_us), (known_base, known_us) = moved_from(at), moved_from(known)
    if base == known_base and known_us > asked_us:
        raise PlanError(
            f"{what}, at: the observation's own columns would be seen before they are known",
            found=f"features at {at.text}, rows of {source.name.name} known at {known.text}",
            remedy='ask later, declare an earlier known time where there is one, or say allow_leak="reason"',
            where=where,
        )


def _check_features(scope: Scope, view: View, rows: Schema, what: str, where: Location | None) -> None:
    for column in plan_view(scope, view).inputs.columns:
        found = column_of(rows, column.name, f"{what}, features {view.name}", where)
        if found.type != column.type:
            raise PlanError(
                f"{what}, features {view.name}: the view needs {column.name} as {column.type}",
                found=f"{found.type} in the observations",
                remedy="make the view from the observations' columns",
                where=where,
            )


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
        value = scope.expression(label.value, outcome.schema, what, label.at)
        if value.type.name != "bool" and not value.type.numeric:
            raise PlanError(
                f"{what}: a label is a number, or true or false",
                found=f"{label.value} is {value.type}",
                remedy='give a condition, as in "dep_delay >= 15"',
                where=label.at,
            )


def _check_model(scope: Scope, model: Model) -> None:
    what, where = f"model {model.name}", model.at
    labels = [name for name, _ in model.samples.labels]
    if model.target is not None and model.target not in labels:
        raise PlanError(
            f"{what}: its target is a label of its sample set",
            found=repr(model.target),
            remedy=f"labels of {model.samples.name}: {', '.join(labels) or 'none'}",
            where=where,
        )
    observations = plan_relation(scope, model.samples.observations)
    _check_features(scope, model.features, observations.schema, what, where)
    features = plan_view(scope, model.features).outputs
    for name, _ in () if model.prepare is None else model.prepare.columns:
        if name not in features:
            raise PlanError(
                f"{what}, prepare: there is no such feature", found=repr(name), remedy=nearest(name, features),
                where=where,
            )  # fmt: skip
