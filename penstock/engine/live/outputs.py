"""Derived topics: the rows of joins and groups, appended once however often their interval runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from penstock.engine.live.flow import origin_of
from penstock.engine.live.frame import Frame
from penstock.engine.live.joins import dropped_as_deletes
from penstock.errors import EngineError
from penstock.plan.ir import GroupPlan, JoinPlan, RelationPlan
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, OFFSET, OP, ORDINAL, PARTITION
from penstock.store.log.interface import Append, Log, ProducerId, TopicConfig

__all__ = ["Outputs"]

_CARRIED = (EVENT_TIME, KNOWN_TIME, ORDINAL, PARTITION, OFFSET)


class Outputs:
    """The topics that a job appends to.

    Args:
        relations: joins and groups whose rows are wanted.
        producer: names the job in the log. epoch: of its lease; the log refuses appends of a lesser one.
    """

    def __init__(self, log: Log, relations: Sequence[RelationPlan], producer: str, epoch: int) -> None:
        self._log, self._producer, self._epoch = log, ProducerId(producer), epoch
        self.sequences: dict[str, int] = {}
        self._topics: dict[str, tuple[str, RelationPlan]] = {}
        for relation in relations:
            if not isinstance(relation, GroupPlan | JoinPlan):
                raise EngineError(
                    "a derived topic holds the rows of a join or a group", found=type(relation).__name__,
                    remedy="name a join or a group",
                )  # fmt: skip
            ids = origin_of(relation).corrected
            config = TopicConfig(clock="source", ids=ids, carried=True, max_ahead_us=_ALWAYS_US)
            name = str(relation.name)
            log.create_topic(relation.name, relation.schema.arrow, config)
            self._topics[relation.fingerprint] = (name, relation)
            self.sequences[name] = 0

    @property
    def fingerprints(self) -> frozenset[str]:
        """Of the relations whose rows are wanted."""
        return frozenset(self._topics)

    def append(self, frames: Mapping[str, Frame], frontier_us: int) -> int:
        """Appends the rows of an interval, all topics in one commit; returns their number.

        Raises:
            StoreError: another process took the job over, or the disk refuses.
        """
        appends, n = [], 0
        for fingerprint, (name, relation) in self._topics.items():
            frame = frames[fingerprint]
            if not len(frame):
                continue
            batch = _row_batch(frame.batch, relation)
            appends.append(
                Append(
                    name,
                    batch,
                    producer=self._producer,
                    sequence=self.sequences[name],
                    epoch=self._epoch,
                    frontier_us=frontier_us,
                )
            )
            self.sequences[name] += 1
            n += batch.num_rows
        if appends:
            self._log.append_all(appends)
        return n


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
