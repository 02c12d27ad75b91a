"""Observations with their outcomes, each row known when it was made, and until its event makes another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.algebra.history import sweep
from penstock.algebra.layout import Layout, Measure, Op, Output, Slot, SlotKind, Window, WindowKind
from penstock.algebra.table import Column, Queries, Rows
from penstock.engine.history.answers import Answer
from penstock.engine.history.arrange import KeyedRows
from penstock.engine.history.frame import EVENT, UNTIL_OFFSET, column, int64, replace_column, system
from penstock.engine.history.knowledge import Instants, Knowledge, known_until, ranks
from penstock.engine.history.relations import Readers, whole
from penstock.engine.history.run import Run
from penstock.engine.history.selves import UNKNOWN_US
from penstock.engine.history.slots import flatten, to_arrow
from penstock.names import fingerprint
from penstock.plan.expr import Expression
from penstock.plan.expr.types import BOOL
from penstock.plan.ir import JoinPlan, Reducer
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME, KNOWN_UNTIL, NEVER_US, OFFSET, PARTITION

__all__ = ["asking_rows", "joined_rows", "made_until", "outcomes_of"]

Int64 = NDArray[np.int64]
_MATCHED = "_matched"
_KINDS = {
    "int": SlotKind.INT, "instant": SlotKind.INT, "duration": SlotKind.INT, "date": SlotKind.INT,
    "float": SlotKind.FLOAT, "decimal": SlotKind.DECIMAL, "bool": SlotKind.BOOL,
}  # fmt: skip


def joined_rows(run: Run, readers: Readers, plan: JoinPlan, wanted: frozenset[str]) -> Iterator[pa.Table]:
    """The rows of a join, made at closing or at the first match."""
    stage = f"{plan.name.name}-{fingerprint([plan.fingerprint, sorted(wanted)])[:8]}"
    reducers = [r for r in plan.reducers if r.name in wanted or plan.emit == "match"]
    outcome_columns = frozenset(plan.on).union(*(_read(r) for r in plan.reducers))
    own = wanted - {r.name for r in plan.reducers} | set(plan.on)
    observations = run.exchange(whole(run, readers, plan.observation, own), plan.on, f"observed-{stage}")
    outcomes = run.exchange(whole(run, readers, plan.outcome, outcome_columns), plan.on, f"outcomes-{stage}")
    for part in range(run.parts):
        yield _joined(plan, reducers, observations.read(part), outcomes.read(part), run.options.threads)


def outcomes_of(
    run: Run, readers: Readers, plan: JoinPlan, reducers: Sequence[Reducer], *, observed: pa.Table, known_by: str
) -> Iterator[pa.Table]:
    """Observations with columns that fold their outcomes, known at the instants in a column, partition by partition."""
    wanted = frozenset(plan.on).union(*(_read(r) for r in reducers))
    observations = run.exchange([observed], plan.on, f"asking-{plan.name.name}")
    outcomes = run.exchange(whole(run, readers, plan.outcome, wanted), plan.on, f"asked-{plan.name.name}")
    for part in range(run.parts):
        rows = observations.read(part)
        fold = _Fold(plan, reducers, rows, outcomes.read(part), run.options.threads)
        for name, values in fold.reduced(Instants(int64(rows.column(known_by)))).items():
            rows = replace_column(rows, name, values)
        yield rows


def _read(reducer: Reducer) -> frozenset[str]:
    return frozenset().union(*(e.columns for e in (reducer.argument, reducer.where) if e is not None))


def _joined(
    plan: JoinPlan, reducers: Sequence[Reducer], observed: pa.Table, outcomes: pa.Table, threads: int
) -> pa.Table:
    fold = _Fold(plan, reducers, observed, outcomes, threads)
    closing = fold.t + plan.within_us + plan.grace_us
    made = np.maximum(fold.k, closing) if plan.emit == "final" else fold.first_match(closing)
    until = system(observed, KNOWN_UNTIL)
    kept = (made != NEVER_US) & (until > made)
    made_end, end_offset = made_until(observed, made, kept)
    rows = replace_column(observed, KNOWN_TIME, pa.array(made))
    if KNOWN_UNTIL in observed.column_names:
        rows = replace_column(rows, KNOWN_UNTIL, pa.array(made_end))
        rows = replace_column(rows, UNTIL_OFFSET, pa.array(end_offset))
    for name, values in fold.reduced(Instants(np.minimum(made, closing))).items():
        rows = rows.append_column(name, values)
    return rows if kept.all() else rows.filter(pa.array(kept))


def asking_rows(run: Run, readers: Readers, plan: JoinPlan, rows: pa.Table, knowledge: Knowledge) -> pa.Table:
    """Asking rows as observations of a join, with the outcomes that each knows; where it takes a match, those with one.

    They are in no log, as joined rows.
    """
    wanted = frozenset(plan.on).union(*(_read(r) for r in plan.reducers))
    outcomes = pa.concat_tables(list(whole(run, readers, plan.outcome, wanted)))
    matched = Reducer(_MATCHED, "any", None, None, BOOL)
    fold = _Fold(plan, [*plan.reducers, matched], rows, outcomes, run.options.threads)
    found = fold.reduced(known_until(knowledge, fold.t + plan.within_us + plan.grace_us))
    for reducer in plan.reducers:
        rows = replace_column(rows, reducer.name, found[reducer.name])
    rows = replace_column(rows, OFFSET, pa.array(np.full(rows.num_rows, UNKNOWN_US)))
    return rows.filter(found[_MATCHED]) if plan.emit == "match" else rows


def made_until(observed: pa.Table, made: Int64, kept: NDArray[np.bool_]) -> tuple[Int64, Int64]:
    """Until when a row made from each version counts, and the offset of the version that ends it.

    It ends when the next version of its event makes a row, or when the event is gone: deleted, moved or filtered out,
    with no version that takes over at the same instant.
    """
    until, until_offset = system(observed, KNOWN_UNTIL).copy(), system(observed, UNTIL_OFFSET).copy()
    if bool((until == NEVER_US).all()):
        return until, until_offset
    partition, event, known, offset = (system(observed, name) for name in (PARTITION, EVENT, KNOWN_TIME, OFFSET))
    order = np.lexsort((offset, known, event, partition))
    this, after = order[:-1], order[1:]
    same = (partition[this] == partition[after]) & (event[this] == event[after])
    follows = same & (known[after] == until[this])  # else the event was gone for a while
    for i, j in zip(this[follows][::-1].tolist(), after[follows][::-1].tolist(), strict=True):
        until[i], until_offset[i] = (made[j], offset[j]) if kept[j] else (until[j], until_offset[j])
    return until, until_offset


class _Fold:
    """Observations and outcomes of one partition, arranged once."""

    def __init__(
        self, plan: JoinPlan, reducers: Sequence[Reducer], observed: pa.Table, outcomes: pa.Table, threads: int
    ) -> None:
        self.plan, self.reducers, self.threads = plan, reducers, threads
        self.t, self.k = system(observed, EVENT_TIME), system(observed, KNOWN_TIME)
        keyed = KeyedRows(outcomes, plan.on)
        self.codes = keyed.asked([column(observed, name) for name in plan.on])
        self.arranged = keyed.arranged if outcomes.num_rows else None
        self.outcomes = outcomes

    def reduced(self, knowledge: Knowledge) -> dict[str, pa.Array]:
        """Each reducer's column."""
        n = len(self.t)
        if not self.reducers:
            return {}
        if self.arranged is None or not n:
            return {r.name: _nothing(r, n) for r in self.reducers}
        slots = _Slots()
        measures = [_measure(r, slots) for r in self.reducers]
        layout = self._layout(slots, measures, [str(r.type) if r.op != "any" else "int" for r in self.reducers])
        ordered = self.outcomes.take(pa.array(self.arranged.rows))
        flat = [flatten(e.evaluate(ordered), s.kind) for e, s in zip(slots.expressions, slots.slots, strict=True)]
        parts = []
        for ranked in ranks(knowledge, ordered, self.plan.outcome, n):
            rows = Rows(
                key=self.arranged.codes,
                t=system(ordered, EVENT_TIME),
                known_from=ranked.known_from,
                values=[values for values, _, _ in flat],
                valid=[valid for _, valid, _ in flat],
                known_until=ranked.until,
                dictionaries=[dictionary for _, _, dictionary in flat],
            )
            mine = np.arange(n) if ranked.queries is None else ranked.queries
            queries = Queries(self.codes[mine], self.t[mine] + self.plan.within_us, ranked.a)
            found = sweep(layout, rows, queries, threads=self.threads)
            parts.append((mine, Answer(self._columns(layout, found), {})))
        return dict(Answer.scattered(parts, n).columns)

    def _columns(self, layout: Layout, found: Mapping[str, Column]) -> dict[str, pa.Array]:
        columns = {}
        for reducer, output in zip(self.reducers, layout.outputs, strict=True):
            values = to_arrow(found[output.name], output.type)
            columns[reducer.name] = _positive(values) if reducer.op == "any" else values
        return columns

    def first_match(self, closing: Int64) -> Int64:
        """When each observation first has an outcome that counts; NEVER where it never does.

        An outcome known with the observation matches at once; otherwise the first to become known before closing does.
        """
        if self.arranged is None:
            return np.full(len(self.t), NEVER_US, np.int64)
        ordered = self.outcomes.take(pa.array(self.arranged.rows))
        k = system(ordered, KNOWN_TIME)
        until = system(ordered, KNOWN_UNTIL) if KNOWN_UNTIL in ordered.column_names else None
        lasting = np.ones(len(k), np.uint8) if until is None else (until > k).astype(np.uint8)
        slots = _Slots([Slot("k", SlotKind.INT, "int"), Slot("lasting", SlotKind.BOOL, "bool")])
        right = self.t + self.plan.within_us
        rows = Rows(self.arranged.codes, system(ordered, EVENT_TIME), k, [k, lasting], [None, None], until)
        layout = self._layout(slots, [Measure(Op.COUNT)], ["int"])
        at_once = sweep(layout, rows, Queries(self.codes, right, np.minimum(self.k, closing)), threads=self.threads)[
            "0"
        ]
        # Rows known after the observation are those with -k <= -(k_obs + 1): one sweep over negated ranks.
        later_rows = replace(rows, known_from=-k, known_until=None)
        layout = self._layout(slots, [Measure(Op.MIN, slot=0, where=1)], ["int"])
        later = sweep(layout, later_rows, Queries(self.codes, right, -(self.k + 1)), threads=self.threads)["0"]
        found = np.where(later.valid & (later.values <= closing), later.values, NEVER_US)
        matched: Int64 = np.where(at_once.values > 0, self.k, found)
        return matched

    def _layout(self, slots: _Slots, measures: Sequence[Measure], types: Sequence[str]) -> Layout:
        window = Window("within", WindowKind.TIME, width_us=self.plan.within_us)
        outputs = tuple(Output(str(i), i, 0, kind) for i, kind in enumerate(types))
        return Layout(tuple(slots.slots), tuple(measures), (window,), outputs)


class _Slots:
    """The slots of a join's reducers."""

    def __init__(self, slots: Sequence[Slot] = ()) -> None:
        self.slots, self.expressions = list(slots), list[Expression]()

    def add(self, expression: Expression) -> int:
        kind = _KINDS.get(expression.type.name, SlotKind.CODE)
        scale = expression.type.scale if kind is SlotKind.DECIMAL else 0
        self.slots.append(Slot(expression.text, kind, str(expression.type), scale))
        self.expressions.append(expression)
        return len(self.slots) - 1


def _measure(reducer: Reducer, slots: _Slots) -> Measure:
    slot = None if reducer.argument is None else slots.add(reducer.argument)
    where = None if reducer.where is None else slots.add(reducer.where)
    return Measure(Op.COUNT if reducer.op == "any" else Op(reducer.op), slot=slot, where=where)


def _positive(values: pa.Array) -> pa.Array:
    return pa.array(np.asarray(values.fill_null(0)) > 0)


def _nothing(reducer: Reducer, n: int) -> pa.Array:
    kind = reducer.type.arrow
    if reducer.op in ("any", "count"):
        return pa.repeat(pa.scalar(reducer.op == "count" and 0, kind), n)
    return pa.nulls(n, kind)
