"""Erasing a key: its rows leave the log, offsets stay as they were, and the audit says that it was done."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import lmdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.errors import DataError, nearest
from penstock.semantics.columns import ID
from penstock.store.log.embedded.commit import dead_key, load_counts, save_counts
from penstock.store.log.embedded.ids import IdIndex, unpack_places
from penstock.store.log.embedded.prepare import hash_ids
from penstock.store.log.embedded.record import (
    HAS_OFFSETS,
    LOG_OFFSET,
    Head,
    Header,
    batch_key,
    decode,
    encode,
    log_offsets,
    partition_key,
    seek,
    stored_schema,
)
from penstock.store.log.interface import Erasure

if TYPE_CHECKING:
    from penstock.store.log.embedded.topic import EmbeddedTopic

__all__ = ["Progress", "audit", "erase", "records_from"]

_STEP_BYTES: Final = 8 << 20
_AUDIT: Final = struct.Struct(">IQ")


@dataclass(slots=True)
class Progress:
    """How far a rewriting of a partition has come: the next offset, and how many rows went so far."""

    partition: int
    offset: int = 0
    rows: int = 0
    done: bool = False


def erase(topic: EmbeddedTopic, key: Mapping[str, Any], *, reason: str, author: str) -> Erasure:
    """Takes every row whose columns equal `key` out of the topic, its id index and its dead letters.

    Earlier versions of an erased event go with it. The pages that held them are free after that and are overwritten
    as the log goes on, not at once. The log is rewritten in bounded steps, so appends pass between; a row appended
    meanwhile with that key may stay, so stop its source first. Other rows keep their offsets. Reads skip what is
    gone. The lake is erased by the lake.

    Args:
        topic: where.
        key: column names and values, all of which must match.
        reason: for the audit.
        author: for the audit.

    Raises:
        DataError: no such column, or the value is not of its type.
    """
    values = _typed(topic, key)
    n_rows = sum(_erase_partition(topic, partition, values) for partition in range(topic.config.partitions))
    n_letters = topic.log.env.update(lambda txn: _erase_letters(txn, topic, key))

    def note(txn: lmdb.Transaction) -> Erasure:
        db, number = topic.log.env.db, topic.spec.number
        counts = load_counts(txn, db, number)
        save_counts(txn, db, number, replace(counts, erased=counts.erased + n_rows))
        erasure = Erasure(
            at_us=topic.log.clock.now_us(),
            columns=tuple(sorted(key)),
            rows=n_rows,
            dead_letters=n_letters,
            reason=reason,
            author=author,
        )
        txn.put(_AUDIT.pack(number, len(_audit_in(txn, topic))), msgspec.json.encode(erasure), db=db["audit"])
        return erasure

    return topic.log.env.update(note)


def audit(topic: EmbeddedTopic) -> list[Erasure]:
    """Every erasure in the topic, oldest first. The erased key itself is not kept."""
    return topic.log.env.view(lambda txn: _audit_in(txn, topic))


def _audit_in(txn: lmdb.Transaction, topic: EmbeddedTopic) -> list[Erasure]:
    prefix = _AUDIT.pack(topic.spec.number, 0)[:4]
    found = []
    cursor = txn.cursor(db=topic.log.env.db["audit"])
    more = cursor.set_range(prefix)
    while more and bytes(cursor.key()[:4]) == prefix:
        found.append(msgspec.json.decode(cursor.value(), type=Erasure))
        more = cursor.next()
    return found


def _typed(topic: EmbeddedTopic, key: Mapping[str, Any]) -> dict[str, pa.Scalar]:
    schema = topic.schema
    typed = {}
    for name, value in key.items():
        index = schema.get_field_index(name)
        if index < 0:
            raise DataError(f"erase by column {name}", found=repr(key), remedy=nearest(name, schema.names))
        try:
            typed[name] = pa.scalar(value, schema.field(index).type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(
                f"erase {name} of type {schema.field(index).type}", found=repr(value), remedy="give it in that type"
            ) from error
    if not typed:
        raise DataError("erase rows by a key", found="no column", remedy="name at least one column and its value")
    return typed


def _erase_partition(topic: EmbeddedTopic, partition: int, values: Mapping[str, pa.Scalar]) -> int:
    """Erases matching rows and the earlier versions of their events, which would count again without them."""
    superseded = _superseded(topic, partition, values) if topic.config.corrected or topic.config.carried else {}
    progress = Progress(partition)

    def step(txn: lmdb.Transaction) -> Progress:
        return _step(txn, topic, progress, (values, superseded))

    while not progress.done:
        progress = topic.log.env.update(step)
    return progress.rows


def _superseded(topic: EmbeddedTopic, partition: int, values: Mapping[str, pa.Scalar]) -> dict[str, int]:
    """The ids of matching rows, each with the offset of its last one."""
    last: dict[str, int] = {}
    progress = Progress(partition)

    def step(txn: lmdb.Transaction) -> Progress:
        offset, follows = progress.offset, False
        for header, _, rows, more in records_from(txn, topic, progress):
            offset, follows = header.next_offset, more
            if ID in rows.schema.names:
                match = pa.array(_matches(rows, values))
                offsets = pa.array(log_offsets(header, rows)).filter(match)
                last.update(zip(rows[ID].filter(match).to_pylist(), offsets.to_pylist(), strict=True))
        return Progress(partition, offset, done=not follows)

    while not progress.done:
        progress = topic.log.env.view(step)
    last.pop(None, None)  # type: ignore[call-overload]
    return last


def records_from(
    txn: lmdb.Transaction, topic: EmbeddedTopic, at: Progress
) -> Iterator[tuple[Header, bytes, pa.RecordBatch, bool]]:
    """Records of a partition from an offset on, up to so many bytes, each with whether another follows."""
    prefix = partition_key(topic.spec.number, at.partition)
    cursor = txn.cursor(db=topic.log.env.db["batches"])
    more = seek(cursor, topic.spec.number, at.partition, at.offset)
    n_bytes = 0
    while more and bytes(cursor.key()[:8]) == prefix and n_bytes < _STEP_BYTES:
        data = bytes(cursor.value())
        header = Header.unpack(data)
        more = cursor.set_range(batch_key(topic.spec.number, at.partition, header.next_offset))
        more = more and bytes(cursor.key()[:8]) == prefix
        yield header, data, decode(header, data, topic.log.spec_in(txn, topic.spec.name, header.schema_version)), more
        n_bytes += len(data)


def _step(
    txn: lmdb.Transaction,
    topic: EmbeddedTopic,
    at: Progress,
    wanted: tuple[Mapping[str, pa.Scalar], Mapping[str, int]],
) -> Progress:
    """Rewrites records of one partition from an offset on, up to so many bytes."""
    values, superseded = wanted
    db, number = topic.log.env.db, topic.spec.number
    prefix = partition_key(number, at.partition)
    erased, offset, change, follows = at.rows, at.offset, 0, False
    gone: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
    for header, data, rows, more in records_from(txn, topic, at):
        offset, follows = header.next_offset, more
        offsets = log_offsets(header, rows)
        match = _matches(rows, values)
        if superseded and ID in rows.schema.names:
            before = (superseded.get(text, -1) for text in rows[ID].to_pylist())
            match |= offsets < np.fromiter(before, np.int64, len(offsets))
        if not match.any():
            continue
        smaller = _without(topic, header, rows, match)
        txn.put(batch_key(number, at.partition, header.first_offset), smaller, db=db["batches"])
        change += len(smaller) - len(data)
        erased += int(match.sum())
        if ID in rows.schema.names:
            gone.append((hash_ids(rows[ID].filter(pa.array(match))), offsets[match]))
    if change:
        head = Head.unpack(txn.get(prefix, db=db["heads"]))
        txn.put(prefix, replace(head, n_bytes=head.n_bytes + change).pack(), db=db["heads"])
    if gone and topic.config.ids:
        hashes, places = (np.concatenate(part) for part in zip(*gone, strict=True))
        _forget(IdIndex(txn, db["ids"], number), hashes, (np.int64(at.partition) << 52) | places)
    return Progress(at.partition, offset, erased, done=not follows)


def _matches(rows: pa.RecordBatch, values: Mapping[str, pa.Scalar]) -> NDArray[np.bool_]:
    match = np.ones(rows.num_rows, np.bool_)
    for name, value in values.items():
        if name not in rows.schema.names:
            return np.zeros(rows.num_rows, np.bool_)
        column = rows[name]
        equal = pc.equal(column if column.type == value.type else column.cast(value.type), value)
        match &= np.asarray(pc.fill_null(equal, False))
    return match


def _without(topic: EmbeddedTopic, header: Header, rows: pa.RecordBatch, match: NDArray[np.bool_]) -> bytes:
    """The record without the matching rows; the others keep their offsets."""
    offsets = pa.array(log_offsets(header, rows))
    flags = header.flags | HAS_OFFSETS
    user = topic.spec.schema(header.schema_version)
    schema = stored_schema(user, flags)
    columns = [offsets if name == LOG_OFFSET else rows[name] for name in schema.names]
    kept = pa.RecordBatch.from_arrays(columns, schema=schema).filter(pa.array(~match))
    return encode(replace(header, flags=flags, n_rows=kept.num_rows), kept, topic.config.compression)


def _forget(index: IdIndex, hashes: NDArray[np.uint64], places: NDArray[np.int64]) -> None:
    """Takes ids out of the index whose last version was erased."""
    order = np.lexsort((places, hashes[:, 1], hashes[:, 0]))
    order = order[hashes[order].any(axis=1)]
    last = np.ones(len(order), np.bool_)
    last[:-1] = (hashes[order[1:]] != hashes[order[:-1]]).any(axis=1)
    order = order[last]
    known = index.lookup(hashes[order, 0], hashes[order, 1])
    partitions, offsets, _ = unpack_places(known.places)
    gone = known.take((partitions << 52 | offsets) == places[order])
    if len(gone):
        index.rewrite(lambda entries: gone.find(entries.high, entries.low) >= 0)


def _erase_letters(txn: lmdb.Transaction, topic: EmbeddedTopic, key: Mapping[str, Any]) -> int:
    """Blanks the row of dead letters that hold the key; their number and reason stay."""
    cursor = txn.cursor(db=topic.log.env.db["dead"])
    more = cursor.set_range(dead_key(topic.spec.number, 0))
    n = 0
    while more and bytes(cursor.key()[:4]) == dead_key(topic.spec.number, 0)[:4]:
        letter = msgspec.json.decode(cursor.value())
        row = letter["row"]
        if all(name in row and str(row[name]) == str(value) for name, value in key.items()):
            letter |= {"row": {}, "reason": "erased"}
            cursor.put(bytes(cursor.key()), msgspec.json.encode(letter))
            n += 1
        more = cursor.next()
    return n
