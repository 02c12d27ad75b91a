"""The live job: from log to state and derived topics, exactly once, whatever dies in between."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.clock import Clock
from penstock.engine.live.checkpoint import Checkpointer
from penstock.engine.live.erased import begin, seen
from penstock.engine.live.flow import Flow, Interval, relations_of
from penstock.engine.live.inputs import Cut, Inputs, InputTopic
from penstock.engine.live.journal import Journal, read_segment, segments
from penstock.engine.live.lease import Lease
from penstock.engine.live.metrics import Metrics
from penstock.engine.live.outputs import Outputs
from penstock.engine.live.past import Past
from penstock.engine.live.state import memory_directory, open_arena, pack_meta, publish, unpack_meta
from penstock.errors import EngineError
from penstock.names import Fingerprint, fingerprint
from penstock.plan.ir import AsOfPlan, LookupPlan, Plan, RelationPlan, SourcePlan
from penstock.store.lake.interface import Lake
from penstock.store.lake.whole import WholeTopic
from penstock.store.log.interface import Log

__all__ = ["LiveJob", "Options", "Wanted"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a job runs; none of it changes an answer.

    Attributes:
        max_rows: of a micro-batch, unless one commit has more.
        checkpoint_s, checkpoint_rows: a checkpoint begins when so much time has passed and there was a row, or when so
            many rows were applied since the last one; what must be replayed after a crash is at most this.
        memory_dir: where the arena's file goes; None: shared memory if there is some, else the state directory.
        reserve_bytes: the state cannot grow past it.
        poll_s: how long to wait for a notification before looking again.
    """

    max_rows: int = 10_000
    checkpoint_s: float = 30.0
    checkpoint_rows: int = 500_000
    memory_dir: Path | None = None
    reserve_bytes: int = 1 << 36
    poll_s: float = 0.05


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job keeps and puts out.

    Attributes:
        groups: kept for online reads. asofs: as-of reads kept for online reads, with their columns.
        emit: joins and groups whose rows go to a derived topic of their name.
    """

    groups: tuple[RelationPlan, ...]
    asofs: dict[str, tuple[AsOfPlan, tuple[str, ...]]]
    emit: tuple[RelationPlan, ...]

    @classmethod
    def of(cls, plan: Plan, serve: Sequence[str] | None, emit: Sequence[str]) -> Wanted:
        """By names: groups and views to serve (None: all there are), joins and groups to emit."""
        names = [*plan.groups, *plan.views] if serve is None else list(serve)
        groups: dict[str, RelationPlan] = {}
        asofs: dict[str, tuple[AsOfPlan, tuple[str, ...]]] = {}

        def add(lookup: LookupPlan) -> None:
            if isinstance(lookup.source, AsOfPlan):
                plan_, former = lookup.source, asofs.get(lookup.source.fingerprint, (None, ()))[1]
                asofs[plan_.fingerprint] = (plan_, tuple(dict.fromkeys((*former, *lookup.columns))))
            else:
                groups[lookup.source.name.name] = lookup.source

        for name in names:
            if name in plan.groups:
                groups[name] = plan.groups[name]
                continue
            view = plan.views.get(name)
            if view is None:
                raise EngineError("serve a group or a view", found=repr(name), remedy="name one of the plan's")
            for lookup in view.lookups:
                add(lookup)
            for hop in view.two_hops:
                add(hop.value)
                add(hop.keys)
        relations = [plan.relations[name] for name in emit]
        return cls(tuple(groups.values()), asofs, tuple(relations))

    def sources(self) -> list[SourcePlan]:
        """The streams and tables behind all of it."""
        read = (plan.relation for plan, _ in self.asofs.values())
        return [r for r in relations_of([*self.groups, *self.emit, *read]) if isinstance(r, SourcePlan)]

    def fingerprint(self) -> Fingerprint:
        """Of everything that decides the state and the rows put out."""
        return fingerprint(
            {
                "groups": sorted(g.fingerprint for g in self.groups),
                "asofs": sorted([p.fingerprint, *sorted(columns)] for p, columns in self.asofs.values()),
                "emit": sorted(r.fingerprint for r in self.emit),
            }
        )


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """A batch that was applied, whose rows are being appended, and which readers do not see yet."""

    number: int
    frontier_us: int
    meta: bytes
    appending: Future[None] | None


_LOOK_S = 0.2
"""How often a job looks whether rows of its sources were erased."""


class LiveJob:
    """Runs a plan on the topics of a log.

    Args:
        plan: the checked definitions.
        log: holds a topic for every source, and takes the derived topics.
        state_dir: of this job and these definitions alone.
        clock: the deployment's.
        serve: groups and views whose state is kept for online reads; all by default.
        emit: joins and groups whose rows go to a derived topic of their name.
        lake: opens the lake that holds what the log's retention deletes; None: the log holds every row.
        name: of the job, as a producer in the log.
        on_step: called at each step with its name; the crash tests end the process there.

    Raises:
        EngineError: another process runs on the state directory.
        StoreError: its checkpoint is damaged, of a newer version, or of other definitions.
    """

    def __init__(
        self,
        plan: Plan,
        log: Log,
        state_dir: Path | str,
        clock: Clock,
        *,
        serve: Sequence[str] | None = None,
        emit: Sequence[str] = (),
        lake: Callable[[], Lake] | None = None,
        name: str = "live",
        options: Options | None = None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        began_s = time.perf_counter()
        self.state_dir, self._clock, self._log, self._lake = Path(state_dir), clock, log, lake
        self.options, self._on_step = options or Options(), on_step
        self.metrics = Metrics()
        self._stopping = threading.Event()
        self._lease = Lease(self.state_dir)
        self._appender = ThreadPoolExecutor(1, "append")
        self._unsettled: _Unsettled | None = None
        self._look_s = 0.0
        self._wanted, self._name = Wanted.of(plan, serve, emit), name
        try:
            self._open()
            self._publish()
        except BaseException:
            self._appender.shutdown()
            self._lease.close()
            raise
        self.metrics.recovery_s = time.perf_counter() - began_s

    def _open(self, keep: Path | None = None) -> None:
        wanted, memory_dir = self._wanted, self.options.memory_dir or memory_directory(self.state_dir)
        self._fingerprint, epoch = wanted.fingerprint(), self._lease.epoch
        self._sources = wanted.sources()
        self._watched = [self._log.topic(source.name) for source in self._sources]
        self._erasures = seen(self._watched)
        begin(self.state_dir, self._erasures, keep)
        self._arena, manifest = open_arena(
            self.state_dir, memory_dir, epoch, self._fingerprint, self.options.reserve_bytes, keep=keep
        )
        self._arena.begin()
        past = Past({source.name.name: self._topic(source) for source in self._sources}, self._clock)
        self._flow = Flow([*wanted.groups, *wanted.emit], wanted.asofs, self._arena.handle, past)
        self._batch, start, facts = 0, dict[str, list[int]](), None
        if manifest is not None:
            facts, waiting = unpack_meta(self._arena.meta())
            self._flow.restore(facts, waiting)
            self._batch, start = int(facts["batch"]), facts["positions"]
        self._outputs = Outputs(self._log, wanted.emit, self._name, epoch, None if facts is None else facts["outputs"])
        topics = {source.name.name: self._topic(source) for source in self._sources}
        self._inputs = Inputs(topics, start, self.options.max_rows)
        if facts is not None:
            self._inputs.frontier_us = int(facts["frontier_us"])
        self._applied_us = self._inputs.frontier_us
        self._arena.commit(self._batch, self._inputs.frontier_us)
        self._on_step("restored")
        self._replay(manifest.number if manifest else 0)
        number = max([*segments(self.state_dir), manifest.number if manifest else 0], default=0) + 1
        self._journal = Journal(self.state_dir, number)
        self._checkpointer = Checkpointer(self._arena, self.state_dir, manifest, self._on_step)
        self._since_rows, self._since_s = 0, time.monotonic()

    def _publish(self) -> None:
        epoch = self._lease.epoch
        kept = self._flow.kept()
        publish(self.state_dir, self._arena, epoch, self._fingerprint, kept, erasures=self._erasures)

    def _topic(self, source: SourcePlan) -> InputTopic:
        topic = self._log.topic(source.name)
        return topic if self._lake is None else WholeTopic(topic, self._lake)

    def _replay(self, first_segment: int) -> None:
        """Runs again what the journal holds beyond the checkpoint; the log drops the rows that it has."""
        for segment in segments(self.state_dir):
            if segment < first_segment:
                continue
            for batch, payload in read_segment(self.state_dir, segment):
                if batch <= self._batch:
                    continue
                if batch != self._batch + 1:
                    raise EngineError(
                        "the journal goes on where the checkpoint ends",
                        found=f"batch {batch} after {self._batch}",
                        remedy="a file of the state directory is missing: start with an empty one",
                        where=str(self.state_dir),
                    )
                entry = json.loads(payload)
                self._run_batch(self._inputs.again(int(entry["frontier_us"]), entry["to"]))
                self.metrics.replayed += 1
        self._settle()
        self._look()

    @property
    def source_names(self) -> tuple[str, ...]:
        """The streams and tables it reads."""
        return tuple(source.name.name for source in self._sources)

    def run(self) -> None:
        """Runs until `stop`; then what is in flight is finished and a last checkpoint made.

        Raises:
            StoreError: the disk is full or fails, or another process took the job over; what stands is whole.
        """
        try:
            while not self._stopping.is_set():
                if not self.step():
                    self.wait()
            self.checkpoint(wait=True)
        finally:
            self.close()

    def step(self) -> bool:
        """Runs one micro-batch if there is one; whether there was.

        Its derived rows may still be on their way into the log then; readers see it when they are there, at the latest
        after the call that finds nothing.
        """
        if time.monotonic() >= self._look_s:
            self._look_s = time.monotonic() + _LOOK_S
            if seen(self._watched) != self._erasures:
                self._begin_anew()
        return self._advance()

    def wait(self) -> None:
        """Until a topic has rows beyond those read, `poll_s` at most."""
        positions = self._inputs.read_positions()
        if len(positions) == 1:
            name = next(iter(self._inputs.topics))
            self._inputs.topics[name].wait(positions[0], self.options.poll_s)
        else:
            self._log.wait(positions, self.options.poll_s)

    def _begin_anew(self) -> None:
        """Makes the state again out of what is left, as rows were erased; readers keep the former one meanwhile."""
        self._settle()
        former, until_us = self._arena, self._inputs.frontier_us
        self._checkpointer.close()
        self._journal.close()
        self._lease.renew()
        self._open(keep=former.path)
        while self._inputs.frontier_us < until_us and not self._stopping.is_set() and self._advance():
            pass
        self._settle()
        self._publish()
        former.close()
        former.path.unlink(missing_ok=True)
        self.metrics.begun_anew += 1
        self._on_step("begun anew")

    def _advance(self) -> bool:
        cut = self._inputs.next(self._flow.due_us())
        if cut is not None:
            self._journaled(cut)
        else:
            self._settle()
        self._maybe_checkpoint()
        return cut is not None

    def drain(self) -> None:
        """Runs until every row of the topics that can be applied is."""
        while self.step():
            pass

    def stop(self) -> None:
        """Asks `run` to end; from any thread or signal handler."""
        self._stopping.set()

    def checkpoint(self, *, wait: bool = False) -> None:
        """Begins a checkpoint now; with `wait`, returns when it stands.

        Raises:
            StoreError: it failed; the former one stands.
        """
        if self._checkpointer.poll(wait=True):
            self._after_checkpoint()
        self._begin_checkpoint()
        if wait and self._checkpointer.poll(wait=True):
            self._after_checkpoint()

    def close(self) -> None:
        """Lets go of everything without finishing anything, as a kill would, but for the open files."""
        self._appender.shutdown()
        self._checkpointer.close()
        self._journal.close()
        self._arena.close()
        self._lease.close()

    def _journaled(self, cut: Cut) -> None:
        began_s = time.perf_counter()
        entry = {"frontier_us": cut.frontier_us, "to": cut.to}
        self._journal.append(self._batch + 1, json.dumps(entry, separators=(",", ":")).encode())
        self._on_step("journaled")
        appended = self._run_batch(cut)
        self.metrics.batches += 1
        self.metrics.rows_in += cut.n_rows
        self.metrics.rows_out += appended
        self.metrics.batch_s += time.perf_counter() - began_s
        self.metrics.journal_bytes = self._journal.bytes_written
        self._since_rows += cut.n_rows
        self._look()

    def _run_batch(self, cut: Cut) -> int:
        """One micro-batch: state, derived rows, and then readers see it; returns the number of derived rows.

        The rows are appended by a thread while the next batch is applied, which is not appended or committed before
        this one is: what readers see of it meanwhile is hidden by its ranks.
        """
        number = self._batch + 1
        self._arena.begin()
        interval = Interval(number, self._applied_us, cut.frontier_us)
        frames = self._flow.advance(cut.rows, interval, self._outputs.fingerprints)
        self._on_step("applied")
        appends = self._outputs.rows(frames, cut.frontier_us)
        self._settle()
        self._batch, self._applied_us = number, cut.frontier_us
        appending = self._appender.submit(self._outputs.append, appends) if appends else None
        self._unsettled = _Unsettled(number, cut.frontier_us, pack_meta(self._facts(), {}), appending)
        if appending is None:
            self._settle()
        return sum(append.batch.num_rows for append in appends)

    def _settle(self) -> None:
        """Waits until the rows of the last batch are appended, and commits it.

        Raises:
            StoreError: they could not be; nothing is committed from there on.
        """
        batch = self._unsettled
        if batch is None:
            return
        if batch.appending is not None:
            batch.appending.result()
        self._on_step("appended")
        self._arena.begin()
        self._arena.set_meta(batch.meta)
        self._arena.commit(batch.number, batch.frontier_us)
        self._unsettled = None

    def _facts(self) -> dict[str, Any]:
        return {
            "batch": self._batch,
            "frontier_us": self._applied_us,
            "positions": self._inputs.positions(),
            "outputs": self._outputs.facts(),
            **self._flow.facts(),
        }

    def _maybe_checkpoint(self) -> None:
        if self._checkpointer.poll():
            self._after_checkpoint()
        if self._checkpointer.running or not self._since_rows:
            return
        waited_s = time.monotonic() - self._since_s
        if self._since_rows >= self.options.checkpoint_rows or waited_s >= self.options.checkpoint_s:
            self._begin_checkpoint()

    def _begin_checkpoint(self) -> None:
        self._settle()
        self._lease.check()
        self._arena.begin()
        self._arena.set_meta(pack_meta({**self._facts(), "past": self._flow.past()}, self._flow.waiting()))
        self._arena.commit(self._batch, self._inputs.frontier_us)
        number = self._journal.segment + 1
        self._journal.rotate(number)
        self._on_step("rotated")
        self._checkpointer.begin(number, {"fingerprint": self._fingerprint})
        self._since_rows, self._since_s = 0, time.monotonic()

    def _after_checkpoint(self) -> None:
        self._journal.drop_before(self._checkpointer.number)
        self._on_step("dropped")
        self.metrics.checkpoints += 1
        self.metrics.checkpoint_bytes = self._checkpointer.bytes_written

    def _look(self) -> None:
        metrics = self.metrics
        metrics.frontier_us = self._inputs.frontier_us
        metrics.lake_rows = self._inputs.lake_rows()
        metrics.state_bytes = self._arena.used_bytes
        metrics.late_observations = self._flow.late_observations
        late = {source.name.name: source.late_us for source in self._sources}
        newest = self._flow.newest_us
        if newest and all(name in newest for name in late):
            metrics.watermark_us = min(newest[name] - late_us for name, late_us in late.items())
