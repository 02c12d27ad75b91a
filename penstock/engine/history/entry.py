"""Raw rows of a source as the door would take them: instants, ids, ops; what does not fit is counted, not lost."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.errors import DataError
from penstock.plan.expr.types import FLOAT, INSTANT, Column
from penstock.plan.ir import SourcePlan
from penstock.semantics.columns import (
    EVENT_TIME,
    ID,
    KNOWN_TIME,
    OFFSET,
    OP,
    OP_INSERT,
    OP_NAMES,
)

__all__ = ["Entry"]


class Entry:
    """Takes raw batches of one source in the order in which they arrived.

    A row without an event time or an op it could have, with an infinity, or further ahead of its known time than the
    source allows is a dead letter: left out, and counted in `dead` by its reason.

    Attributes:
        columns: of the source's schema, those taken; reads: their names.
        taken: rows accepted so far; the offset of the next row.
        dead: dead letters by reason.
    """

    def __init__(self, plan: SourcePlan, wanted: frozenset[str] | None = None) -> None:
        self.plan = plan
        used = set(plan.schema.names if wanted is None else wanted)
        for expression in (plan.time, plan.known):
            used |= expression.columns if expression is not None else frozenset()
        used |= {name for name in (plan.id, plan.op, *plan.key) if name}
        self.columns = [column for column in plan.schema.columns if column.name in used]
        self.reads = [column.name for column in self.columns]
        self.taken = 0
        self.dead: Counter[str] = Counter()

    def take(self, raw: pa.RecordBatch) -> pa.RecordBatch:
        """System columns, then the source's columns in the types of its schema; offsets count on.

        System columns that have their usual value in every row are left out.

        Raises:
            DataError: a column is missing or of another type; no known time can be told.
        """
        rows = self._columns(raw)
        n = rows.num_rows
        known = self._known_us(raw, rows)
        if self.plan.time is not None:
            event = _us(self.plan.time.evaluate(rows))
            known = event if known is None else known
        elif known is not None:
            event = known
        else:
            raise DataError(
                f"{self.plan.name.name} tells no time of its rows",
                found="neither an event time, a known time nor a commit time",
                remedy='say known="..." where the table is defined',
            )
        op, op_fits = self._op(rows)
        alive = pa.repeat(pa.scalar(True), n)
        alive = self._left("no event time", alive, pc.and_(pc.is_valid(event), pc.is_valid(known)))
        alive = self._left("an unknown op", alive, op_fits)
        alive = self._left("an infinity", alive, self._finite(rows))
        if self.plan.max_ahead_us is not None:
            near = pc.less_equal(pc.subtract(event, known), self.plan.max_ahead_us)
            alive = self._left("further ahead of its known time than max_ahead", alive, pc.fill_null(near, True))
        columns = {
            EVENT_TIME: event,
            KNOWN_TIME: known,
            OFFSET: pa.array(self._offsets(alive)),
        }
        if self.plan.id:
            columns[ID] = _text(rows.column(self.plan.id))
        if self.plan.op:
            columns[OP] = op
        columns.update(zip(rows.schema.names, rows.columns, strict=True))
        batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        return batch if alive.true_count == n else batch.filter(alive)

    def nothing(self) -> pa.RecordBatch:
        """A raw batch without rows."""
        fields = [pa.field(column.name, column.type.arrow) for column in self.columns]
        if self.plan.time is None and self.plan.known is None:  # rows will bring it
            fields.append(pa.field(KNOWN_TIME, pa.int64()))
        return pa.RecordBatch.from_pylist([], schema=pa.schema(fields))

    def _offsets(self, alive: pa.Array) -> NDArray[np.int64]:
        living = np.asarray(alive)
        found = self.taken + np.cumsum(living) - 1
        self.taken += int(living.sum())
        return found

    def _columns(self, raw: pa.RecordBatch) -> pa.RecordBatch:
        columns = [self._column(raw, column) for column in self.columns]
        return pa.RecordBatch.from_arrays(columns, names=self.reads)

    def _column(self, raw: pa.RecordBatch, column: Column) -> pa.Array:
        if column.name not in raw.schema.names:
            raise DataError(
                f"{self.plan.name.name} has the column {column.name}",
                found=f"columns {raw.schema.names}",
                remedy="bring the schema up to date: penstock add",
            )
        values, wanted = raw.column(column.name), column.type.arrow
        if values.type == wanted:
            return values
        try:
            if pa.types.is_dictionary(values.type):
                values = values.dictionary_decode()
            if column.type == INSTANT and pa.types.is_timestamp(values.type) and values.type.tz is None:
                zone = self.plan.zone or "UTC"
                return pc.assume_timezone(
                    values.cast(pa.timestamp("us"), safe=False), zone, ambiguous="earliest", nonexistent="latest"
                ).cast(wanted)
            return values.cast(wanted, safe=not pa.types.is_temporal(wanted))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"column {column.name} of {self.plan.name.name} is {column.type}",
                found=f"{values.type}: {error}",
                remedy="convert it in the source, or pin another type in its schema",
            ) from error

    def _known_us(self, raw: pa.RecordBatch, rows: pa.RecordBatch) -> pa.Array | None:
        if self.plan.known is not None:
            return _us(self.plan.known.evaluate(rows))
        if KNOWN_TIME in raw.schema.names:
            return raw.column(KNOWN_TIME).cast(pa.int64())
        return None

    def _op(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        n = rows.num_rows
        if not self.plan.op:
            return pa.repeat(pa.scalar(OP_INSERT, pa.int8()), n), pa.repeat(pa.scalar(True), n)
        said = pc.utf8_lower(_text(rows.column(self.plan.op)))
        code = pc.index_in(pc.fill_null(said, OP_NAMES[OP_INSERT]), pa.array(OP_NAMES))
        return pc.fill_null(code, OP_INSERT).cast(pa.int8()), pc.is_valid(code)

    def _finite(self, rows: pa.RecordBatch) -> pa.Array:
        finite = pa.repeat(pa.scalar(True), rows.num_rows)
        for column in self.columns:
            if column.type == FLOAT:
                finite = pc.and_(finite, pc.fill_null(pc.invert(pc.is_inf(rows.column(column.name))), True))
        return finite

    def _left(self, reason: str, alive: pa.Array, fits: pa.Array) -> pa.Array:
        both = pc.and_(alive, fits)
        refused = alive.true_count - both.true_count
        if refused:
            self.dead[reason] += refused
        return both


def _us(values: pa.Array) -> pa.Array:
    return values.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())


def _text(values: pa.Array) -> pa.Array:
    return values if values.type == pa.string() else values.cast(pa.string())
