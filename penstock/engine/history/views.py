"""Feature views over history: reads by key, two hops, expressions, one stage after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.engine.history.answers import Status
from penstock.engine.history.frame import column, int64, replace_column
from penstock.engine.history.lookups import NUMBER, STATUS, A, Q, Sight, bundles, read_lookup
from penstock.engine.history.relations import Readers
from penstock.engine.history.run import Run
from penstock.engine.hops import fold, listed_keys
from penstock.plan.ir import TwoHopPlan, ViewPlan

__all__ = ["answer_view"]


def answer_view(
    run: Run,
    readers: Readers,
    plan: ViewPlan,
    requests: Iterable[pa.Table],
    sight: Sight,
    *,
    statuses: bool,
    n_requests: int | None = None,
) -> Iterator[pa.Table]:
    """The requests with the view's columns, partition by partition."""
    found: Iterable[pa.Table] = requests
    for bundle in bundles(plan.lookups):
        found = read_lookup(run, readers, bundle, found, sight, statuses=statuses, n_readers=n_requests)
    for hop in plan.two_hops:
        found = _two_hop(run, readers, hop, found, sight, statuses=statuses)
    for table in found:
        made = table
        for name, expression in plan.expressions:
            made = replace_column(made, name, expression.evaluate(made))
        yield made


def _two_hop(
    run: Run, readers: Readers, hop: TwoHopPlan, requests: Iterable[pa.Table], sight: Sight, *, statuses: bool
) -> Iterator[pa.Table]:
    """The requests with one column more: `value` read for each key of the list, folded.

    The list is read under a name of its own, in case the view puts it out too.
    """
    keys = hop.keys
    for number, table in enumerate(requests):
        tag = f"-{hop.name}-{number}"
        asking = table.select([n for n in table.column_names if n.startswith("_") or n in keys.keys])
        plain = [n for n in asking.column_names if not n.startswith(STATUS)]
        listed = list(read_lookup(run, readers, [keys], [asking.select(plain)], sight, tag=tag))
        lists = _in_order(listed, table)
        folded = _folded(run, readers, hop, sight, requests=table, listed=lists, tag=tag)
        made = replace_column(table, hop.name, folded)
        if statuses:
            empty = np.asarray(pc.is_null(folded)).astype(np.uint8) * np.uint8(Status.EMPTY)
            made = made.append_column(STATUS + hop.name, pa.array(empty))
        yield made


def _in_order(listed: list[pa.Table], requests: pa.Table) -> pa.Table:
    """The readers that were answered, in the order of the requests."""
    found = pa.concat_tables(listed, promote_options="permissive")
    place = np.argsort(int64(found.column(NUMBER)), kind="stable")
    back = np.empty(len(place), np.int64)
    back[np.argsort(int64(requests.column(NUMBER)), kind="stable")] = place
    return found.take(pa.array(back))


def _folded(
    run: Run, readers: Readers, hop: TwoHopPlan, sight: Sight, *, requests: pa.Table, listed: pa.Table, tag: str
) -> pa.Array:
    n = requests.num_rows
    elements, parents = listed_keys(hop, column(listed, hop.list_column))
    asking: dict[str, Any] = {
        name: requests.column(name).take(pa.array(parents)) for name in (Q, A) if name in requests.column_names
    }
    asking[NUMBER] = pa.array(np.arange(len(parents), dtype=np.int64))
    asking["key"] = elements
    lookup = replace(hop.value, keys=("key",))
    if len(parents):
        answered = _in_order(
            list(read_lookup(run, readers, [lookup], [pa.table(asking)], sight, tag=tag)), pa.table(asking)
        )
        values = column(answered, lookup.outputs.names[0])
    else:
        values = pa.nulls(0, lookup.outputs.columns[0].type.arrow)
    return fold(values, parents, n, hop.op, hop.type.arrow)
