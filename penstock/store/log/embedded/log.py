"""Opening a log, creating topics, and committing appends in groups."""

from __future__ import annotations

import os
import struct
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import lmdb
import msgspec
import pyarrow as pa

from penstock.clock import Clock
from penstock.errors import PenstockError, StoreError, nearest
from penstock.names import Name
from penstock.store.log.embedded.commit import Outcome, Request, apply_units
from penstock.store.log.embedded.environment import Durability, Environment
from penstock.store.log.embedded.floor import Floors
from penstock.store.log.embedded.prepare import prepare
from penstock.store.log.embedded.spec import Spec, check_config, check_schema, evolved, pack_config, pack_schema
from penstock.store.log.embedded.state import JobState
from penstock.store.log.embedded.topic import EmbeddedTopic
from penstock.store.log.embedded.wake import Bell, Listener
from penstock.store.log.interface import Append, AppendResult, Position, TopicConfig

__all__ = ["EmbeddedLog"]

FORMAT: Final = 1
_NUMBER: Final = struct.Struct(">I")


class _About(msgspec.Struct, frozen=True):
    """What a log says of itself."""

    format: int
    log_id: str
    epoch: int
    created_us: int
    next_topic: int = 0
    next_slot: int = 0


class _Waiting:
    """A unit of appends in the queue of the group commit."""

    __slots__ = ("done", "outcome", "requests")

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests
        self.outcome: Outcome | None = None
        self.done = False


class EmbeddedLog:
    """A log in a directory; threads and processes may have it open together.

    Appends of several threads share a commit: whoever gets to write takes all that wait along.
    """

    def __init__(self, path: Path, env: Environment, clock: Clock, about: _About) -> None:
        self.path, self.clock = path, clock
        self.log_id, self.epoch = about.log_id, about.epoch
        self.env = env
        self.bell = Bell(path / "wake")
        self.floors = Floors(path / "floors")
        self._queue: list[_Waiting] = []
        self._queue_lock = threading.Lock()
        self._leader = threading.Lock()
        self._specs: dict[str, Spec] = {}
        self._listening = threading.local()
        self._listeners: list[Listener] = []

    @classmethod
    def open(
        cls, path: Path | str, *, clock: Clock, create: bool = True, durability: Durability = "sync"
    ) -> EmbeddedLog:
        """Opens the log in a directory, making it if it is missing and `create` says so.

        Args:
            path: of the directory.
            clock: gives known times to rows of live topics.
            create: whether a missing log is made.
            durability: `sync`: an append is on the disk when it returns; `process`: it survives a kill of every
                process, but a power cut may make the log unreadable.

        Raises:
            StoreError: there is no log and `create` is false, or a newer Penstock wrote it.
        """
        path = Path(path)
        place = path / "group-0"
        if not create and not (place / "data.mdb").exists():
            raise StoreError(
                "open a log", found=f"no log in {str(path)!r}", remedy="check the path, or create one", where=str(path)
            )
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                "create a log", found=str(error), remedy="choose a directory that can be written", where=str(path)
            ) from error
        env = Environment.open(place, durability)
        try:
            about = env.update(lambda txn: _read_or_create(txn, env.db, clock, str(path)))
            return cls(path, env, clock, about)
        except BaseException:
            env.close()
            raise

    def __enter__(self) -> EmbeddedLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the log; its topics are of no use after that."""
        for listener in self._listeners:
            listener.close()
        self.bell.close()
        self.floors.close()
        self.env.close()

    def create_topic(self, name: Name | str, schema: pa.Schema, config: TopicConfig | None = None) -> EmbeddedTopic:
        """A new topic, or the one of that name when schema and configuration are the same.

        Raises:
            DataError: the schema or the configuration cannot hold.
            StoreError: there is a topic of that name with another schema or configuration.
        """
        full = Name.parse(name) if isinstance(name, str) else name
        config = config or TopicConfig()
        schema = schema.remove_metadata()
        check_schema(schema, full)
        check_config(config, schema, full)
        spec = self.env.update(lambda txn: self._create(txn, full, schema, config))
        self.floors.reserve(spec.slot + config.partitions)
        self._specs[spec.name] = spec
        return EmbeddedTopic(self, spec)

    def _create(self, txn: lmdb.Transaction, name: Name, schema: pa.Schema, config: TopicConfig) -> Spec:
        stored = txn.get(str(name).encode(), db=self.env.db["topics"])
        if stored is not None:
            spec = Spec.decode(stored)
            if spec.topic_config() != config or not spec.schema().equals(schema):
                raise StoreError(
                    f"create topic {name}",
                    found=f"one with schema {spec.schema()!r} and {spec.topic_config()!r}",
                    remedy="use evolve for its schema, or a new version of the name",
                    where=str(self.path),
                )
            return spec
        about = msgspec.json.decode(_stored(txn, self.env.db["about"], b"about"), type=_About)
        spec = Spec(
            number=about.next_topic,
            name=str(name),
            config=pack_config(config),
            schemas=(pack_schema(schema),),
            slot=about.next_slot,
            created_us=self.clock.now_us(),
        )
        grown = msgspec.structs.replace(
            about, next_topic=about.next_topic + 1, next_slot=about.next_slot + config.partitions
        )
        txn.put(b"about", msgspec.json.encode(grown), db=self.env.db["about"])
        txn.put(spec.name.encode(), spec.encode(), db=self.env.db["topics"])
        return spec

    def evolve(self, name: Name | str, schema: pa.Schema) -> EmbeddedTopic:
        """Gives a topic a new version of its schema: nullable columns added, types widened; nothing else.

        Raises:
            DataError: the change is another.
        """
        full = str(self.topic(name).name)
        schema = schema.remove_metadata()
        check_schema(schema, Name.parse(full))

        def work(txn: lmdb.Transaction) -> Spec:
            spec = Spec.decode(_stored(txn, self.env.db["topics"], full.encode()))
            if spec.schema().equals(schema):
                return spec
            evolved(spec.schema(), schema, full)
            spec = msgspec.structs.replace(spec, schemas=(*spec.schemas, pack_schema(schema)))
            txn.put(full.encode(), spec.encode(), db=self.env.db["topics"])
            return spec

        self._specs[full] = self.env.update(work)
        return EmbeddedTopic(self, self._specs[full])

    def topic(self, name: Name | str) -> EmbeddedTopic:
        """The topic of that name.

        Raises:
            StoreError: there is none.
        """
        full = str(Name.parse(name) if isinstance(name, str) else name)
        return EmbeddedTopic(self, self.spec(full))

    def spec(self, full_name: str) -> Spec:
        """What is stored about a topic, read anew.

        Raises:
            StoreError: there is no such topic.
        """
        stored = self.env.view(lambda txn: _copied(txn.get(full_name.encode(), db=self.env.db["topics"])))
        if stored is None:
            raise StoreError(
                f"topic {full_name}",
                found="no such topic in the log",
                remedy=nearest(full_name, self.topics()),
                where=str(self.path),
            )
        spec = Spec.decode(stored)
        self._specs[full_name] = spec
        return spec

    def spec_in(self, txn: lmdb.Transaction, full_name: str, schema_version: int) -> pa.Schema:
        """A version of a topic's schema, read within a transaction."""
        return Spec.decode(_stored(txn, self.env.db["topics"], full_name.encode())).schema(schema_version)

    def state(self, job: str) -> JobState:
        """Small values that a job keeps in the log."""
        return JobState(self, job)

    def topics(self) -> list[str]:
        """The full names of all topics, sorted."""

        def work(txn: lmdb.Transaction) -> list[str]:
            return [bytes(key).decode() for key in txn.cursor(db=self.env.db["topics"]).iternext(values=False)]

        return self.env.view(work)

    def append_all(self, appends: Sequence[Append]) -> list[AppendResult]:
        """Several appends in one commit: all or none.

        Raises:
            DataError: a batch does not fit its topic, or known times go back.
            StoreError: a stale producer, a gap in its sequence, or the disk refuses.
        """
        requests = [self._request(append) for append in appends]
        waiting = _Waiting(requests)
        with self._queue_lock:
            self._queue.append(waiting)
        with self._leader:
            if not waiting.done:
                with self._queue_lock:
                    group, self._queue = self._queue, []
                self._commit(group)
        if isinstance(waiting.outcome, list):
            return waiting.outcome
        assert waiting.outcome is not None
        raise waiting.outcome

    def append_each(self, appends: Sequence[Append]) -> list[AppendResult | PenstockError]:
        """Several appends in one commit, each accepted or refused by itself."""
        units: list[_Waiting] = []
        results: list[AppendResult | PenstockError | None] = [None] * len(appends)
        for i, append in enumerate(appends):
            try:
                units.append(_Waiting([self._request(append)]))
            except PenstockError as error:
                results[i] = error
        with self._leader:
            with self._queue_lock:
                group, self._queue = self._queue, []
            self._commit([*group, *units])
        rest = iter(units)
        for i, result in enumerate(results):
            if result is None:
                outcome = next(rest).outcome
                results[i] = outcome[0] if isinstance(outcome, list) else outcome
        return [result for result in results if result is not None]

    def wait(self, positions: Sequence[Position], timeout_s: float | None = None) -> bool:
        """Waits until a topic has a row beyond its position; whether one has.

        Raises:
            StoreError: a position is of another log.
        """
        topics = [(EmbeddedTopic(self, self._spec(position.topic)), position) for position in positions]
        listener = self._listener()
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            listener.clear()
            if any(topic.is_beyond(position) for topic, position in topics):
                return True
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            listener.wait(left_s)

    def _listener(self) -> Listener:
        """The listener of the calling thread."""
        listener: Listener | None = getattr(self._listening, "listener", None)
        if listener is None:
            listener = self._listening.listener = Listener(self.bell)
            self._listeners.append(listener)
        return listener

    def _spec(self, full_name: str) -> Spec:
        return self._specs.get(full_name) or self.spec(full_name)

    def _request(self, append: Append) -> Request:
        spec = self._specs.get(append.topic) or self.spec(str(Name.parse(append.topic)))
        prepared = prepare(spec, append.batch, append.partition)
        return Request(
            prepared, append.producer, append.sequence, append.epoch, append.frontier_us, tuple(append.refused)
        )

    def _commit(self, group: list[_Waiting]) -> None:
        """Commits a group; an error of the disk reaches everyone in it."""
        units = [waiting.requests for waiting in group]

        def work(txn: lmdb.Transaction) -> list[Outcome]:
            return apply_units(txn, self.env.db, units, self.clock.now_us(), self.floors.get)

        try:
            outcomes = self.env.update(work)
        except PenstockError as error:
            outcomes = [error] * len(group)
        except BaseException:
            for waiting in group:
                waiting.outcome = StoreError("append", found="the commit was broken off", remedy="append again")
                waiting.done = True
            raise
        for waiting, outcome in zip(group, outcomes, strict=True):
            waiting.outcome, waiting.done = outcome, True
        self.bell.ring()


def _stored(txn: lmdb.Transaction, db: Any, key: bytes) -> bytes:
    """A value that must be there."""
    value = txn.get(key, db=db)
    assert value is not None
    return bytes(value)


def _copied(data: Any) -> bytes | None:
    return None if data is None else bytes(data)


def _read_or_create(txn: lmdb.Transaction, db: dict[str, Any], clock: Clock, where: str) -> _About:
    stored = txn.get(b"about", db=db["about"])
    if stored is None:
        about = _About(FORMAT, uuid.UUID(bytes=os.urandom(16)).hex, 0, clock.now_us())
        txn.put(b"about", msgspec.json.encode(about), db=db["about"])
        return about
    version = msgspec.json.decode(stored).get("format")
    if version != FORMAT:
        raise StoreError(
            f"open a log of format {FORMAT}",
            found=f"format {version!r}",
            remedy="use the Penstock that wrote it, or a newer one",
            where=where,
        )
    return msgspec.json.decode(stored, type=_About)
