"""CASE: all branches at once, or each on its own rows where a branch calls a user's function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.plan.expr.bound import Bound, Frame, apply
from penstock.plan.expr.kernels import ints, length_of, vector
from penstock.plan.expr.logic import choose
from penstock.plan.expr.syntax import Node

__all__ = ["bind_case"]


def bind_case(node: Node, conditions: Sequence[Bound], branches: Sequence[Bound]) -> Bound:
    """CASE over bound conditions and one more bound branches, all of one type.

    A branch that calls a user's function sees only the rows that come to it, since only such a call can fail.
    """
    n = len(conditions)

    def kernel(*args: Any) -> Any:
        found = args[-1]
        for at in range(n - 1, -1, -1):
            found = choose(args[at], args[n + at], found)
        return vector(found, length_of(args))

    def template(texts: list[str]) -> str:
        whens = "".join(f" WHEN {texts[at]} THEN {texts[n + at]}" for at in range(n))
        return f"(CASE{whens} ELSE {texts[-1]} END)"

    parts = (*conditions, *branches)
    nullable = any(branch.nullable for branch in branches)
    if not any(part.calls for part in parts):
        return apply(node, kernel, parts, branches[0].type, nullable, template)

    def run(frame: Frame) -> Any:
        return _each_on_its_rows(frame, conditions, branches)

    columns = frozenset[str]().union(*(part.columns for part in parts))
    return Bound(node, branches[0].type, nullable, columns, run, tuple(parts), template, calls=True)


def _each_on_its_rows(frame: Frame, conditions: Sequence[Bound], branches: Sequence[Bound]) -> Any:
    left = np.arange(frame[0])
    rows, values = [], []
    for condition, branch in zip(conditions, branches, strict=False):
        held = vector(condition.run(_taken(frame, left)), len(left))
        true = held.fill_null(False).to_numpy(zero_copy_only=False)
        rows.append(left[true])
        values.append(_branch(frame, rows[-1], branch))
        left = left[~true]
    rows.append(left)
    values.append(_branch(frame, left, branches[-1]))
    order = np.argsort(np.concatenate(rows), kind="stable")
    return pa.concat_arrays(values).take(ints(order))


def _branch(frame: Frame, rows: np.ndarray[Any, Any], branch: Bound) -> Any:
    found = vector(branch.run(_taken(frame, rows)), len(rows))
    return found if found.type == branch.type.arrow else found.cast(branch.type.arrow)


def _taken(frame: Frame, rows: np.ndarray[Any, Any]) -> Frame:
    """The frame of some of its rows."""
    if len(rows) == frame[0]:
        return frame
    at = ints(rows)
    return [len(rows), *(column.take(at) for column in frame[1:])]
