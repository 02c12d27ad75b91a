"""The newest row per key of a relation, at any instant and known position. For writers and readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.algebra.layout import Layout, Measure, Op, Output, Slot, SlotKind, Window, WindowKind
from penstock.algebra.monoids import Status as Made
from penstock.engine.history.answers import Status
from penstock.engine.live.groups import LayoutState
from penstock.engine.live.interner import Interner
from penstock.plan.expr.types import BOOL, INT, Type
from penstock.plan.ir import AsOfPlan
from penstock.semantics.columns import EVENT_TIME, OP, OP_DELETE

__all__ = ["ASOF_LATE_US", "AsOfState", "Newest", "slot_kind"]

ASOF_LATE_US = 3_600_000_000
"""How far before what is known an online read as of an instant may ask: as groups by default."""

_KINDS = {
    "int": SlotKind.INT,
    "instant": SlotKind.INT,
    "duration": SlotKind.INT,
    "date": SlotKind.INT,
    "float": SlotKind.FLOAT,
    "decimal": SlotKind.DECIMAL,
    "bool": SlotKind.BOOL,
}


def slot_kind(kind: Type) -> SlotKind:
    """How values of a type are held in a slot."""
    return _KINDS.get(kind.name, SlotKind.CODE)


@dataclass(frozen=True, slots=True)
class _Value:
    """A column as a slot; with `present`, whether it is not null instead."""

    column: str
    type: Type
    present: bool = False
    nullable: bool = False

    def evaluate(self, table: pa.RecordBatch) -> pa.Array:
        if self.column == OP:
            return pa.array(np.equal(table.column(OP).to_numpy(), OP_DELETE))
        values = table.column(self.column)
        return values.is_valid() if self.present else values


@dataclass(frozen=True, eq=False)
class Newest:
    """Answers of an as-of read: columns, null unless the `status` is OK; statuses OK, UNSEEN, DELETED, STALE."""

    columns: dict[str, pa.Array]
    status: npt.NDArray[np.uint8]
    age_us: npt.NDArray[np.int64]


class AsOfState:
    """The versions of all keys of a relation.

    Args:
        columns: those of the relation that are read.
    """

    def __init__(
        self,
        plan: AsOfPlan,
        columns: Sequence[str],
        handle: Any,
        root: int,
        interner: Interner,
        *,
        reader: bool = False,
    ) -> None:
        self.plan, self.columns = plan, tuple(columns)
        values = [_Value(OP, BOOL), _Value(EVENT_TIME, INT)]
        for name in self.columns:
            kind = plan.relation.schema[name].type
            values += [_Value(name, kind), _Value(name, BOOL, present=True)]
        slots = tuple(_slot(i, value) for i, value in enumerate(values))
        window = Window("all", WindowKind.LIFETIME, closed=plan.closed)
        measures = tuple(Measure(Op.LAST, slot=i) for i in range(len(slots)))
        outputs = tuple(Output(str(i), i, 0, slot.type) for i, slot in enumerate(slots))
        layout = Layout(slots, measures, (window,), outputs)
        self.state = LayoutState(handle, root, layout, values, interner, reader=reader)

    def query(self, keys: Sequence[pa.Array], q: npt.NDArray[np.int64], a: npt.NDArray[np.int64]) -> Newest:
        """The newest row of each key before `q`, known at rank `a`."""
        made = self.state.merged(keys, q, a)
        deleted, t = made.column(0), made.column(1)
        age = np.where(t.valid, q - t.values, 0)
        status = np.where(t.valid, np.uint8(Status.OK), np.uint8(Status.UNSEEN))
        status[t.valid & deleted.valid & (deleted.values != 0)] = Status.DELETED
        if self.plan.within_us is not None:
            status[(status == Status.OK) & (age > self.plan.within_us)] = Status.STALE
        ok = status == Status.OK
        values = range(2, 2 + 2 * len(self.columns), 2)
        statuses = made.statuses[: values.stop].copy()
        for i in values:
            present = made.column(i + 1)
            statuses[i][~(ok & present.valid & (present.values != 0))] = Made.EMPTY.value
        columns = self.state.shown(made, statuses, values, {})
        return Newest(dict(zip(self.columns, columns.values(), strict=True)), status, age)


def _slot(i: int, value: _Value) -> Slot:
    kind = SlotKind.BOOL if value.present else slot_kind(value.type)
    shown = BOOL if value.present else value.type
    return Slot(f"{value.column}#{i}", kind, str(shown), shown.scale if kind is SlotKind.DECIMAL else 0)
