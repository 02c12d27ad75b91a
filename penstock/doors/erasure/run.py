"""The stages of an erasure, each of which may be run again: what was done is found done."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pyarrow as pa

from penstock.doors.deployment import Deployment
from penstock.doors.erasure.derived import PLACE, Expected
from penstock.doors.erasure.order import Order, alone, finish, pending, save
from penstock.doors.rows import resolver_for
from penstock.doors.sources.texts import parse_texts
from penstock.engine.history import History
from penstock.engine.live.erased import is_clean, state_directories
from penstock.engine.live.flow import relations_of
from penstock.engine.online.rewrite import rewrite_reads
from penstock.errors import DataError, DoorError, EngineError, nearest
from penstock.plan.ir import GroupPlan, JoinPlan, SourcePlan
from penstock.store.log import Topic
from penstock.store.meta import Meta

__all__ = ["Done", "erase", "resume"]

_PATIENCE_S: Final = 600.0

Tell = Callable[[int, int, str], None]
"""Told of each stage that begins: its number from 0, how many there are, and its name."""


@dataclass(frozen=True, slots=True)
class Done:
    """What an erasure did: of which topics, and how many rows of log and lake went or changed."""

    topics: tuple[str, ...]
    rows: int


def erase(
    deployment: Deployment, key: Mapping[str, str], streams: tuple[str, ...] = (), *, reason: str, author: str,
    tell: Tell = lambda number, total, name: None,
) -> Done:  # fmt: skip
    """Erases the rows of a key wherever they are; one that was broken off before is finished first.

    Args:
        key: column -> value as text; all must match.
        streams: plain names of streams and tables; by default all whose topics have these columns.
        reason, author: for the audit, which does not keep the key.

    Raises:
        DoorError: there is no such topic, or another process erases.
        DataError: a value is not of its column's type.
        EngineError: a running live job did not make its state again in time; erase again.
    """
    resume(deployment, tell=tell)
    topics = _topics(deployment, key, streams)
    for topic in topics:
        _typed(topic, key)
    order = Order(uuid.uuid4().hex, tuple(str(t.name) for t in topics), dict(key), reason, author)
    with alone(deployment.state):
        save(deployment.state, order)
        return _run(deployment, order, tell)


def resume(deployment: Deployment, *, tell: Tell = lambda number, total, name: None) -> Done | None:
    """Finishes an erasure that was broken off; None where there is none."""
    if pending(deployment.state) is None:
        return None
    with alone(deployment.state):
        order = pending(deployment.state)
        return None if order is None else _run(deployment, order, tell)


def _run(deployment: Deployment, order: Order, tell: Tell) -> Done:
    stages = list(_stages(deployment, order))
    for number, (name, stage) in enumerate(stages):
        if name in order.done:
            continue
        tell(number, len(stages), name)
        rows = stage()
        order = msgspec.structs.replace(order, done=(*order.done, name), rows=order.rows + rows)
        save(deployment.state, order)
    with Meta.open(deployment.state / "meta.db", clock=deployment.clock) as meta:
        if not any(order.id in entry.details for entry in meta.list_audit("erasure")):
            details = {"id": order.id, "columns": sorted(order.key), "topics": order.topics, "rows": order.rows}
            text = msgspec.json.encode(details).decode()
            meta.add_audit("erasure", ", ".join(order.topics), text, author=order.author, reason=order.reason)
    finish(deployment.state)
    return Done(order.topics, order.rows)


def _stages(deployment: Deployment, order: Order) -> Iterator[tuple[str, Callable[[], int]]]:
    topics = [deployment.log.topic(name) for name in order.topics]
    for topic in topics:
        yield f"log: {topic.name}", lambda topic=topic: _erase_log(topic, order)  # type: ignore[misc]
    for topic in topics:
        yield f"lake: {topic.name}", lambda topic=topic: _erase_lake(deployment, topic, order)  # type: ignore[misc]
    yield "live state", lambda: _erase_states(deployment)
    for topic in _derived(deployment, order):
        yield f"derived: {topic.name}", lambda topic=topic: _make_again(deployment, topic, order)  # type: ignore[misc]
    yield "logged reads", lambda: _erase_reads(deployment, order)


def _topics(deployment: Deployment, key: Mapping[str, str], streams: tuple[str, ...]) -> list[Topic]:
    if not key:
        raise DoorError("a key to erase", found="none", remedy="penstock erase user_id=7 --reason ...")
    if not deployment.has_log:
        raise DoorError(f"{deployment.root} has a log", found="none yet", remedy="there is nothing to erase")
    if streams:
        return [deployment.stored_topic(name) for name in streams]
    everything = [deployment.log.topic(name) for name in deployment.log.topics()]
    found = [t for t in everything if not t.config.carried and set(key) <= set(t.schema.names)]
    if not found:
        columns = sorted({name for t in everything for name in t.schema.names})
        missing = next((name for name in key if name not in columns), next(iter(key)))
        raise DoorError(f"a topic has the columns {', '.join(key)}", found="none", remedy=nearest(missing, columns))
    return found


def _typed(topic: Topic, key: Mapping[str, str]) -> dict[str, Any]:
    """The key in the types of a topic's columns."""
    values = {}
    for name, text in key.items():
        if name not in topic.schema.names:
            raise DataError(
                f"{topic.name} has the column {name}", found="none", remedy=nearest(name, topic.schema.names)
            )
        parsed, bad = parse_texts(pa.array([text], pa.string()), topic.schema.field(name).type)
        if bad is not None:
            raise DataError(
                f"{name} of {topic.name} is {topic.schema.field(name).type}", found=repr(text), remedy="mend the value"
            )
        values[name] = parsed[0].as_py()
    return values


def _erase_log(topic: Topic, order: Order) -> int:
    return topic.erase(_typed(topic, order.key), reason=order.reason, author=order.author).rows


def _erase_lake(deployment: Deployment, topic: Topic, order: Order) -> int:
    if not (deployment.state / "lake").exists() or topic.lake_table() not in deployment.lake.tables():
        return 0
    return deployment.lake.erase(
        topic.lake_table(), _typed(topic, order.key), reason=order.reason, versions=topic.config.corrected
    )


def _erase_states(deployment: Deployment) -> int:
    """Waits until no live state holds erased rows; that of stopped jobs is thrown away at once."""
    until_s = time.monotonic() + _PATIENCE_S
    topics = [deployment.log.topic(name) for name in deployment.log.topics()]
    waiting = state_directories(deployment.state / "live")
    while waiting := [folder for folder in waiting if not is_clean(folder, topics)]:
        if time.monotonic() > until_s:
            raise EngineError(
                "a running live job makes its state again without the erased rows",
                found=f"not done after {_PATIENCE_S:g} s",
                remedy="look whether it runs; then run this again: it goes on here",
                where=str(waiting[0]),
            )
        time.sleep(0.05)
    return 0


def _derived(deployment: Deployment, order: Order) -> list[Topic]:
    """Derived topics that rest on an erased one, and those of definitions that are gone."""
    relations = {str(r.name): r for r in deployment.plan.relations.values() if isinstance(r, GroupPlan | JoinPlan)}
    found = []
    for name in deployment.log.topics():
        topic = deployment.log.topic(name)
        if not topic.config.carried:
            continue
        relation = relations.get(name)
        sources = [str(r.name) for r in relations_of([relation]) if isinstance(r, SourcePlan)] if relation else []
        if relation is None or set(sources) & set(order.topics):
            found.append(topic)
    return found


def _make_again(deployment: Deployment, topic: Topic, order: Order) -> int:
    """Takes the key's rows out of a derived topic and its lake table; others say what history says now."""
    n = 0
    if set(order.key) <= set(topic.schema.names):
        n = _erase_log(topic, order) + _erase_lake(deployment, topic, order)
    relations = {str(r.name): r for r in deployment.plan.relations.values() if isinstance(r, GroupPlan | JoinPlan)}
    relation = relations.get(str(topic.name))
    if relation is None:
        return n  # of definitions that are gone: nothing can make its other rows again
    until_us = min(topic.frontier(topic.end()))
    history = History(deployment.plan, resolver_for(deployment), clock=deployment.clock)
    expected = Expected(history.relation(relation), topic.schema.names, until_us)
    n += topic.rewrite(expected)
    if (deployment.state / "lake").exists() and topic.lake_table() in deployment.lake.tables():
        n += deployment.lake.rewrite(topic.lake_table(), expected, PLACE)
    return n


def _erase_reads(deployment: Deployment, order: Order) -> int:
    folder = deployment.reads
    if not folder.exists():
        return 0
    history = History(deployment.plan, resolver_for(deployment), clock=deployment.clock)
    return rewrite_reads(history, folder, order.key)
