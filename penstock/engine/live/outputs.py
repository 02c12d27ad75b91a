"""Derived topics: the rows of joins and groups, appended once however often their interval runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.engine.live.flow import origin_of
from penstock.engine.live.frame import Frame
from penstock.engine.live.joins import dropped_as_deletes
from penstock.errors import EngineError
from penstock.plan.ir import GroupPlan, JoinPlan, RelationPlan
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, OFFSET, OP, ORDINAL, PARTITION
from penstock.store.log.interface import Append, Log, ProducerId, Topic, TopicConfig

__all__ = ["Outputs"]

_CARRIED = (EVENT_TIME, KNOWN_TIME, ORDINAL, PARTITION, OFFSET)


class Outputs:
    """The topics that a job appends to.

    A job that goes on from a checkpoint goes on as the same producer, and the log drops what it has. One that begins
    anew is a new producer; as rows are made in the order of (k, partition, offset), it leaves out those that are not
    beyond the last one in the topic.

    Args:
        relations: joins and groups whose rows are wanted.
        name: of the job. epoch: of its lease; the log refuses appends of a lesser one.
        facts: what `facts` gave at the checkpoint; None where the job begins anew.
    """

    def __init__(
        self, log: Log, relations: Sequence[RelationPlan], name: str, epoch: int, facts: Mapping[str, Any] | None
    ) -> None:
        self._log, self._epoch = log, epoch
        self._topics: dict[str, tuple[str, RelationPlan]] = {}
        topics: list[Topic] = []
        for relation in relations:
            if not isinstance(relation, GroupPlan | JoinPlan):
                raise EngineError(
                    "a derived topic holds the rows of a join or a group", found=type(relation).__name__,
                    remedy="name a join or a group",
                )  # fmt: skip
            origin = origin_of(relation)
            config = TopicConfig(
                clock="source",
                ids=origin.corrected,
                corrected=origin.corrected,
                corrected_us=origin.horizon_us if origin.corrected else None,
                carried=True,
                max_ahead_us=_ALWAYS_US,
            )
            topics.append(log.create_topic(relation.name, relation.schema.arrow, config))
            self._topics[relation.fingerprint] = (str(relation.name), relation)
        if facts is None:
            self._producer = _new_producer(topics, name)
            self._sequences = dict.fromkeys((str(topic.name) for topic in topics), 0)
            self._floors = {str(topic.name): _last_place(topic) for topic in topics}
        else:
            self._producer = ProducerId(facts["producer"])
            self._sequences = dict(facts["sequences"])
            self._floors = {topic: tuple(place) for topic, place in facts["floors"].items()}

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain data."""
        return {"producer": self._producer, "sequences": self._sequences, "floors": self._floors}

    @property
    def fingerprints(self) -> frozenset[str]:
        """Of the relations whose rows are wanted."""
        return frozenset(self._topics)

    def rows(self, frames: Mapping[str, Frame], frontier_us: int) -> list[Append]:
        """What `append` is to append for an interval, with the next sequences."""
        appends = []
        for fingerprint, (name, relation) in self._topics.items():
            frame = frames[fingerprint]
            if not len(frame):
                continue
            frame = _beyond(frame, self._floors[name])
            if not len(frame):
                continue
            batch = _row_batch(frame.batch, relation)
            appends.append(
                Append(
                    name,
                    batch,
                    producer=self._producer,
                    sequence=self._sequences[name],
                    epoch=self._epoch,
                    frontier_us=frontier_us,
                )
            )
            self._sequences[name] += 1
        return appends

    def append(self, appends: Sequence[Append]) -> None:
        """Appends the rows of an interval, all topics in one commit; from any one thread, interval after interval.

        Raises:
            StoreError: another process took the job over, or the disk refuses.
        """
        self._log.append_all(appends)


Place = tuple[int, ...]


def _new_producer(topics: Sequence[Topic], name: str) -> ProducerId:
    """The first name of a producer that has appended to none of the topics."""
    for number in itertools.count():
        producer = ProducerId(f"{name}/{number}")
        if all(topic.last_sequence(producer) < 0 for topic in topics):
            return producer
    raise AssertionError


def _last_place(topic: Topic) -> Place:
    """(k, partition, offset) that everything appended lies at or before: the last row, or what was promised."""
    position = topic.end()
    end, start = position.offsets[0], topic.start().offsets[0]
    promised = (topic.frontier(position)[0], 2**31, 2**62)
    if end == start:
        return promised
    row = topic.read(0, end - 1, max_rows=1).rows
    if not row.num_rows:  # it was erased
        return promised
    last = tuple(row.column(name)[0].as_py() for name in (KNOWN_TIME, PARTITION, OFFSET))
    return max(last, promised)


def _beyond(frame: Frame, floor: Place) -> Frame:
    """The rows whose place is beyond `floor`."""
    if int(frame.known[0]) > floor[0]:
        return frame
    places = zip(frame.known.tolist(), frame.partition.tolist(), frame.offset.tolist(), strict=True)
    return frame.take(np.array([place > floor for place in places], np.bool_))


_ALWAYS_US = 2**62
"""Rows that came through the door of their source are ahead of their time as far as that one allowed."""


def _row_batch(batch: pa.RecordBatch, relation: RelationPlan) -> pa.RecordBatch:
    batch = dropped_as_deletes(batch)
    names = [*_CARRIED, ID, OP]
    schema = relation.schema.arrow
    columns = [batch.column(name) for name in names]
    for field in schema:
        values = batch.column(field.name)
        columns.append(values if values.type == field.type else values.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, names=[*names, *schema.names])
