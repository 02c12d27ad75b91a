"""Arrow values as the kernel's flat arrays, and the kernel's columns as Arrow values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.algebra.layout import SlotKind
from penstock.algebra.monoids import Status
from penstock.algebra.table import Column
from penstock.plan.expr.types import Type

__all__ = ["Flat", "flatten", "to_arrow"]

Flat = tuple[NDArray[Any], NDArray[np.bool_] | None, pa.Array | None]
"""Values, which of them are not null (None: all), and the dictionary of codes (None: values are themselves)."""


def flatten(values: pa.Array | pa.ChunkedArray, kind: SlotKind) -> Flat:
    """One slot's values: int64, float64, (n, 2) uint64 halves of decimals, uint8 truths, or codes with a dictionary."""
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    valid = np.asarray(pc.is_valid(values)) if values.null_count else None
    match kind:
        case SlotKind.DECIMAL:
            return _halves(values), valid, None
        case SlotKind.CODE:
            return _codes(values, valid)
        case SlotKind.FLOAT:
            return _numbers(values.cast(pa.float64()), 0.0), valid, None
        case SlotKind.BOOL:
            return np.asarray(pc.fill_null(values, False)).astype(np.uint8), valid, None
    if pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    return _numbers(values.cast(pa.int64()), 0), valid, None


def _numbers(values: pa.Array, fill: float) -> NDArray[Any]:
    found = pc.fill_null(values, fill) if values.null_count else values
    numbers: NDArray[Any] = found.to_numpy(zero_copy_only=False)
    return numbers


def _halves(values: pa.Array) -> NDArray[np.uint64]:
    buffer = values.buffers()[1]
    if buffer is None:
        return np.zeros((len(values), 2), np.uint64)
    found = np.frombuffer(buffer, np.uint64, count=2 * len(values), offset=16 * values.offset)
    return found.reshape(-1, 2)


def _codes(values: pa.Array, valid: NDArray[np.bool_] | None) -> Flat:
    if pa.types.is_nested(values.type):
        return np.arange(len(values), dtype=np.int64), valid, values
    encoded = values.dictionary_encode()
    indices = pc.fill_null(encoded.indices, 0) if encoded.null_count else encoded.indices
    return np.asarray(indices).astype(np.int64), valid, encoded.dictionary


_INT, _FLOAT = pa.int64(), pa.float64()
_OK, _ZERO = Status.OK.value, Status.ZERO.value  # enumerations are slow to look into, column after column


def to_arrow(column: Column, type_text: str) -> pa.Array:
    """A column of answers in its declared type; null where nothing was found, but for counts, which are 0."""
    kind = Type.parse(type_text).arrow
    if isinstance(column.values, pa.Array | pa.ChunkedArray):
        values = column.values.combine_chunks() if isinstance(column.values, pa.ChunkedArray) else column.values
        return as_type(values, kind)
    present = (column.status == _OK) | (column.status == _ZERO)
    if pa.types.is_decimal(kind):
        return _decimals(column.values, present, kind)
    values = column.values
    if (kind == _INT and values.dtype == np.int64) or (kind == _FLOAT and values.dtype == np.float64):
        bitmap = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
        return pa.Array.from_buffers(kind, len(values), [bitmap, pa.py_buffer(np.ascontiguousarray(values))])
    if pa.types.is_boolean(kind):
        values = values.astype(np.bool_)
    elif pa.types.is_date32(kind):
        values = values.astype(np.int32)
    made = pa.array(values, mask=None if present.all() else ~present)
    return made if made.type == kind else made.cast(kind)


def as_type(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values in a type; the fields of structs go by their place, not by their names."""
    if values.type == kind:
        return values
    if pa.types.is_struct(kind):
        children = [as_type(values.field(i), kind.field(i).type) for i in range(kind.num_fields)]
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=values.is_null())
    missing = values.is_null() if values.null_count else None
    if pa.types.is_map(kind):
        keys, items = as_type(values.keys, kind.key_type), as_type(values.items, kind.item_type)
        return pa.MapArray.from_arrays(values.offsets, keys, items, type=kind, mask=missing)
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(
            values.offsets, as_type(values.values, kind.value_type), type=kind, mask=missing
        )
    return values.cast(kind)


def _decimals(values: NDArray[np.uint64], present: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values, mask=~present).cast(kind)
    bitmap = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little").tobytes())
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, len(present), [bitmap, data])
