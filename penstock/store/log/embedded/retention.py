"""Deleting what the lake has: confirmations, and trimming in bounded steps."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import lmdb
import msgspec

from penstock.errors import StoreError
from penstock.store.log.embedded.record import Head, Header, partition_key
from penstock.store.log.interface import Confirmation, Position, Retention

if TYPE_CHECKING:
    from penstock.store.log.embedded.topic import EmbeddedTopic

__all__ = ["confirm", "confirmation", "trim"]

_CONFIRMED: Final = struct.Struct(">4sI")
_STEP: Final = 256
"""Records deleted in one commit: other writers wait for no more than that."""


def _key(topic: int) -> bytes:
    return _CONFIRMED.pack(b"lake", topic)


def confirm(topic: EmbeddedTopic, position: Position, table: str, version: int) -> None:
    """Notes that a table of the lake, in a version, holds every row below a position.

    Raises:
        StoreError: the position is of another topic, or lies beyond the end; a confirmation never goes back.
    """
    topic.check_own(position)

    def work(txn: lmdb.Transaction) -> None:
        heads = topic.heads_in(txn)
        if any(offset > head.next_offset for offset, head in zip(position.offsets, heads, strict=True)):
            raise StoreError(
                f"confirm that the lake has {topic.name} up to {position.offsets}",
                found=f"the log ends at {tuple(head.next_offset for head in heads)}",
                remedy="confirm what was read from this log",
            )
        db = topic.log.env.db["state"]
        stored = txn.get(_key(topic.spec.number), db=db)
        offsets = position.offsets
        if stored is not None:
            old = msgspec.json.decode(stored, type=Confirmation)
            offsets = tuple(max(pair) for pair in zip(offsets, old.offsets, strict=True))
        packed = msgspec.json.encode(Confirmation(offsets, table, version))
        txn.put(_key(topic.spec.number), packed, db=db)

    topic.log.env.update(work)


def confirmation(topic: EmbeddedTopic) -> Confirmation | None:
    """What the lake has confirmed last."""
    db = topic.log.env.db["state"]
    stored = topic.log.env.view(lambda txn: _bytes(txn.get(_key(topic.spec.number), db=db)))
    return None if stored is None else msgspec.json.decode(stored, type=Confirmation)


def trim(topic: EmbeddedTopic, retention: Retention | None = None) -> int:
    """Deletes confirmed rows that the retention no longer keeps; how many records.

    It goes in steps of a few hundred records, each its own commit, so that appends pass between.

    Args:
        topic: whose rows.
        retention: instead of the topic's own.
    """
    retention = retention or topic.config.retention
    if retention.age_us is None and retention.max_bytes is None:
        return 0
    return sum(_trim_partition(topic, partition, retention) for partition in range(topic.config.partitions))


def _trim_partition(topic: EmbeddedTopic, partition: int, retention: Retention) -> int:
    def step(txn: lmdb.Transaction) -> int:
        return _step(txn, topic, partition, retention)

    deleted = 0
    while done := topic.log.env.update(step):
        deleted += done
    return deleted


def _step(txn: lmdb.Transaction, topic: EmbeddedTopic, partition: int, retention: Retention) -> int:
    db, number = topic.log.env.db, topic.spec.number
    stored = txn.get(_key(number), db=db["state"])
    if stored is None:
        return 0
    confirmed = msgspec.json.decode(stored, type=Confirmation).offsets[partition]
    head = Head.unpack(txn.get(partition_key(number, partition), db=db["heads"]))
    oldest_us = None if retention.age_us is None else topic.log.clock.now_us() - retention.age_us
    deleted = 0
    for header, size, cursor in _records(txn, topic, partition):
        too_old = oldest_us is not None and header.known_last_us < oldest_us
        too_much = retention.max_bytes is not None and head.n_bytes > retention.max_bytes
        if deleted == _STEP or header.next_offset > confirmed or not (too_old or too_much):
            break
        cursor.delete()
        deleted += 1
        head = replace(head, start_offset=header.next_offset, n_bytes=head.n_bytes - size, n_records=head.n_records - 1)
    if deleted:
        txn.put(partition_key(number, partition), head.pack(), db=db["heads"])
    return deleted


def _records(txn: lmdb.Transaction, topic: EmbeddedTopic, partition: int) -> Iterator[tuple[Header, int, lmdb.Cursor]]:
    """The records of a partition from the oldest on, each with its size; the one at the cursor may be deleted."""
    prefix = partition_key(topic.spec.number, partition)
    cursor = txn.cursor(db=topic.log.env.db["batches"])
    more = cursor.set_range(prefix)
    while more and bytes(cursor.key()[:8]) == prefix:
        key = bytes(cursor.key())
        value = cursor.value()
        yield Header.unpack(value), len(value), cursor
        more = cursor.set_range(key + b"\0")


def _bytes(data: bytes | memoryview | None) -> bytes | None:
    return None if data is None else bytes(data)
