"""Compares what the live engine put out with what history computes for the same rows, value by value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from penstock.doors.deployment import Deployment
from penstock.doors.rows import resolver_for
from penstock.engine.history import History, LogRows
from penstock.engine.online import Replayed, logged_reads
from penstock.engine.online import replay_check as check_logged
from penstock.engine.online.readlog import locked
from penstock.errors import EngineError, StoreError, nearest
from penstock.plan.ir import GroupPlan, JoinPlan
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME, OFFSET, OP, OP_DELETE, ORDINAL, PARTITION

__all__ = ["Comparison", "check_reads", "replay_check", "same"]

_PLACE: Final = (EVENT_TIME, KNOWN_TIME, ORDINAL, PARTITION, OFFSET)
_LISTED: Final = 20
_ALWAYS: Final = 2**63 - 1


@dataclass
class Comparison:
    """One derived topic against history.

    Attributes:
        rows, values: compared. missing: rows that history has, known at or before the live frontier, and live has not.
        extra: rows that only live has. different: values that differ; `examples` holds the first of them.
    """

    name: str
    rows: int = 0
    values: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.extra or self.different)


def replay_check(deployment: Deployment, name: str) -> Comparison:
    """Compares the derived topic of a join or group with history over the same log.

    Integers, decimals, texts and instants are compared exactly, floats within 1e-9 of their size.

    Raises:
        EngineError: there is no such join or group, or it was never run live.
    """
    plan = deployment.plan.relations.get(name)
    if not isinstance(plan, GroupPlan | JoinPlan):
        known = [n for n, r in deployment.plan.relations.items() if isinstance(r, GroupPlan | JoinPlan)]
        raise EngineError(f"{name!r} is a join or a group", found="none", remedy=nearest(name, known))
    if not deployment.has_log or str(plan.name) not in deployment.log.topics():
        raise EngineError(
            f"{name} was put out live", found="no topic of it", remedy=f"penstock features live --emit {name}"
        )
    topic = deployment.log.topic(plan.name)
    frontier_us = min(topic.frontier(topic.end()))
    history = History(deployment.plan, resolver_for(deployment), clock=deployment.clock)
    columns = list(plan.schema.names)
    batches = list(LogRows(topic).batches(columns))
    live = _by_place(pa.Table.from_batches(batches), columns) if batches else {}
    expected = _by_place(history.relation(plan), columns)
    found = Comparison(name)
    for place, row in expected.items():
        given = live.pop(place, None)
        if given is None:
            found.missing += place[1] <= frontier_us
            continue
        found.rows += 1
        for column in columns:
            found.values += 1
            if not same(row[column], given[column]):
                found.different += 1
                if len(found.examples) < _LISTED:
                    where = {"event_time_us": place[0], "offset": place[-1]}
                    found.examples.append(where | {"column": column, "live": given[column], "history": row[column]})
    found.extra = len(live)
    return found


def check_reads(deployment: Deployment, *, since_us: int | None = None, until_us: int | None = None) -> Replayed | None:
    """Compares logged online reads with what history says at their positions; None where none were logged.

    Args:
        deployment: whose reads.
        since_us, until_us: only reads of instants `q` at or after the one and before the other; all by default.
    """
    if not deployment.reads.exists():
        return None
    try:
        reads = list(logged_reads(deployment.reads))
    except StoreError:  # another process may just begin a file; reads are not held up for anything else
        with locked(deployment.reads):
            reads = list(logged_reads(deployment.reads))
    if since_us is not None or until_us is not None:
        low, high = -_ALWAYS if since_us is None else since_us, _ALWAYS if until_us is None else until_us
        reads = [logged.between(low, high) for logged in reads]
    history = History(deployment.plan, resolver_for(deployment), clock=deployment.clock)
    return check_logged(history, [logged for logged in reads if len(logged.q_us)])


def _by_place(table: pa.Table, columns: list[str]) -> dict[tuple[int, ...], dict[str, Any]]:
    """The rows by their place in the order of rows; deletes are left out."""
    if OP in table.column_names:
        table = table.filter(pc.not_equal(table.column(OP), OP_DELETE))
    rows = table.select([*_PLACE, *columns]).to_pylist()
    return {tuple(int(row[n] or 0) for n in _PLACE): row for row in rows}


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal: floats within 1e-9 of their size, all else exactly."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return bool(one == other)
