"""Experiments, their metrics, and endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.define.aggregate import Agg
from penstock.define.model import Model
from penstock.define.values import check_name, here
from penstock.errors import Location

__all__ = ["Endpoint", "Experiment", "Metric", "auc", "endpoint", "experiment", "gauc", "logloss"]


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric of a label."""

    kind: str
    label: str


def logloss(label: str) -> Metric:
    """Log loss of the scores."""
    return Metric("logloss", label)


def auc(label: str) -> Metric:
    """Area under the ROC curve."""
    return Metric("auc", label)


def gauc(label: str) -> Metric:
    """AUC by unit, weighted by its rows."""
    return Metric("gauc", label)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Arms with weights, by randomisation unit."""

    name: str
    unit: str
    arms: tuple[tuple[Model, int], ...]
    metrics: tuple[Metric | Agg, ...]
    layer: str = "default"
    cluster: str | None = None
    at: Location | None = field(default=None, repr=False)


def experiment(
    name: str,
    *,
    unit: str,
    arms: Mapping[Model, int],
    metrics: list[Metric | Agg] | tuple[Metric | Agg, ...] = (),
    layer: str = "default",
    cluster: str | None = None,
) -> Experiment:
    """An experiment between models."""
    where = here()
    check_name(name, "an experiment", where)
    return Experiment(name, unit, tuple(arms.items()), tuple(metrics), layer, cluster, where)


@dataclass(frozen=True, eq=False)
class Endpoint:
    """Where a model or an experiment is asked."""

    name: str
    serves: Experiment | Model
    log: str | float = "all"
    at: Location | None = field(default=None, repr=False)


def endpoint(name: str, serves: Experiment | Model, *, log: str | float = "all") -> Endpoint:
    """An endpoint; `log` is "all" or the share of answers to log."""
    where = here()
    return Endpoint(check_name(name, "an endpoint", where), serves, log, where)
