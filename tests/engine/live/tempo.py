"""The live engine under the conformance suite: rows go through a real log, answers come from topics and state."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.clock import ReplayClock
from penstock.engine.live.flow import origin_of
from penstock.engine.live.job import LiveJob, Options
from penstock.errors import NotBuiltError
from penstock.plan import plan
from penstock.plan.ir import GroupPlan, JoinPlan, Plan, SourcePlan
from penstock.semantics.columns import (
    EVENT_TIME,
    ID,
    KNOWN_TIME,
    OFFSET,
    OP,
    OP_NAMES,
    ORDINAL,
    PARTITION,
)
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import Append, TopicConfig
from penstock.testing.conformance import END_US, Case, Found, FoundCell, GroupQuery, Query, RowsQuery
from penstock.testing.oracle import Row


class Crash(Exception):
    """The process ends here."""


class Crashing:
    """Counts steps; at some of them the process ends."""

    def __init__(self, every: Sequence[int]) -> None:
        self._left = list(every)
        self._count = 0

    def __call__(self, step: str) -> None:
        self._count += 1
        if self._left and self._count >= self._left[0] and not step.startswith(("chunks", "manifest", "checkpoint")):
            self._left.pop(0)
            self._count = 0
            raise Crash(step)


class LiveTempo:
    """Runs a case live and asks about its end.

    Args:
        crashes: after how many steps the process ends, each time anew.
        max_rows: of a micro-batch.
    """

    name = "live"

    def __init__(self, crashes: Sequence[int] = (), max_rows: int = 5) -> None:
        self.crashes, self.max_rows = crashes, max_rows

    def takes(self, case: Case, query: Query) -> bool:
        """Live knows only its present."""
        return not isinstance(query, GroupQuery | RowsQuery) or query.a == END_US

    def answer(self, case: Case, queries: Sequence[Query]) -> Sequence[Found]:
        with tempfile.TemporaryDirectory() as folder:
            return self._answer(Path(folder), case, queries)

    def _answer(self, folder: Path, case: Case, queries: Sequence[Query]) -> Sequence[Found]:
        planned = plan(case.definitions)
        emit = [q.relation for q in queries if isinstance(q, RowsQuery)]
        clock = ReplayClock(1)
        with EmbeddedLog.open(folder / "log", clock=clock, durability="process") as log:
            feed(log, planned, case.arrivals)
            job = run(
                lambda crash: LiveJob(
                    planned, log, folder / "state", clock, emit=emit, on_step=crash,
                    options=Options(max_rows=self.max_rows, checkpoint_rows=self.max_rows * 3, memory_dir=folder,
                                    reserve_bytes=1 << 28),
                ),
                Crashing(self.crashes),
            )  # fmt: skip
            found = [self._one(job, log, planned, query) for query in queries]
            job.close()
            return found

    def _one(self, job: LiveJob, log: EmbeddedLog, planned: Plan, query: Query) -> Found:
        if isinstance(query, RowsQuery):
            return rows_of(log, planned, query.relation)
        assert isinstance(query, GroupQuery)
        group = planned.groups[query.group]
        keys = [pa.array([part], kind.arrow) for part, kind in zip(query.key, group.key_types, strict=True)]
        state = job._flow.groups[group.fingerprint]
        found = state.query(keys, np.array([query.q]), np.array([END_US]))
        seen = bool(found.seen[0])
        return {
            name: FoundCell(values[0].as_py(), None if seen else "unseen") for name, values in found.columns.items()
        }


def run(make: Callable[[Crashing], LiveJob], crashing: Crashing) -> LiveJob:
    """Runs until all is applied, starting again after each crash."""
    while True:
        job = None
        try:
            job = make(crashing)
            job.drain()
        except Crash:
            if job is not None:
                job.close()
            continue
        return job


def feed(log: EmbeddedLog, planned: Plan, arrivals: Mapping[str, Sequence[Row]]) -> None:
    """Accepted rows into topics, as a door would have put them there."""
    sources = {r.name.name: r for r in planned.relations.values() if isinstance(r, SourcePlan)}
    for name, source in sources.items():
        config = TopicConfig(clock="source", carried=True, max_ahead_us=2**62)
        log.create_topic(source.name, source.schema.arrow, config)
        rows = sorted(arrivals.get(name, ()), key=lambda row: row.place)
        batch = to_batch(source, rows)
        log.append_all([Append(str(source.name), batch, frontier_us=END_US)])


def to_batch(source: SourcePlan, rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows of the oracle as a log takes them."""
    system: dict[str, pa.Array] = {
        EVENT_TIME: pa.array([row.t for row in rows], pa.int64()),
        KNOWN_TIME: pa.array([row.k for row in rows], pa.int64()),
        ORDINAL: pa.array([row.ordinal for row in rows], pa.int32()),
        PARTITION: pa.array([row.partition for row in rows], pa.int32()),
        OFFSET: pa.array([row.offset for row in rows], pa.int64()),
        ID: pa.array([row.id for row in rows], pa.string()),
        OP: pa.array([OP_NAMES.index(row.op) if source.kind == "stream" else 0 for row in rows], pa.int8()),
    }
    columns = {
        field.name: _column([row.values.get(field.name) for row in rows], field.type) for field in source.schema.arrow
    }
    return pa.RecordBatch.from_pydict({**system, **columns})


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


def rows_of(log: EmbeddedLog, planned: Plan, relation: str) -> list[Row]:
    """The rows of a derived topic that count at the end."""
    target = planned.relations[relation]
    assert isinstance(target, GroupPlan | JoinPlan)
    topic = log.topic(target.name)
    newest: dict[Any, Row] = {}
    horizon_us = origin_of(target).horizon_us
    at = 0
    while True:
        found = topic.read(0, at)
        for number, line in enumerate(found.rows.to_pylist()):
            values = {name: value for name, value in line.items() if not name.startswith("_")}
            row = Row(
                line[EVENT_TIME], line[KNOWN_TIME], values, line[ID], OP_NAMES[line[OP]], line[ORDINAL],
                line[PARTITION], line[OFFSET],
            )  # fmt: skip
            event: tuple[Any, ...] = (row.partition, row.id)
            if not topic.config.ids or row.id is None:
                event = (at + number,)
            elif horizon_us is not None and event in newest and newest[event].k < row.k - horizon_us:
                newest[at + number,] = newest.pop(event)  # forgotten: what comes is a new event
            newest[event] = row
        if found.next_offset == at:
            return sorted((row for row in newest.values() if row.op != "delete"), key=lambda row: row.order)
        at = found.next_offset


def built(case: Case) -> bool:
    """Whether the live engine makes what the case asks."""
    try:
        plan(case.definitions)
    except NotBuiltError:
        return False
    return True
