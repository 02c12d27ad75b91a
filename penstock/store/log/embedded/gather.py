"""The rows of all appends to one topic that share a commit, as one set of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.semantics.columns import OP_DELETE
from penstock.store.log.embedded.prepare import NO_TIME_US, Prepared
from penstock.store.log.embedded.record import HAS_ID, HAS_KNOWN, HAS_OP, HAS_ORIGIN, Header, encode, stored_schema
from penstock.store.log.embedded.spec import Spec

__all__ = ["Rows", "Stored", "gather", "record_bytes"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of several appends, one after the other; all arrays are `(n_rows,)`.

    Attributes:
        spec: the topic in the newest schema among the appends.
        owner: the index of the append a row came with.
        row: its index in that append.
        known_us: known times, the commit's where the topic is live.
        reasons: why rows are refused, by row.
    """

    spec: Spec
    owner: NDArray[np.int64]
    row: NDArray[np.int64]
    event_us: NDArray[np.int64]
    known_us: NDArray[np.int64]
    ids: pa.Array | None
    hashes: NDArray[np.uint64]
    ops: NDArray[np.int8]
    partitions: NDArray[np.int64]
    origin: tuple[pa.Array, ...] | None
    user: pa.RecordBatch
    reasons: dict[int, str]

    def __len__(self) -> int:
        return len(self.owner)


@dataclass(frozen=True, slots=True)
class Stored:
    """What one partition stores of the rows; arrays are `(n_stored,)`, in the order of their offsets.

    Attributes:
        rows: index among the commit's rows.
        ops: ops in force.
        retractions: whether only a delete of the row's id is stored here, because the row moved away.
        first_offset: of the first.
    """

    rows: NDArray[np.int64]
    ops: NDArray[np.int8]
    retractions: NDArray[np.bool_]
    first_offset: int

    @property
    def next_offset(self) -> int:
        """The offset after the last."""
        return self.first_offset + len(self.rows)

    def part(self, start: int, stop: int) -> Stored:
        """A slice."""
        return Stored(
            self.rows[start:stop], self.ops[start:stop], self.retractions[start:stop], self.first_offset + start
        )


def gather(prepared: Sequence[Prepared], live_us: int) -> Rows:
    """All rows as one; rows with `t > k + max_ahead` are refused, deletes without a time take their known time."""
    spec = max((one.spec for one in prepared), key=lambda spec: len(spec.schemas))
    sizes = [len(one.event_us) for one in prepared]
    starts = np.r_[0, np.cumsum(sizes)].tolist()
    event_us = np.concatenate([one.event_us for one in prepared])
    known_us = np.concatenate(
        [np.full(n, live_us) if one.known_us is None else one.known_us for one, n in zip(prepared, sizes, strict=True)]
    )
    ops = np.concatenate([one.ops for one in prepared])
    event_us = np.where((event_us == NO_TIME_US) & (ops == OP_DELETE), known_us, event_us)
    reasons = {
        start + row: why for one, start in zip(prepared, starts, strict=False) for row, why in one.reasons.items()
    }
    max_ahead_us = spec.topic_config().max_ahead_us
    for row in np.flatnonzero(event_us > known_us + max_ahead_us).tolist():
        reasons.setdefault(
            row, f"_event_time {int(event_us[row])} is more than {max_ahead_us} us ahead of {int(known_us[row])}"
        )
    carried = [one.origin for one in prepared if one.origin is not None]
    ids = [one.ids for one in prepared if one.ids is not None]
    return Rows(
        spec=spec,
        owner=np.repeat(np.arange(len(prepared)), sizes),
        row=np.concatenate([np.arange(n) for n in sizes]),
        event_us=event_us,
        known_us=known_us,
        ids=pa.concat_arrays(ids) if ids else None,
        hashes=np.concatenate([one.hashes for one in prepared]),
        ops=ops,
        partitions=np.concatenate([one.partitions for one in prepared]).astype(np.int64),
        origin=tuple(pa.concat_arrays(list(column)) for column in zip(*carried, strict=True)) if carried else None,
        user=_user_rows(prepared, spec),
        reasons=reasons,
    )


def _user_rows(prepared: Sequence[Prepared], spec: Spec) -> pa.RecordBatch:
    batches = [
        one.user if len(one.spec.schemas) == len(spec.schemas) else _widened(one.user, spec.schema())
        for one in prepared
    ]
    if len(batches) == 1:
        return batches[0]
    columns = [pa.concat_arrays([batch.column(i) for batch in batches]) for i in range(batches[0].num_columns)]
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * sum(map(len, batches)), pa.struct([])))
    return pa.RecordBatch.from_arrays(columns, schema=batches[0].schema)


def _widened(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows prepared under an older schema; schemas only widen, so every cast succeeds."""
    columns = [
        batch[field.name].cast(field.type) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema([field.with_nullable(True) for field in schema]))


def record_bytes(rows: Rows, stored: Stored, now_us: int) -> bytes:
    """The record of one partition's rows, without system columns that its header can say once."""
    index = stored.rows
    n = len(index)
    whole = n == len(rows) and not stored.retractions.any()
    indices = pa.array(index, mask=stored.retractions) if stored.retractions.any() else pa.array(index)
    known_us = rows.known_us[index]
    flags, system = 0, [pa.array(rows.event_us[index])]
    if rows.ids is not None:
        ids = rows.ids if whole else rows.ids.take(pa.array(index))
        if ids.null_count < n:
            flags |= HAS_ID
            system.append(ids)
    if stored.ops.any():
        flags |= HAS_OP
        system.append(pa.array(stored.ops))
    if n and known_us[0] != known_us[-1]:
        flags |= HAS_KNOWN
        system.append(pa.array(known_us))
    if rows.origin is not None:
        flags |= HAS_ORIGIN
        system += [column if whole else column.take(pa.array(index)) for column in rows.origin]
    user = rows.user.columns if whole else [column.take(indices) for column in rows.user.columns]
    header = Header(
        flags=flags,
        schema_version=len(rows.spec.schemas),
        n_rows=n,
        span=n,
        first_offset=stored.first_offset,
        known_first_us=int(known_us[0]),
        known_last_us=int(known_us[-1]),
        appended_us=now_us,
    )
    schema = stored_schema(rows.spec.schema(), flags)
    return encode(
        header, pa.RecordBatch.from_arrays([*system, *user], schema=schema), rows.spec.topic_config().compression
    )
