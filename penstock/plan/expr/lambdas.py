"""Lambdas: a body bound to the elements of lists, run once over the elements of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.plan.expr.access import element_places
from penstock.plan.expr.bound import Bound
from penstock.plan.expr.kernels import Kernel, ints, length_of, vector
from penstock.plan.expr.registry import Site
from penstock.plan.expr.types import BOOL, NULL, Type

__all__ = ["ELEMENT", "INDEX", "Body", "filtered", "list_of_body", "transformed"]

ELEMENT, INDEX = -1, -2


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a lambda.

    Attributes:
        bound: over a frame of its own, one row per element.
        inputs: what each column of that frame is: `ELEMENT`, `INDEX` (from 1), or the number of a captured column.
    """

    bound: Bound
    inputs: tuple[int, ...]

    def run(self, lists: Any, captured: Sequence[Any]) -> _Elements:
        """The body's values for all elements of all rows."""
        n = length_of((lists, *captured))
        lists = vector(lists, n)
        places, parents, index = element_places(lists)
        elements, rows = lists.values.take(ints(places)), ints(parents)
        frame: list[Any] = [len(places)]
        for source in self.inputs:
            if source == ELEMENT:
                frame.append(elements)
            elif source == INDEX:
                frame.append(ints(index))
            else:
                frame.append(vector(captured[source], n).take(rows))
        values = vector(self.bound.run(frame), len(places))
        wanted = self.bound.type.arrow
        return _Elements(lists, elements, parents, values if values.type == wanted else values.cast(wanted))


@dataclass(frozen=True, slots=True)
class _Elements:
    """Elements of lists, their rows, and a value for each."""

    lists: Any
    elements: Any
    parents: np.ndarray[Any, Any]
    values: Any

    def listed(self, elements: Any, parents: np.ndarray[Any, Any], kind: Type) -> Any:
        """A list per row again; null where there was none."""
        n = len(self.lists)
        offsets = ints(np.concatenate(([0], np.cumsum(np.bincount(parents, minlength=n))))).cast(pa.int32())
        mask = self.lists.is_null() if self.lists.null_count else None
        return pa.ListArray.from_arrays(offsets, elements, mask=mask).cast(kind.arrow)


def list_of_body(site: Site) -> Type:
    """The type of a list of the body's values."""
    kind: Type = site.constants[1].bound.type
    if kind == NULL:
        raise site.refuse(1, "the lambda has no type", "write CAST(NULL AS float)")
    return Type("list", (kind,))


def transformed(site: Site) -> Kernel:
    """The lists of the body's values."""
    body, kind = site.constants[1], site.result

    def run(lists: Any, *captured: Any) -> Any:
        found = body.run(lists, captured)
        return found.listed(found.values, found.parents, kind)

    return run


def filtered(site: Site) -> Kernel:
    """The lists of those elements for which the body is true."""
    body, kind = site.constants[1], site.result
    if body.bound.type != BOOL:
        raise site.refuse(1, f"the lambda of a filter is true or false, not {body.bound.type}", "write a comparison")

    def run(lists: Any, *captured: Any) -> Any:
        found = body.run(lists, captured)
        kept = found.values.fill_null(False)
        return found.listed(found.elements.filter(kept), found.parents[np.asarray(kept)], kind)

    return run
