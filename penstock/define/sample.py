"""Samples: observations, labels and features as of the observation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.define.relation import Relation
from penstock.define.values import check_name, duration_us, here
from penstock.define.view import View
from penstock.errors import DefinitionError, Location

__all__ = ["Label", "Samples", "label", "samples"]

Absent = Literal["drop", "null"] | float | int


@dataclass(frozen=True, eq=False)
class Label:
    """An outcome folded to a label; all durations in microseconds.

    Attributes:
        value: expression over the outcome's columns; None: whether there was one.
        absent: what no outcome means; it has no default.
    """

    outcome: Relation
    value: str | None
    on: tuple[str, ...]
    within_us: int
    grace_us: int
    absent: Absent
    fold: str = "any"
    at: Location | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Samples:
    """A sample set."""

    name: str
    observations: Relation
    at_expression: str | None
    features: View
    labels: tuple[tuple[str, Label], ...]
    keep_negatives: float = 1.0
    policy: str = "wait"
    allow_leak: str | None = None
    version: int = 1
    at: Location | None = field(default=None, repr=False)


def label(
    outcome: Relation,
    value: str | None = None,
    *,
    on: str | tuple[str, ...],
    within: str,
    absent: Absent,
    grace: str = "0s",
    fold: str = "any",
) -> Label:
    """A label: outcomes of an observation, joined by key within a time and folded.

    Args:
        absent: what no outcome means: 0, another number, "null" or "drop".
    """
    return Label(
        outcome,
        value,
        (on,) if isinstance(on, str) else on,
        duration_us(within, "within"),
        duration_us(grace, "grace"),
        absent,
        fold,
        here(),
    )


def samples(
    name: str,
    observations: Relation,
    *,
    features: View,
    at: str | None = None,
    keep_negatives: float = 1.0,
    policy: Literal["wait", "correct"] = "wait",
    allow_leak: str | None = None,
    version: int = 1,
    **labels: Label,
) -> Samples:
    """A sample set: observations with labels, and features as of `at` (default: the observation's event time)."""
    where = here()
    check_name(name, "a sample set", where)
    for column, found in labels.items():
        if not isinstance(found, Label):
            raise DefinitionError(
                f"{name}.{column} is a label", found=repr(found), remedy="write late=ps.label(...)", where=where
            )
    if not 0 < keep_negatives <= 1:
        raise DefinitionError(
            "keep_negatives is a share above 0", found=repr(keep_negatives), remedy="write 0.1", where=where
        )
    return Samples(
        name, observations, at, features, tuple(labels.items()), keep_negatives, policy, allow_leak, version, where
    )
