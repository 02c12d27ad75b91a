"""Rows of a derived topic changed where they stand: what they rest on was erased, so they say something else now."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import lmdb
import numpy as np
import pyarrow as pa

from penstock.errors import StoreError
from penstock.semantics.columns import is_system_column
from penstock.store.log.embedded.erase import Progress, records_from
from penstock.store.log.embedded.record import (
    HAS_OFFSETS,
    LOG_OFFSET,
    Head,
    batch_key,
    encode,
    log_offsets,
    partition_key,
    stored_schema,
    with_system_columns,
)
from penstock.store.log.interface import Change

if TYPE_CHECKING:
    from penstock.store.log.embedded.topic import EmbeddedTopic

__all__ = ["rewrite"]


def rewrite(topic: EmbeddedTopic, change: Change) -> int:
    """Asks `change` about all rows, in bounded steps; appends pass between. How many rows went or changed.

    Raises:
        StoreError: the topic is no derived one; what happened is not changed, only erased.
    """
    if not topic.config.carried:
        raise StoreError("rewrite rows that were derived", found=f"{topic.name} of a source", remedy="erase by key")
    n = 0
    for partition in range(topic.config.partitions):
        progress = Progress(partition)
        while not progress.done:
            progress = topic.log.env.update(partial(_step, topic=topic, at=progress, change=change))
        n += progress.rows
    return n


def _step(txn: lmdb.Transaction, topic: EmbeddedTopic, at: Progress, change: Change) -> Progress:
    db, number = topic.log.env.db, topic.spec.number
    prefix = partition_key(number, at.partition)
    n, offset, grown, follows = at.rows, at.offset, 0, False
    for header, data, rows, more in records_from(txn, topic, at):
        offset, follows = header.next_offset, more
        if not rows.num_rows:
            continue
        user = topic.spec.schema(header.schema_version)
        offsets = log_offsets(header, rows)
        changed = change(with_system_columns([(header, rows, offsets)], user, at.partition, topic.config.ordinal))
        if changed is None:
            continue
        flags = header.flags | HAS_OFFSETS
        schema = stored_schema(user, flags)
        columns = [
            pa.array(offsets)
            if name == LOG_OFFSET
            else rows[name]
            if is_system_column(name)
            else changed.values.column(name).cast(schema.field(name).type)
            for name in schema.names
        ]
        kept = pa.RecordBatch.from_arrays(columns, schema=schema).filter(pa.array(changed.keep))
        written = encode(replace(header, flags=flags, n_rows=kept.num_rows), kept, topic.config.compression)
        txn.put(batch_key(number, at.partition, header.first_offset), written, db=db["batches"])
        grown += len(written) - len(data)
        n += int(np.count_nonzero(~changed.keep | changed.differs))
    if grown:
        head = Head.unpack(txn.get(prefix, db=db["heads"]))
        txn.put(prefix, replace(head, n_bytes=head.n_bytes + grown).pack(), db=db["heads"])
    return Progress(at.partition, offset, n, done=not follows)
