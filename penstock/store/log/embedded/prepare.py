"""The door, first half: what can be judged of rows by themselves, before the log is locked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.errors import DataError, nearest
from penstock.semantics.columns import (
    EVENT_TIME,
    ID,
    KNOWN_TIME,
    OFFSET,
    OP,
    OP_DELETE,
    OP_INSERT,
    ORDINAL,
    PARTITION,
    is_system_column,
)
from penstock.store.log.embedded.spec import Spec
from penstock.store.log.interface import TopicConfig

__all__ = ["NO_TIME_US", "Prepared", "hash_ids", "prepare"]

_ALLOWED_BY: Final = {
    ID: "drop the column, or create the topic with ids=True",
    OP: "drop the column, or create the topic with corrected=True",
}

NO_TIME_US: Final = -(2**63)
"""Event time of a delete that gives none: it takes its known time."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows ready to be stored; all arrays are `(n_rows,)`, in the order of the appended batch.

    Attributes:
        spec: the topic as it was when the rows were prepared.
        source: the appended rows, for dead letters.
        user: the user's columns in the topic's newest schema.
        event_us: event times.
        ids: event ids, null for none; None where the topic keeps no ids.
        hashes: 128-bit hashes of the ids, `(n_rows, 2)`; zero for none.
        ops: ops as asked.
        known_us: known times where the clock is `source`.
        origin: `_ordinal`, `_partition`, `_offset` where the topic is carried.
        partitions: where each row belongs by its key.
        reasons: by index of a row that is refused, why.
    """

    spec: Spec
    source: pa.RecordBatch
    user: pa.RecordBatch
    event_us: NDArray[np.int64]
    ids: pa.Array | None
    hashes: NDArray[np.uint64]
    ops: NDArray[np.int8]
    known_us: NDArray[np.int64] | None
    origin: tuple[pa.Array, pa.Array, pa.Array] | None
    partitions: NDArray[np.int32]
    reasons: dict[int, str]


def prepare(spec: Spec, batch: pa.RecordBatch | pa.Table, partition: int | None = None) -> Prepared:
    """Checks and casts a batch; a row that does not fit is refused by itself.

    Raises:
        DataError: the batch as a whole does not fit: an unknown or missing column.
    """
    config, schema = spec.topic_config(), spec.schema()
    source = _one_batch(batch)
    _check_columns(spec, config, schema, source)
    n = source.num_rows
    reasons: dict[int, str] = {}
    ops = _ops(source, reasons)
    deletes = ops == OP_DELETE
    user = pa.RecordBatch.from_arrays(
        [_fit(source, field, deletes, reasons) for field in schema],
        schema=pa.schema([field.with_nullable(True) for field in schema]),
    )
    ids = _ids(source, config)
    known_us = _required_us(source, KNOWN_TIME, reasons) if config.clock == "source" else None
    return Prepared(
        spec=spec,
        source=source,
        user=user,
        event_us=_event_us(source, deletes, reasons),
        ids=ids,
        hashes=hash_ids(ids) if ids is not None else np.zeros((n, 2), np.uint64),
        ops=ops,
        known_us=known_us,
        origin=_origin(source) if config.carried else None,
        partitions=_partitions(user, config, partition),
        reasons=reasons,
    )


def hash_ids(ids: pa.Array) -> NDArray[np.uint64]:
    """128-bit hashes of event ids by BLAKE2b, `(n, 2)`; a null id is (0, 0)."""
    blake = hashlib.blake2b
    null = bytes(16)
    digests = [null if text is None else blake(text.encode(), digest_size=16).digest() for text in ids.to_pylist()]
    return np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)


def _one_batch(batch: pa.RecordBatch | pa.Table) -> pa.RecordBatch:
    if isinstance(batch, pa.RecordBatch):
        return batch
    batches = batch.combine_chunks().to_batches()
    if len(batches) == 1:
        return batches[0]
    return pa.RecordBatch.from_arrays([pa.array([], type=field.type) for field in batch.schema], schema=batch.schema)


def _check_columns(spec: Spec, config: TopicConfig, schema: pa.Schema, source: pa.RecordBatch) -> None:
    needed = [EVENT_TIME]
    if config.clock == "source":
        needed.append(KNOWN_TIME)
    if config.carried:
        needed += [ORDINAL, PARTITION, OFFSET]
    allowed = {*needed}
    if config.ids or config.carried:
        allowed.add(ID)
    if config.corrected or config.carried:
        allowed.add(OP)
    names = source.schema.names
    for name in needed:
        if name not in names:
            raise DataError(
                f"rows of {spec.name} carry {name}",
                found=f"columns {names!r}",
                remedy="let the door fill it, or add the column",
                where=spec.name,
            )
    for name in names:
        if is_system_column(name):
            if name not in allowed:
                raise DataError(
                    f"rows of {spec.name} carry no {name}",
                    found=f"columns {names!r}",
                    remedy=_ALLOWED_BY.get(name, "drop the column"),
                    where=spec.name,
                )
        elif schema.get_field_index(name) < 0:
            raise DataError(
                f"a column of {spec.name}", found=repr(name), remedy=nearest(name, schema.names), where=spec.name
            )
    if len(set(names)) != len(names):
        raise DataError("column names differ", found=repr(names), remedy="drop one", where=spec.name)


def _ops(source: pa.RecordBatch, reasons: dict[int, str]) -> NDArray[np.int8]:
    if OP not in source.schema.names:
        return np.zeros(source.num_rows, np.int8)
    filled = pc.fill_null(source[OP].cast(pa.int64(), safe=False), OP_INSERT)
    ops: NDArray[np.int64] = np.asarray(filled.to_numpy(zero_copy_only=False))
    for row in np.flatnonzero((ops < 0) | (ops > OP_DELETE)).tolist():
        reasons.setdefault(row, f"_op {int(ops[row])} is not 0 (insert), 1 (upsert) or 2 (delete)")
    return np.clip(ops, 0, OP_DELETE).astype(np.int8)


def _ids(source: pa.RecordBatch, config: TopicConfig) -> pa.Array | None:
    if not (config.ids or config.carried):
        return None
    if ID not in source.schema.names:
        return pa.nulls(source.num_rows, pa.string())
    return source[ID] if source[ID].type == pa.string() else source[ID].cast(pa.string())


def _required_us(source: pa.RecordBatch, name: str, reasons: dict[int, str]) -> NDArray[np.int64]:
    column = source[name]
    column = column if column.type == pa.int64() else column.cast(pa.int64())
    if column.null_count:
        for row in np.flatnonzero(np.asarray(column.is_null())).tolist():
            reasons.setdefault(row, f"{name} is null")
        column = pc.fill_null(column, NO_TIME_US)
    return np.asarray(column.to_numpy(), np.int64)


def _event_us(source: pa.RecordBatch, deletes: NDArray[np.bool_], reasons: dict[int, str]) -> NDArray[np.int64]:
    missing: dict[int, str] = {}
    event_us = _required_us(source, EVENT_TIME, missing)
    for row, reason in missing.items():
        if not deletes[row]:
            reasons.setdefault(row, reason)
    return event_us


def _origin(source: pa.RecordBatch) -> tuple[pa.Array, pa.Array, pa.Array]:
    return source[ORDINAL].cast(pa.int32()), source[PARTITION].cast(pa.int32()), source[OFFSET].cast(pa.int64())


def _fit(source: pa.RecordBatch, field: pa.Field, deletes: NDArray[np.bool_], reasons: dict[int, str]) -> pa.Array:
    """A column in the topic's type; rows whose value does not fit are refused and hold null."""
    n = source.num_rows
    index = source.schema.get_field_index(field.name)
    if index < 0:
        column = pa.nulls(n, field.type)
    else:
        column = source.column(index)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if not column.type.equals(field.type):
            column = _cast(column, field, reasons)
    if not field.nullable and column.null_count:
        for row in np.flatnonzero(np.asarray(column.is_null()) & ~deletes).tolist():
            reasons.setdefault(row, f"{field.name} is null but declared not null")
    _refuse_infinities(column, field.name, reasons)
    return column


def _cast(column: pa.Array, field: pa.Field, reasons: dict[int, str]) -> pa.Array:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values: list[Any] = []
        for row in range(len(column)):
            try:
                values.append(column[row].cast(field.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                values.append(pa.scalar(None, field.type))
                reasons.setdefault(row, f"{field.name} does not fit {field.type}: {str(error)[:200]}")
        return pa.array(values, field.type)


def _refuse_infinities(column: pa.Array, name: str, reasons: dict[int, str]) -> None:
    """Refuses rows with an infinite float, in lists and structs as well."""
    if pa.types.is_floating(column.type):
        infinite = np.isinf(np.asarray(pc.fill_null(column, 0.0), np.float64))
        for row in np.flatnonzero(infinite).tolist():
            reasons.setdefault(row, f"{name} is infinite")
    elif pa.types.is_nested(column.type) and _has_floats(column.type):
        for row, value in enumerate(column.to_pylist()):
            if _holds_infinity(value):
                reasons.setdefault(row, f"{name} holds an infinity")


def _has_floats(kind: pa.DataType) -> bool:
    if pa.types.is_floating(kind):
        return True
    return any(_has_floats(kind.field(i).type) for i in range(kind.num_fields)) if pa.types.is_nested(kind) else False


def _holds_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return value in (float("inf"), float("-inf"))
    if isinstance(value, dict):
        return any(map(_holds_infinity, value.values()))
    return any(map(_holds_infinity, value)) if isinstance(value, (list, tuple)) else False


def _partitions(user: pa.RecordBatch, config: TopicConfig, partition: int | None) -> NDArray[np.int32]:
    """Where each row belongs: the partition asked for, else its key's range of shards; a null key in the first."""
    if partition is not None and not 0 <= partition < config.partitions:
        raise DataError(
            "rows go to a partition of the topic",
            found=repr(partition),
            remedy=f"choose 0 to {config.partitions - 1}, or none to place rows by key",
        )
    if partition is not None or not config.key or config.partitions == 1:
        return np.full(user.num_rows, partition or 0, np.int32)
    from penstock.algebra.keys import SHARDS, key_hashes, shard_of  # the kernel, only where keys place rows

    columns = [user[name] for name in config.key]
    shards = np.asarray(shard_of(key_hashes(columns)), np.int64)
    for column in columns:
        shards[np.asarray(column.is_null())] = 0
    return (shards * config.partitions // SHARDS).astype(np.int32)
