"""The newest row per key of a relation, at any instant and known position. For writers and readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.algebra.layout import Layout, Measure, Op, Output, Slot, SlotKind, Window, WindowKind
from penstock.engine.live.groups import LayoutState
from penstock.engine.live.interner import Interner
from penstock.plan.expr.types import BOOL, INT, Type
from penstock.plan.ir import AsOfPlan
from penstock.semantics.columns import EVENT_TIME, OP, OP_DELETE

__all__ = ["AsOfState", "Newest", "slot_kind"]

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
    """Answers of an as-of read: columns, null unless `status` is "ok"; statuses ok, unseen, deleted, stale."""

    columns: dict[str, pa.Array]
    status: npt.NDArray[np.object_]
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
        found = self.state.query(keys, q, a).columns
        seen = found["1"].is_valid().to_numpy(zero_copy_only=False)
        age = np.where(seen, q - found["1"].fill_null(0).to_numpy(), 0)
        status = np.where(seen, "ok", "unseen").astype(object)
        status[seen & found["0"].fill_null(False).to_numpy(zero_copy_only=False)] = "deleted"
        if self.plan.within_us is not None:
            status[(status == "ok") & (age > self.plan.within_us)] = "stale"
        ok = status == "ok"
        columns = {}
        for i, name in enumerate(self.columns):
            present = found[str(2 * i + 3)].fill_null(False).to_numpy(zero_copy_only=False) & ok
            values = found[str(2 * i + 2)]
            columns[name] = _masked(values, present)
        return Newest(columns, status, age.astype(np.int64))


def _slot(i: int, value: _Value) -> Slot:
    kind = SlotKind.BOOL if value.present else slot_kind(value.type)
    shown = BOOL if value.present else value.type
    return Slot(f"{value.column}#{i}", kind, str(shown), shown.scale if kind is SlotKind.DECIMAL else 0)


def _masked(values: pa.Array, keep: npt.NDArray[np.bool_]) -> pa.Array:
    if keep.all():
        return values
    indices = pa.array(np.arange(len(values)), mask=~keep)
    return values.take(indices)
