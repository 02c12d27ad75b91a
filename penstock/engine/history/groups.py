"""Features of a group for queries of one partition: arrange rows by key, rank knowledge, sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.algebra.history import sweep
from penstock.algebra.layout import Layout, Measure, Op, Output
from penstock.algebra.monoids import Status as Made
from penstock.algebra.table import Column, Queries, Rows
from penstock.engine.history.answers import Answer, Status
from penstock.engine.history.arrange import Arrangement, KeyedRows
from penstock.engine.history.frame import gather, system
from penstock.engine.history.knowledge import Knowledge, ranks
from penstock.engine.history.selves import Placed, Selves, with_selves
from penstock.engine.history.slots import flatten, to_arrow
from penstock.plan.ir import GroupPlan
from penstock.semantics.columns import EVENT_TIME

__all__ = ["Asked", "answer_group"]

Int64 = NDArray[np.int64]
_STATUSES = np.array([Status[made.word.upper()] for made in Made], np.uint8)


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries of one kind.

    Attributes:
        keys: one array per key column. q: instants. knowledge: what each may know.
        selves: the rows that the queries are made from, as the group's input has them; None for queries of their own.
    """

    keys: Sequence[pa.Array]
    q: Int64
    knowledge: Knowledge
    selves: Selves | None = None

    def __len__(self) -> int:
        return len(self.q)

    def take(self, at: Int64) -> Asked:
        """Some of the queries."""
        keys = [k.take(pa.array(at)) for k in self.keys]
        selves = None if self.selves is None else self.selves.take(at)
        return Asked(keys, self.q[at], self.knowledge.take(at), selves)


def answer_group(
    plan: GroupPlan,
    keyed: KeyedRows,
    asked: Asked,
    *,
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
) -> Answer:
    """Answers in the order of the queries.

    Args:
        keyed: rows of the group's input, with the columns that its keys and slots read; no version is a delete.
    """
    placed: Placed | None = None
    if plan.layout.include_self and asked.selves is not None:
        placed = with_selves(keyed.table, asked.selves, asked.knowledge, plan.input)
        keyed = keyed if placed.rows is keyed.table else KeyedRows(placed.rows, plan.keys)
    rows, arranged = keyed.table, keyed.arranged
    query_codes = keyed.asked(asked.keys)
    flat = [
        flatten(slot.evaluate(keyed.ordered(slot.columns)), made.kind)
        for slot, made in zip(plan.slots, plan.layout.slots, strict=True)
    ]
    layout, counters = _counting(plan.layout)
    customs = {name: type(made) for name, made in plan.customs.items()}
    sweeping = partial(sweep, layout, threads=threads, progress=progress, custom=customs)
    parts = []
    for ranked in ranks(asked.knowledge, rows, plan.input, len(asked)):
        mine = np.arange(len(asked)) if ranked.queries is None else ranked.queries
        kernel_rows = Rows(
            key=arranged.codes,
            t=keyed.t,
            known_from=keyed.ordered_ranks(ranked.known_from),
            values=[values for values, _, _ in flat],
            valid=[valid for _, valid, _ in flat],
            known_until=None if ranked.until is None else keyed.ordered_ranks(ranked.until),
            dictionaries=[dictionary for _, _, dictionary in flat],
        )
        queries = Queries(query_codes[mine], asked.q[mine], ranked.a, _self_rows(placed, mine, arranged))
        found = _answer(plan, sweeping(kernel_rows, queries), counters, len(mine))
        if placed is not None:
            at, seen = _seen_rows(placed, mine, keyed.codes, query_codes)
            if len(changed := np.unique(at)):
                alone = Queries(query_codes[mine][changed], asked.q[mine][changed], ranked.a[changed])
                without = _answer(plan, sweeping(kernel_rows, alone), counters, len(changed))
                pairs = np.searchsorted(changed, at), system(rows, EVENT_TIME)[seen]
                found = _corrected(plan, found, without, changed, alone.q, seen=pairs)
        parts.append((mine, found))
    return Answer.scattered(parts, len(asked))


def _seen_rows(placed: Placed, mine: Int64, row_codes: Int64, query_codes: Int64) -> tuple[Int64, Int64]:
    """The other versions that some queries see of their self rows under their own keys: indices in `mine`, and rows."""
    queries, rows = placed.seen
    place = np.full(len(query_codes), -1, np.int64)
    place[mine] = np.arange(len(mine))
    own = (place[queries] >= 0) & (row_codes[rows] == query_codes[queries])
    return place[queries[own]], rows[own]


def _corrected(
    plan: GroupPlan, found: Answer, without: Answer, changed: Int64, q: Int64, *, seen: tuple[Int64, Int64]
) -> Answer:
    """The answers where a window that covers a seen version of the self row counts that version, not the self row.

    Args:
        without: answers of the `changed` queries without a self row. q: their instants.
        seen: pairs (index in `changed`, instant) of the versions.
    """
    n = len(next(iter(found.columns.values())))
    values, statuses = dict(found.columns), dict(found.statuses)
    for output in plan.layout.outputs:
        window = plan.layout.windows[output.window]
        left, right = window.edges_us(q)
        of, t = seen
        covered = np.zeros(len(changed), np.bool_)
        covered[of[(left[of] <= t) & (t < right[of])]] = True
        index = np.arange(n)
        index[changed[covered]] = n + np.flatnonzero(covered)
        both = pa.concat_arrays([values[output.name], without.columns[output.name]])
        values[output.name] = both.take(pa.array(index))
        statuses[output.name] = np.concatenate([statuses[output.name], without.statuses[output.name]])[index]
    return Answer(values, statuses)


def _self_rows(placed: Placed | None, mine: Int64, arranged: Arrangement) -> Int64 | None:
    if placed is None:
        return None
    return gather(arranged.place, placed.at[mine])


def _answer(plan: GroupPlan, found: dict[str, Column], counters: Sequence[str], n: int) -> Answer:
    seen = np.zeros(n, np.bool_)
    for name in counters:
        seen |= found[name].values > 0
    columns, statuses = {}, {}
    for output in plan.layout.outputs:
        made = found[output.name]
        columns[output.name] = to_arrow(made, output.type)
        statuses[output.name] = np.where(seen, _STATUSES[made.status], np.uint8(Status.UNSEEN))
    return Answer(columns, statuses)


@lru_cache(maxsize=256)
def _counting(layout: Layout) -> tuple[Layout, tuple[str, ...]]:
    """The layout with a count of rows over every window that its outputs read, and the names of these counts."""
    rows = Measure(Op.COUNT)
    measures = layout.measures if rows in layout.measures else (*layout.measures, rows)
    counter = measures.index(rows)
    outputs, names = list(layout.outputs), []
    for window in sorted({o.window for o in layout.outputs}):
        name = next((o.name for o in layout.outputs if o.measure == counter and o.window == window), None)
        if name is None:
            name = f"_rows_{window}"
            outputs.append(Output(name, counter, window, "int"))
        names.append(name)
    return replace(layout, measures=measures, outputs=tuple(outputs)), tuple(names)
