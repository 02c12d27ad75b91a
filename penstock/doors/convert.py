"""Rows as a source has them into rows as a topic takes them: types, zones, the two times, ids and ops."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from penstock.doors.sources.texts import ZONED, local_to_utc
from penstock.doors.topics import known_clock
from penstock.errors import DataError, nearest
from penstock.plan.expr.types import Column
from penstock.plan.ir import SourcePlan
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, OP, OP_NAMES

__all__ = ["Converter"]

_UNKNOWN_OP: Final = 127
_INSTANT: Final = pa.timestamp("us", tz="UTC")


class Converter:
    """Converts batches of one stream or table.

    Values become those of the pinned types; a local time is read in the definition's zone; the time, known, id and
    op of the definition become system columns. A row that does not fit keeps its value, so that the log refuses that
    row alone and says why.
    """

    def __init__(self, source: SourcePlan) -> None:
        self.source = source
        self.from_rows = known_clock(source) == "source"

    def convert(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a batch, in its order.

        Args:
            batch: the source's columns; `_known_time` where the source knows the arrival. Others are left out.

        Raises:
            DataError: a column that may not be null is missing, or a local time has no zone.
        """
        typed, raw = [], []
        for column in self.source.schema.columns:
            values, given = self._column(batch, column)
            typed.append(values)
            raw.append(given)
        names = list(self.source.schema.names)
        rows = pa.RecordBatch.from_arrays(typed, names=names)
        system = self._system(rows, batch)
        return pa.RecordBatch.from_arrays([*system.values(), *raw], names=[*system, *names])

    def typed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns alone, in the pinned types; null where a value does not fit."""
        columns = [self._column(batch, column)[0] for column in self.source.schema.columns]
        return pa.RecordBatch.from_arrays(columns, names=list(self.source.schema.names))

    def _system(self, rows: pa.RecordBatch, batch: pa.RecordBatch) -> dict[str, Any]:
        source = self.source
        event = None if source.time is None else source.time.evaluate(rows).cast(pa.int64())
        known = None
        if KNOWN_TIME in batch.schema.names:
            known = batch.column(KNOWN_TIME)
        elif source.known is not None:
            known = source.known.evaluate(rows).cast(pa.int64())
        if event is None:
            event = known
        if event is None:
            raise DataError(
                f"rows of {source.name.name} have a time",
                found="neither time= nor known=",
                remedy="declare known= for this table",
            )
        system = {EVENT_TIME: event}
        if self.from_rows:
            system[KNOWN_TIME] = event if known is None else known
        if source.id is not None:
            system[ID] = rows.column(source.id).cast(pa.string())
            if source.op is not None:
                system[OP] = _ops(rows.column(source.op))
        return system

    def _column(self, batch: pa.RecordBatch, column: Column) -> tuple[Any, Any]:
        """The values in the pinned type (null where they do not fit), and as the log shall judge them."""
        kind, index = column.type.arrow, batch.schema.get_field_index(column.name)
        if index < 0:
            if not column.nullable:
                raise DataError(
                    f"rows of {self.source.name.name} have the column {column.name!r}",
                    found=f"columns {batch.schema.names[:12]}",
                    remedy=nearest(column.name, batch.schema.names),
                )
            empty = pa.nulls(batch.num_rows, kind)
            return empty, empty
        values = batch.column(index)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if values.type == kind:
            return values, values
        if pa.types.is_timestamp(kind):
            if not _is_text(values.type):
                values = self._instants(values, column)
                return values, values
            return _read_instants(values.cast(pa.string()), self.source.zone)
        return _cast(values, kind)

    def _instants(self, values: Any, column: Column) -> Any:
        if pa.types.is_timestamp(values.type) and values.type.tz is None:
            if self.source.zone is None:
                raise DataError(
                    f"column {column.name!r} holds instants",
                    found="local times without a zone",
                    remedy=f'say theirs in the definition of {self.source.name.name}: zone="Europe/London" (or "UTC")',
                )
            return local_to_utc(values, self.source.zone)
        return values.cast(_INSTANT, safe=False)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _cast(values: Any, kind: pa.DataType) -> tuple[Any, Any]:
    try:
        cast = values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _fitting(values, kind), values
    return cast, cast


def _read_instants(texts: Any, zone: str | None) -> tuple[Any, Any]:
    """ISO texts as instants; those without an offset are read in the zone; an empty text is a missing time."""
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if zone is None:
        return _cast(texts, _INSTANT)
    zoned = pc.match_substring_regex(texts, ZONED)
    nothing = pa.scalar(None, pa.string())
    fixed, fixed_raw = _cast(pc.if_else(zoned, texts, nothing), _INSTANT)
    local, local_raw = _cast(pc.if_else(zoned, nothing, texts), pa.timestamp("us"))
    instants = pc.coalesce(fixed, local_to_utc(local, zone))
    whole = fixed_raw.type == _INSTANT and local_raw.type == pa.timestamp("us")
    return instants, instants if whole else texts


def _fitting(values: Any, kind: pa.DataType) -> Any:
    """The values that fit, null for the others."""
    found = []
    for value in values:
        try:
            found.append(value.cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            found.append(pa.scalar(None, kind))
    return pa.array(found, kind)


def _ops(texts: Any) -> Any:
    """Codes of insert, upsert and delete; null is insert, another word a code that the log refuses."""
    codes = pc.index_in(pc.utf8_lower(texts), pa.array(OP_NAMES))
    codes = pc.if_else(texts.is_null(), 0, pc.fill_null(codes, _UNKNOWN_OP))
    return codes.cast(pa.int8())
