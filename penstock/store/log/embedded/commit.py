"""The door, second half: what one commit does under the write lock, for all appends that share it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import lmdb
import msgspec
import numpy as np

from penstock.errors import DataError, PenstockError
from penstock.semantics.versions import ACCEPTED, DUPLICATE, NO_OP
from penstock.store.log.embedded.decide import DEAD, Decided, decide
from penstock.store.log.embedded.gather import Rows, Stored, gather, record_bytes
from penstock.store.log.embedded.ids import IdIndex
from penstock.store.log.embedded.prepare import Prepared
from penstock.store.log.embedded.producers import Producer
from penstock.store.log.embedded.record import Head, batch_key, partition_key
from penstock.store.log.embedded.spec import Spec
from penstock.store.log.interface import AppendResult, Refused, TopicCounts

__all__ = ["Databases", "Request", "apply_units", "dead_key", "load_counts", "save_counts"]

Databases = dict[str, Any]

_LISTED: Final = 1_000
_RECORD_ROWS: Final = 32_768
_DEAD: Final = struct.Struct(">IQ")
_NUMBER: Final = struct.Struct(">I")
_COUNTS: Final = struct.Struct("<6q")


@dataclass(frozen=True, slots=True)
class Request:
    """One append, prepared; `refused`: further dead letters, reason and row."""

    prepared: Prepared
    producer: str | None
    sequence: int
    epoch: int
    frontier_us: int | None
    refused: tuple[tuple[str, Mapping[str, Any]], ...] = ()


Outcome = list[AppendResult] | PenstockError


def apply_units(
    txn: lmdb.Transaction,
    db: Databases,
    units: Sequence[Sequence[Request]],
    now_us: int,
    floor_us: Callable[[Spec, int], int],
) -> list[Outcome]:
    """Applies units, each whole or not at all, in order; a refused unit does not touch the others.

    Args:
        txn: the write transaction.
        db: the databases of the log.
        units: appends that belong together.
        now_us: the clock, read while the write lock is held.
        floor_us: by topic and partition, the instant up to which readers were promised that nothing new is known.
    """
    topics: dict[int, _TopicCommit] = {}
    admitted: list[list[tuple[_TopicCommit, int | AppendResult]] | PenstockError] = []
    for unit in units:
        marks = {number: topic.mark() for number, topic in topics.items()} if len(unit) > 1 else {}
        places: list[tuple[_TopicCommit, int | AppendResult]] = []
        try:
            for request in unit:
                spec = request.prepared.spec
                topic = topics.get(spec.number)
                if topic is None:
                    topic = topics[spec.number] = _TopicCommit(txn, db, spec, now_us, floor_us)
                places.append((topic, topic.admit(request)))
        except PenstockError as error:
            admitted.append(error)
            if len(unit) > 1:
                for number, topic in topics.items():
                    topic.restore(marks.get(number))
        else:
            admitted.append(places)
    for topic in topics.values():
        topic.execute()
    return [
        unit if isinstance(unit, PenstockError) else [topic.result(place) for topic, place in unit] for unit in admitted
    ]


class _TopicCommit:
    """Everything one commit does to one topic."""

    def __init__(
        self,
        txn: lmdb.Transaction,
        db: Databases,
        spec: Spec,
        now_us: int,
        floor_us: Callable[[Spec, int], int],
    ) -> None:
        self._txn, self._db, self._spec, self._now_us = txn, db, spec, now_us
        self._config = spec.topic_config()
        self._heads: dict[int, Head] = {
            partition: Head.unpack(txn.get(partition_key(spec.number, partition), db=db["heads"]))
            for partition in range(self._config.partitions)
        }
        self._live_us = now_us
        if self._config.clock == "live":
            for partition, head in self._heads.items():
                self._live_us = max(self._live_us, head.known_us + 1, floor_us(spec, partition) + 1)
        self._known = {partition: head.known_us for partition, head in self._heads.items()}
        self._frontier = {partition: head.frontier_us for partition, head in self._heads.items()}
        self._producers: dict[str, Producer] = {}
        self._requests: list[Request] = []
        self._results: list[AppendResult] = []

    def mark(self) -> tuple[int, dict[int, int], dict[int, int], dict[str, Producer]]:
        """What `restore` needs to forget later admissions."""
        producers = {
            name: replace(producer, results=dict(producer.results), admitted=dict(producer.admitted))
            for name, producer in self._producers.items()
        }
        return len(self._requests), dict(self._known), dict(self._frontier), producers

    def restore(self, mark: tuple[int, dict[int, int], dict[int, int], dict[str, Producer]] | None) -> None:
        """Forgets what was admitted since the mark; all of it without one."""
        if mark is None:
            mark = (
                0,
                {partition: head.known_us for partition, head in self._heads.items()},
                {partition: head.frontier_us for partition, head in self._heads.items()},
                {},
            )
        n, self._known, self._frontier, self._producers = mark
        del self._requests[n:]

    def admit(self, request: Request) -> int | AppendResult:
        """Takes an append in; its index, or the result of the append it repeats."""
        spec = request.prepared.spec
        known, frontier = self._known, self._frontier
        if self._config.clock == "source":
            known = self._source_known(request)
            if request.frontier_us is not None:
                frontier = {partition: max(us, request.frontier_us) for partition, us in frontier.items()}
        elif request.frontier_us is not None:
            raise DataError(
                "a frontier is promised for a topic whose clock is 'source'",
                found=f"{spec.name} is live",
                remedy="leave frontier_us out",
                where=spec.name,
            )
        if request.producer is not None:
            producer = self._producers.get(request.producer)
            if producer is None:
                producer = Producer.load(self._txn, self._db["producers"], spec.number, request.producer)
            earlier = producer.admit(request.sequence, request.epoch, len(self._requests), spec.name)
            self._producers[request.producer] = producer
            if earlier is not None:
                return earlier
        self._known, self._frontier = known, frontier
        self._requests.append(request)
        return len(self._requests) - 1

    def _source_known(self, request: Request) -> dict[int, int]:
        """The greatest known time by partition once the request is stored.

        Raises:
            DataError: a known time goes back, or a frontier promised that it would not come.
        """
        prepared = request.prepared
        assert prepared.known_us is not None
        known = dict(self._known)
        good = np.ones(len(prepared.known_us), np.bool_)
        good[list(prepared.reasons)] = False
        for partition in np.unique(prepared.partitions[good]).tolist():
            ours = prepared.known_us[good & (prepared.partitions == partition)]
            earlier = np.r_[known[partition], ours[:-1]]
            back = np.flatnonzero((ours < earlier) | (ours <= self._frontier[partition]))
            if len(back) and not self._is_repeat(request):
                row = int(back[0])
                floor = max(int(earlier[row]), self._frontier[partition] + 1)
                raise DataError(
                    f"known times of {prepared.spec.name} do not go back",
                    found=f"{int(ours[row])} after {floor} in partition {partition}",
                    remedy="append rows in the order of their known time",
                    where=prepared.spec.name,
                )
            known[partition] = max(known[partition], int(ours.max()))
        return known

    def _is_repeat(self, request: Request) -> bool:
        if request.producer is None:
            return False
        producer = self._producers.get(request.producer) or Producer.load(
            self._txn, self._db["producers"], self._spec.number, request.producer
        )
        return request.sequence <= producer.sequence

    def result(self, place: int | AppendResult) -> AppendResult:
        """The result of an admitted append."""
        return place if isinstance(place, AppendResult) else self._results[place]

    def execute(self) -> None:
        """Writes records, heads, ids, dead letters, producers and counts of all admitted appends."""
        if not self._requests:
            return
        number, config = self._spec.number, self._config
        rows = gather([request.prepared for request in self._requests], self._live_us)
        # Rows of a derived topic were decided where they come from.
        index = IdIndex(self._txn, self._db["ids"], number) if config.ids and not config.carried else None
        next_offsets = {partition: head.next_offset for partition, head in self._heads.items()}
        settled_us = self._live_us if config.clock == "live" else min(self._known.values())
        decided = decide(rows, index, next_offsets, settled_us)
        for partition, head in self._heads.items():
            new = replace(head, known_us=self._known[partition], frontier_us=self._frontier[partition])
            if partition in decided.stored:
                new = self._write_partition(rows, partition, decided.stored[partition], new)
            if new != head:
                self._txn.put(partition_key(number, partition), new.pack(), db=self._db["heads"])
        self._write_dead(rows)
        self._results = self._make_results(rows, decided)
        for producer in self._producers.values():
            for sequence, place in producer.admitted.items():
                producer.results[sequence] = self._results[place]
            producer.save(self._txn, self._db["producers"], number)
        self._count(decided)

    def _write_partition(self, rows: Rows, partition: int, stored: Stored, head: Head) -> Head:
        n_bytes = n_records = 0
        for start in range(0, len(stored.rows), _RECORD_ROWS):
            part = stored.part(start, start + _RECORD_ROWS)
            data = record_bytes(rows, part, self._now_us)
            key = batch_key(self._spec.number, partition, part.first_offset)
            self._txn.put(key, data, db=self._db["batches"])
            n_bytes += len(data)
            n_records += 1
        return replace(
            head,
            next_offset=stored.next_offset,
            known_us=self._live_us if self._config.clock == "live" else head.known_us,
            n_bytes=head.n_bytes + n_bytes,
            n_records=head.n_records + n_records,
        )

    def _write_dead(self, rows: Rows) -> None:
        found: list[tuple[Request, str, Mapping[str, Any]]] = []
        for at, reason in sorted(rows.reasons.items()):
            request = self._requests[int(rows.owner[at])]
            found.append((request, reason, request.prepared.source.slice(int(rows.row[at]), 1).to_pylist()[0]))
        found += [(request, reason, row) for request in self._requests for reason, row in request.refused]
        if not found:
            return
        first = load_counts(self._txn, self._db, self._spec.number).dead
        for number, (request, reason, row) in enumerate(found, first):
            letter = {"at_us": self._now_us, "producer": request.producer or "", "reason": reason, "row": row}
            self._txn.put(
                dead_key(self._spec.number, number), msgspec.json.encode(letter, enc_hook=str), db=self._db["dead"]
            )

    def _make_results(self, rows: Rows, decided: Decided) -> list[AppendResult]:
        n = len(self._requests)
        by_kind = [np.bincount(rows.owner[decided.kind == kind], minlength=n).tolist() for kind in range(DEAD + 1)]
        offsets: list[dict[int, tuple[int, int]]] = [{} for _ in range(n)]
        known_us: list[int | None] = [None] * n
        for partition, stored in decided.stored.items():
            own = np.flatnonzero(~stored.retractions)
            owner = rows.owner[stored.rows[own]]
            for start in np.flatnonzero(np.diff(owner, prepend=-1)).tolist():
                request = int(owner[start])
                stop = int(np.searchsorted(owner, request, "right")) - 1
                offsets[request][partition] = (
                    stored.first_offset + int(own[start]),
                    stored.first_offset + int(own[stop]) + 1,
                )
                latest_us = int(rows.known_us[stored.rows[own[stop]]])
                known_us[request] = max(known_us[request] or latest_us, latest_us)
        refused: list[list[Refused]] = [[] for _ in range(n)]
        for index, reason in sorted(rows.reasons.items()):
            listed = refused[int(rows.owner[index])]
            if len(listed) < _LISTED:
                listed.append(Refused(int(rows.row[index]), reason))
        return [
            AppendResult(
                offsets=offsets[i],
                accepted=by_kind[ACCEPTED][i],
                duplicates=by_kind[DUPLICATE][i],
                no_ops=by_kind[NO_OP][i],
                dead=by_kind[DEAD][i] + len(self._requests[i].refused),
                known_time=known_us[i],
                refused=tuple(refused[i]),
            )
            for i in range(n)
        ]

    def _count(self, decided: Decided) -> None:
        kinds = np.bincount(decided.kind, minlength=DEAD + 1).tolist()
        old = load_counts(self._txn, self._db, self._spec.number)
        new = TopicCounts(
            accepted=old.accepted + kinds[ACCEPTED],
            duplicates=old.duplicates + kinds[DUPLICATE],
            no_ops=old.no_ops + kinds[NO_OP],
            dead=old.dead + kinds[DEAD] + sum(len(request.refused) for request in self._requests),
            retractions=old.retractions + decided.n_retractions,
            erased=old.erased,
        )
        save_counts(self._txn, self._db, self._spec.number, new)


def dead_key(topic: int, number: int) -> bytes:
    """The key of a dead letter."""
    return _DEAD.pack(topic, number)


def load_counts(txn: lmdb.Transaction, db: Databases, topic: int) -> TopicCounts:
    """What a topic has taken."""
    data = txn.get(_NUMBER.pack(topic), db=db["counts"])
    return TopicCounts() if data is None else TopicCounts(*_COUNTS.unpack(data))


def save_counts(txn: lmdb.Transaction, db: Databases, topic: int, counts: TopicCounts) -> None:
    """Stores what a topic has taken."""
    packed = _COUNTS.pack(
        counts.accepted, counts.duplicates, counts.no_ops, counts.dead, counts.retractions, counts.erased
    )
    txn.put(_NUMBER.pack(topic), packed, db=db["counts"])
