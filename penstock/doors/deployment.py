"""A deployment: a project's folder and what it keeps under `.penstock/`. The one place that opens its stores."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from penstock.clock import Clock, ReplayClock, WallClock
from penstock.define.project import Definitions, load
from penstock.doors.follow import Follower
from penstock.doors.replay import Replay
from penstock.doors.topics import topic_config
from penstock.errors import DefinitionError, DoorError, StoreError, nearest
from penstock.names import Name
from penstock.plan import Plan, plan
from penstock.plan.ir import SourcePlan
from penstock.store.log import Log, Topic

if TYPE_CHECKING:
    from penstock.engine.live.job import LiveJob
    from penstock.engine.online import Online, ReadLog
    from penstock.store.lake import Lake

__all__ = ["STATE_FOLDER", "Deployment"]

STATE_FOLDER: Final = ".penstock"
_FORMAT: Final = 1


class Deployment:
    """A project and its stores; each is opened when it is first used.

    Args:
        root: the project's folder.
        clock: the deployment's one clock; the wall by default.
    """

    def __init__(self, root: str | Path = ".", clock: Clock | None = None) -> None:
        self.root = Path(root).resolve()
        self.clock = clock or WallClock()
        self.state = self.root / STATE_FOLDER

    def __enter__(self) -> Deployment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes what was opened."""
        if "log" in self.__dict__:
            self.log.close()
            del self.__dict__["log"]

    @cached_property
    def definitions(self) -> Definitions:
        """The project's definitions.

        Raises:
            DefinitionError: there are none, or they do not load.
        """
        return load(self.root)

    @cached_property
    def plan(self) -> Plan:
        """The checked plan.

        Raises:
            PlanError: the definitions do not fit each other.
        """
        return plan(self.definitions)

    @cached_property
    def log(self) -> Log:
        """The log, made when it is missing.

        Raises:
            StoreError: another Penstock, newer than this, wrote the state.
        """
        self._prepare()
        return Log.open(self.state / "log", clock=self.clock)

    @cached_property
    def lake(self) -> Lake:
        """The lake, made when it is missing."""
        from penstock.store.lake import Lake  # delta-rs is loaded by those that use it

        self._prepare()
        return Lake.open(self.state / "lake", clock=self.clock)

    @property
    def has_log(self) -> bool:
        """Whether there is a log already."""
        return (self.state / "log").exists()

    def source(self, name: str) -> SourcePlan:
        """A stream or table of the plan.

        Raises:
            DefinitionError: there is none of that name.
        """
        found = self.plan.relations.get(name)
        if not isinstance(found, SourcePlan):
            kind = "something else" if found is not None or name in self.definitions.named else "nothing"
            raise DefinitionError(
                f"{name!r} is a stream or a table of the project",
                found=kind,
                remedy=nearest(name, self.sources),
                where=str(self.root),
            )
        return found

    @property
    def sources(self) -> dict[str, SourcePlan]:
        """All streams and tables by name."""
        return {n: r for n, r in self.plan.relations.items() if isinstance(r, SourcePlan)}

    def topic(self, name: str) -> Topic:
        """The topic of a stream or table, made when it is missing; nullable columns that are new are added to it."""
        source = self.source(name)
        schema, config = source.schema.arrow, topic_config(source)
        if str(source.name) in self.log.topics():
            topic = self.log.topic(source.name)
            return topic if topic.schema.equals(schema) else self.log.evolve(source.name, schema)
        return self.log.create_topic(source.name, schema, config)

    def stored_topic(self, name: str) -> Topic:
        """A topic that is there, by its plain or full name.

        Raises:
            StoreError: there is none.
        """
        names = self.log.topics()
        if name in names:
            return self.log.topic(name)
        full = next((n for n in names if Name.parse(n).name == name), None)
        if full is None:
            plain = [Name.parse(n).name for n in names]
            raise StoreError(
                f"the log has a topic {name!r}",
                found=f"{len(names)} topics",
                remedy=nearest(name, plain),
                where=str(self.state / "log"),
            )
        return self.log.topic(full)

    def replay(
        self,
        names: Iterable[str],
        *,
        clock: ReplayClock | None = None,
        step_rows: int = 8_192,
        speed: float | None = None,
    ) -> Replay:
        """A replay of streams from files into their topics."""
        sources = [self.source(name) for name in names]
        if not sources:
            raise DoorError(
                "a replay has streams from files", found="none", remedy="name some, or define one with ps.files(...)"
            )
        for source in sources:
            self.topic(source.name.name)
        return Replay(sources, self.log, self.root, self._journals, clock, step_rows, speed)

    def live_job(
        self, emit: Sequence[str] = (), serve: Sequence[str] | None = None, *, memory_dir: Path | None = None
    ) -> LiveJob:
        """A live job over the plan; its state is kept by what it computes, so changed definitions start anew.

        Args:
            emit: joins and groups whose rows go to a derived topic of their name.
            serve: groups and views kept for online reads; all by default.
            memory_dir: where its memory's file goes; shared memory by default.
        """
        from penstock.engine.live.job import LiveJob, Options, Wanted  # the kernel is loaded by those that run it

        for name in self.sources:
            self.topic(name)
        known = [n for n, r in self.plan.relations.items() if not isinstance(r, SourcePlan)]
        for name in emit:
            if name not in known:
                raise DefinitionError(
                    f"{name!r} is a join or a group", found="none", remedy=nearest(name, known), where=str(self.root)
                )
        wanted = Wanted.of(self.plan, serve, emit).fingerprint()
        folder = self.state / "live" / wanted[:16]
        folder.mkdir(parents=True, exist_ok=True)
        job = LiveJob(
            self.plan,
            self.log,
            folder,
            self.clock,
            serve=serve,
            emit=emit,
            options=Options(memory_dir=memory_dir),
            lake=lambda: self.lake,
        )
        part = self._newest_job.with_suffix(".tmp")
        part.write_text(folder.name)
        part.replace(self._newest_job)
        return job

    @property
    def _newest_job(self) -> Path:
        return self.state / "live" / "newest"

    @property
    def has_live(self) -> bool:
        """Whether a live job was ever started."""
        return self._newest_job.exists()

    def online(self, reads: ReadLog | None = None) -> Online | None:
        """Reads of the state of the live job that was started last; None where none ever was.

        Args:
            reads: takes every read, in the folder `reads` if `penstock features replay-check` shall find it.

        Raises:
            StoreError: its state is of a newer format, or is gone.
        """
        if not self.has_live:
            return None
        from penstock.engine.online import Online  # the kernel is loaded by those that read it

        return Online(self.plan, self.state / "live" / self._newest_job.read_text(), self.clock, reads=reads)

    @property
    def reads(self) -> Path:
        """The folder of logged online reads."""
        return self.state / "reads"

    def follower(self, name: str) -> Follower:
        """What keeps a topic up to date with a source that grows."""
        source = self.source(name)
        self.topic(name)
        return Follower(source, self.log, self.root, self._journals, self.clock)

    @property
    def _journals(self) -> Path:
        return self.state / "doors"

    def _prepare(self) -> None:
        marker = self.state / "format.json"
        if marker.exists():
            self._check(marker)
            return
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            (self.state / ".gitignore").write_text("*\n")
            part = marker.with_suffix(f".{os.getpid()}.tmp")  # several processes may begin at once
            part.write_text(json.dumps({"format": _FORMAT}))
            part.replace(marker)
        except OSError as error:
            raise StoreError(
                "the deployment's state is kept in a folder that can be written",
                found=str(error),
                remedy="make room, or change its rights",
                where=str(self.state),
            ) from error

    def _check(self, marker: Path) -> None:
        try:
            found = json.loads(marker.read_text())["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{marker} holds the format of the state", found=repr(error), remedy="restore it", where=str(marker)
            ) from error
        if found != _FORMAT:
            raise StoreError(
                f"state of format {_FORMAT}",
                found=f"format {found!r}",
                remedy="use the Penstock that wrote it, or a newer one",
                where=str(self.state),
            )
