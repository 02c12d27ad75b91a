"""Observations waiting for their outcomes, and the rows made when they close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.algebra.layout import Layout, Measure, Op, Output, Slot, SlotKind, Window, WindowKind
from penstock.engine.live.asof import slot_kind
from penstock.engine.live.frame import OP_DROP, Frame, Int64s, set_column, set_columns
from penstock.engine.live.groups import LayoutState
from penstock.engine.live.interner import Interner
from penstock.engine.live.keyed import id_hashes
from penstock.engine.live.past import Past, replaced
from penstock.plan.expr import Expression
from penstock.plan.expr.types import BOOL
from penstock.plan.ir import JoinPlan, Reducer
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, NEVER_US, OFFSET, OP, OP_DELETE, PARTITION

__all__ = ["JoinState", "dropped_as_deletes"]

LATEST_US: Final = 86_400_000_000
"""How late an observation of a join may come, after its window and grace, and still find outcomes in state."""

_MADE = "_made"
_SEEN: Final = Reducer("_seen", "any", None, None, BOOL)


@dataclass
class _Segment:
    """Observations that wait: a batch with the known time at which each one's row is made."""

    rows: pa.RecordBatch
    first_us: int

    @classmethod
    def of(cls, rows: pa.RecordBatch) -> _Segment:
        return cls(rows, int(rows.column(_MADE).to_numpy().min()))


class JoinState:
    """The outcomes of a join, in the arena, and its open observations, which go along with every checkpoint."""

    def __init__(
        self,
        plan: JoinPlan,
        handle: Any,
        root: int,
        interner: Interner,
        *,
        past: Past | None = None,
        reader: bool = False,
    ) -> None:
        self.plan, self._past = plan, past
        slots: list[Slot] = []
        expressions: list[Expression] = []
        measures = [_measure(reducer, slots, expressions) for reducer in plan.reducers]
        window = Window("within", WindowKind.TIME, width_us=plan.within_us)
        outputs = [Output(r.name, i, 0, "int" if r.op == "any" else str(r.type)) for i, r in enumerate(plan.reducers)]
        layout = Layout(tuple(slots), tuple(measures), (window,), tuple(outputs))
        self.outcomes = LayoutState(handle, root, layout, expressions, interner, reader=reader, instants=True)
        self._waiting: list[_Segment] = []
        self._known: pa.Table | None = None

    def __len__(self) -> int:
        return sum(segment.rows.num_rows for segment in self._waiting)

    def forgotten_us(self, former_us: int) -> int:
        """Before it lie outcomes of no observation that closes after a frontier, unless that comes late."""
        return former_us - (self._wait_us + LATEST_US)

    @property
    def _wait_us(self) -> int:
        """How long after its instant an observation takes outcomes."""
        return self.plan.within_us + self.plan.grace_us

    def late(self, t: npt.NDArray[np.int64], known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The places of observations, or of rows made from them, that came too late to find outcomes in state."""
        return np.flatnonzero(t < known - (self._wait_us + LATEST_US))

    def due_us(self) -> int | None:
        """When the next observation closes; None where none is open."""
        return min((segment.first_us for segment in self._waiting if segment.first_us < NEVER_US), default=None)

    def observe(self, frame: Frame) -> None:
        """Takes observations in; a correction ends what it corrects, unless that was made before."""
        if not len(frame):
            return
        deadline = frame.t + self._wait_us
        closing = np.maximum(frame.known, deadline) if self.plan.emit == "final" else np.int64(NEVER_US)
        made = np.where(frame.stands, closing, frame.known)
        rows = set_column(frame.batch, _MADE, pa.array(made))
        if self.plan.emit == "match":
            rows = self._matched(rows, None)
            rows = rows if self._known is None else self._matched(rows, self._known)
        if frame.origin.corrected:
            rows = self._settle(frame, rows)
        if rows.num_rows:
            self._waiting.append(_Segment.of(rows))
            self._tidy()

    def match(self, outcomes: Frame) -> None:
        """Tells open observations when they first have an outcome, those of this interval being known; nothing where
        a row is made at closing."""
        self._known = None
        if self.plan.emit == "final" or not len(outcomes):
            return
        columns = [KNOWN_TIME, *self.plan.on]
        known = pa.table({name: outcomes.batch.column(name) for name in columns}).group_by(columns).aggregate([])
        self._waiting = [_Segment.of(self._matched(segment.rows, known)) for segment in self._waiting]
        self._known = known

    def _matched(self, rows: pa.RecordBatch, known: pa.Table | None) -> pa.RecordBatch:
        """Observations with the time of their first match, as far as it is known.

        Args:
            known: instants at which outcomes of a key became known; None: when the observation itself did.
        """
        made, own = rows.column(_MADE).to_numpy().copy(), rows.column(KNOWN_TIME).to_numpy()
        t = rows.column(EVENT_TIME).to_numpy()
        closing = t + self._wait_us
        at = np.flatnonzero(made == NEVER_US)
        if known is None:
            instants = own[at]
        else:
            open_ = {name: rows.column(name).take(pa.array(at)) for name in self.plan.on}
            found = pa.table({"row": at, **open_}).join(known, list(self.plan.on), join_type="inner")
            at, instants = found["row"].to_numpy(), found[KNOWN_TIME].to_numpy()
            later = (instants > own[at]) & (instants <= closing[at])
            at, instants = at[later], instants[later]
        if not len(at):
            return rows
        keys = [rows.column(name).take(pa.array(at)) for name in self.plan.on]
        known_by = np.minimum(instants, closing[at])
        seen = self.outcomes.query(keys, t[at] + self.plan.within_us, known_by).seen
        late = self.late(t[at], own[at])
        if len(late):
            asked = rows.take(pa.array(at[late]))
            seen[late] = self._bygone([_SEEN], asked, known_by[late])[_SEEN.name]
        np.minimum.at(made, at[seen], instants[seen])
        return set_column(rows, _MADE, pa.array(made))

    def _settle(self, frame: Frame, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Leaves out versions, waiting or new, that are over by the time at which they would make a row."""
        hashes = id_hashes(frame.ids, frame.partition)
        ends: dict[tuple[int, int], int] = {}
        keep = np.ones(len(frame), np.bool_)
        known, made = frame.known.tolist(), rows.column(_MADE).to_numpy()
        for i in range(len(frame) - 1, -1, -1):
            event = (int(hashes[i, 0]), int(hashes[i, 1]))
            if event == (0, 0):
                continue
            after = ends.get(event)
            if after is not None and after <= made[i] and self._same(frame, known[i], after):
                keep[i] = False
            ends[event] = known[i]
        self._waiting = [found for segment in self._waiting if (found := self._left(frame, segment, ends)) is not None]
        return rows if keep.all() else rows.filter(pa.array(keep))

    def _same(self, frame: Frame, former_us: int, after_us: int) -> bool:
        """Whether two rows of one id are versions of one event."""
        horizon = frame.origin.horizon_us
        return horizon is None or former_us >= after_us - horizon

    def _left(self, frame: Frame, segment: _Segment, ends: dict[tuple[int, int], int]) -> _Segment | None:
        hashes = id_hashes(segment.rows.column(ID), segment.rows.column(PARTITION).to_numpy())
        known, made = segment.rows.column(KNOWN_TIME).to_numpy(), segment.rows.column(_MADE).to_numpy()
        keep = np.ones(len(known), np.bool_)
        for i, pair in enumerate(hashes.tolist()):
            after = ends.get((pair[0], pair[1]))
            if after is not None and after <= made[i] and self._same(frame, int(known[i]), after):
                keep[i] = False
        if keep.all():
            return segment
        return _Segment.of(segment.rows.filter(pa.array(keep))) if keep.any() else None

    def close(self, frontier_us: int) -> pa.RecordBatch | None:
        """The rows made at or before the frontier, by (k, partition, offset), each with its outcomes folded."""
        closing, waiting = [], []
        for segment in self._waiting:
            if segment.first_us > frontier_us:
                waiting.append(segment)
                continue
            due = np.less_equal(segment.rows.column(_MADE).to_numpy(), frontier_us)
            closing.append(segment.rows if due.all() else segment.rows.filter(pa.array(due)))
            if not due.all():
                waiting.append(_Segment.of(segment.rows.filter(pa.array(~due))))
        self._waiting = waiting if self.plan.emit == "final" else self._open(waiting, frontier_us)
        if not closing:
            return None
        rows = pa.Table.from_batches(closing).combine_chunks().to_batches()[0]
        made = rows.column(_MADE).to_numpy()
        order = np.lexsort((rows.column(OFFSET).to_numpy(), rows.column(PARTITION).to_numpy(), made))
        return self._folded(rows.take(pa.array(order)))

    def _open(self, segments: list[_Segment], frontier_us: int) -> list[_Segment]:
        """Observations that an outcome may still match."""
        found = []
        for segment in segments:
            t, known = segment.rows.column(EVENT_TIME).to_numpy(), segment.rows.column(KNOWN_TIME).to_numpy()
            stays = np.maximum(t + self._wait_us, known) > frontier_us
            if stays.any():
                found.append(segment if stays.all() else _Segment.of(segment.rows.filter(pa.array(stays))))
        return found

    def _folded(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        made = rows.column(_MADE)
        t = rows.column(EVENT_TIME).to_numpy()
        known_by = np.minimum(made.to_numpy(), t + self._wait_us)
        keys = [rows.column(name) for name in self.plan.on]
        columns, _ = self.reduced(keys, t, known_by)
        late = self.late(t, rows.column(KNOWN_TIME).to_numpy())
        if len(late) and columns:
            said = self._bygone(self.plan.reducers, rows.take(pa.array(late)), known_by[late])
            columns = {name: replaced(values, late, said[name]) for name, values in columns.items()}
        rows = set_column(rows, KNOWN_TIME, made)
        rows = rows.select([name for name in rows.schema.names if name != _MADE])
        return set_columns(rows, columns)

    def reduced(
        self, keys: Sequence[pa.Array], t: Int64s, known_by: Int64s
    ) -> tuple[dict[str, pa.Array], npt.NDArray[np.bool_]]:
        """The outcomes of observations at `t`, folded, and whether there are any, as known at instants."""
        found = self.outcomes.query(keys, t + self.plan.within_us, known_by)
        columns = {}
        for reducer in self.plan.reducers:
            values = found.columns[reducer.name]
            if reducer.op == "any":
                values = pa.array(values.fill_null(0).to_numpy() > 0)
            columns[reducer.name] = values
        return columns, found.seen

    def _bygone(
        self, reducers: Sequence[Reducer], rows: pa.RecordBatch, known_by: npt.NDArray[np.int64]
    ) -> dict[str, pa.Array]:
        """Folds of the outcomes of late observations, which state may have forgotten."""
        assert self._past is not None, "readers make no joined rows"
        return self._past.outcomes(self.plan, reducers, rows, known_by)

    def _tidy(self) -> None:
        """Joins small segments, so that there are few."""
        while len(self._waiting) > 1 and self._waiting[-2].rows.num_rows <= 2 * self._waiting[-1].rows.num_rows:
            last, former = self._waiting.pop(), self._waiting.pop()
            table = pa.Table.from_batches([former.rows, last.rows]).combine_chunks()
            self._waiting.append(_Segment.of(table.to_batches()[0]))

    def to_bytes(self) -> bytes:
        """The open observations, for a checkpoint."""
        if not self._waiting:
            return b""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._waiting[0].rows.schema) as writer:
            for segment in self._waiting:
                writer.write_batch(segment.rows)
        return bytes(sink.getvalue())

    def from_bytes(self, data: bytes) -> None:
        """Takes back what `to_bytes` gave."""
        self._waiting = []
        if data:
            with pa.ipc.open_stream(data) as reader:
                self._waiting = [_Segment.of(batch) for batch in reader if batch.num_rows]


def dropped_as_deletes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows as a log takes them: what a filter left out is a delete there."""
    op = batch.column(OP).to_numpy()
    if not (op == OP_DROP).any():
        return batch
    return set_column(batch, OP, pa.array(np.where(op == OP_DROP, OP_DELETE, op).astype(np.int8)))


def _measure(reducer: Reducer, slots: list[Slot], expressions: list[Expression]) -> Measure:
    def add(expression: Expression) -> int:
        kind = slot_kind(expression.type)
        scale = expression.type.scale if kind is SlotKind.DECIMAL else 0
        slots.append(Slot(expression.text, kind, str(expression.type), scale))
        expressions.append(expression)
        return len(slots) - 1

    slot = None if reducer.argument is None else add(reducer.argument)
    where = None if reducer.where is None else add(reducer.where)
    return Measure(Op.COUNT if reducer.op == "any" else Op(reducer.op), slot=slot, where=where)
