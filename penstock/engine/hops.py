"""Two hops: the keys that a list holds, and what was read for them folded into one value per request; for any tempo."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.ir import TwoHopPlan

__all__ = ["fold", "listed_keys"]

Int64s = npt.NDArray[np.int64]


def listed_keys(hop: TwoHopPlan, lists: pa.Array) -> tuple[pa.Array, Int64s]:
    """The keys that each list holds, its first `hop.first`, and for each key the index of its list."""
    if hop.first is not None and len(lists):
        lists = pc.list_slice(lists, 0, hop.first)
    parents = np.asarray(pc.list_parent_indices(lists)).astype(np.int64)
    elements = pc.list_flatten(lists)
    if hop.field is not None:
        elements = pc.struct_field(elements, hop.field)
    return elements, parents


_FOLDS = {"sum": "sum", "mean": "mean", "min": "min", "max": "max", "first": "first", "last": "last", "count": "count"}


def fold(values: pa.Array, parents: Int64s, n: int, op: str, kind: pa.DataType) -> pa.Array:
    """Values folded by list, nulls left out; lists without any give null, or 0 and false.

    Args:
        parents: the list of each value, of `n` lists in all; values of one list in its order.
    """
    present = pc.is_valid(values)
    table = pa.table({"query": pa.array(parents), "value": values}).filter(present)
    if op in ("any", "count"):
        counts = np.bincount(table.column("query").to_numpy(), minlength=n)
        return pa.array(counts > 0 if op == "any" else counts.astype(np.int64))
    grouped = table.group_by("query", use_threads=False).aggregate([("value", _FOLDS[op])])
    place = np.full(n, -1, np.int64)
    place[grouped.column("query").to_numpy()] = np.arange(grouped.num_rows)
    folded = grouped.column(f"value_{_FOLDS[op]}").combine_chunks()
    found = folded.take(pa.array(np.maximum(place, 0), mask=place < 0)) if len(folded) else pa.nulls(n, folded.type)
    return found if found.type == kind else found.cast(kind)
