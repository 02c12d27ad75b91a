"""The plan on one interval of known time after the other: rows through, state in, answers at a row's own position."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.engine.history.lookups import lookup_of_group
from penstock.engine.live.asof import ASOF_LATE_US, AsOfState
from penstock.engine.live.frame import OP_DROP, Frame, Int64s, Origin, int64s, set_column, set_columns
from penstock.engine.live.groups import GroupState, LayoutState, reach_us
from penstock.engine.live.interner import Interner
from penstock.engine.live.joins import JoinState
from penstock.engine.live.keyed import FOREVER, Applied, Horizon, Records, id_hashes
from penstock.engine.live.past import Past, replaced
from penstock.plan.ir import (
    AsOfPlan,
    ComputePlan,
    EnrichPlan,
    FilterPlan,
    GroupPlan,
    JoinPlan,
    LookupPlan,
    RelationPlan,
    SourcePlan,
)
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME, OP, OP_INSERT, OP_NAMES

__all__ = [
    "FOREVER",
    "READABLE_BATCHES",
    "Flow",
    "Interval",
    "Roots",
    "alike",
    "inputs_of",
    "origin_of",
    "read_name",
    "reads",
    "relations_of",
]


FoundKeys = tuple[Records, npt.NDArray[np.uint64]]


def inputs_of(relation: RelationPlan) -> tuple[RelationPlan, ...]:
    """The relations that one is made from, those behind its lookup included."""
    match relation:
        case SourcePlan():
            return ()
        case JoinPlan():
            return (relation.observation, relation.outcome)
        case EnrichPlan():
            source = relation.lookup.source
            return (relation.input, source.relation if isinstance(source, AsOfPlan) else source)
    return (relation.input,)


def relations_of(wanted: Sequence[RelationPlan]) -> list[RelationPlan]:
    """All relations behind the wanted ones and these themselves, each after its inputs, each once."""
    found: dict[str, RelationPlan] = {}

    def visit(relation: RelationPlan) -> None:
        if relation.fingerprint not in found:
            for before in inputs_of(relation):
                visit(before)
            found[relation.fingerprint] = relation

    for relation in wanted:
        visit(relation)
    return list(found.values())


def origin_of(relation: RelationPlan) -> Origin:
    """The log whose positions a relation's rows have."""
    match relation:
        case SourcePlan():
            corrected = relation.op is not None and relation.kind == "stream"
            return Origin(relation.name.name, corrected, relation.corrected_us, relation.kind == "table")
        case JoinPlan():
            below = origin_of(relation.observation)
            return Origin(relation.name.name, below.corrected, below.horizon_us)
    return origin_of(relation.input)


@dataclass(frozen=True, slots=True)
class Roots:
    """Which root of the arena holds what: names in the order of the roots, from 1; root 0 interns values."""

    names: tuple[str, ...]

    def of(self, name: str) -> int:
        """The root of a group, join or as-of read."""
        return self.names.index(name) + 1


READABLE_BATCHES: Final = 31
"""A read of a committed batch may go on while so many further batches begin; what it sees is kept one batch longer,
as a batch is applied while the one before it is not yet committed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """What is known of an interval before it runs: all in the journal, so that it runs again alike.

    Attributes:
        number: of the batch.
        former_us: all rows known at or before it were in intervals before.
        frontier_us: all rows known at or before it are in this one or were before.
    """

    number: int
    former_us: int
    frontier_us: int


@dataclass
class _Ranks:
    """How far a log's ranks have come, and this interval's rows.

    Attributes:
        known, rank: of each row.
        newest: the greatest event time before the first row, and up to each row.
    """

    last: int = FOREVER
    former: int = FOREVER
    known: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    rank: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    newest: Int64s = field(default_factory=lambda: np.full(1, _LONG_AGO_US, np.int64))
    formers: deque[int] = field(default_factory=lambda: deque(maxlen=READABLE_BATCHES + 1))

    @property
    def settled(self) -> int:
        """No one asks below this rank any more."""
        return self.formers[0] if self.formers else FOREVER

    def at(self, known_us: Int64s) -> Int64s:
        """The greatest rank of the log's rows known at each instant, none of which lies before this interval."""
        if not len(self.known):
            return np.full(len(known_us), self.last, np.int64)
        padded = np.concatenate([[self.former], self.rank]).astype(np.int64)
        found: Int64s = padded[np.searchsorted(self.known, known_us, side="right")]
        return found

    def newest_before(self, rank: Int64s) -> Int64s:
        """The greatest event time of the log's rows before each rank of this interval."""
        return self.newest[np.searchsorted(self.rank, rank, side="left")]

    def newest_at(self, known_us: Int64s) -> Int64s:
        """The greatest event time of the log's rows known at each instant, none of which lies before this interval."""
        return self.newest[np.searchsorted(self.known, known_us, side="right")]


class Flow:
    """Every state of a job, and how rows go through them.

    Args:
        wanted: relations whose rows or state are asked for.
        asofs: as-of reads that are served online though no relation reads them, with the columns read.
        past: answers what state has forgotten.
    """

    def __init__(
        self,
        wanted: Sequence[RelationPlan],
        asofs: Mapping[str, tuple[AsOfPlan, tuple[str, ...]]],
        handle: Any,
        past: Past,
    ) -> None:
        self._past = past
        self.relations = relations_of([*wanted, *(plan.relation for plan, _ in asofs.values())])
        kept = reads(self.relations, asofs)
        self._asked_by_rows = frozenset(reads(self.relations, {}))
        names = [r.name.name for r in self.relations if isinstance(r, GroupPlan | JoinPlan)]
        self.roots = Roots((*names, *kept))
        self.interner = Interner(handle, 0)
        self.groups = {
            r.fingerprint: GroupState(r, handle, self.roots.of(r.name.name), self.interner)
            for r in self.relations
            if isinstance(r, GroupPlan)
        }
        self.joins = {
            r.fingerprint: JoinState(r, handle, self.roots.of(r.name.name), self.interner, past=past)
            for r in self.relations
            if isinstance(r, JoinPlan)
        }
        self.asofs = {
            name: AsOfState(plan, columns, handle, self.roots.of(name), self.interner)
            for name, (plan, columns) in kept.items()
        }
        self.ranks: dict[str, _Ranks] = {}
        self.newest_us: dict[str, int] = {}
        self.late_observations = 0
        self._newest_before_us: dict[str, int] = {}
        self._formers_us: deque[int] = deque(maxlen=READABLE_BATCHES + 1)
        self._as_rows = self._read_as_rows()

    def advance(
        self, sources: Mapping[str, pa.RecordBatch], interval: Interval, emit: frozenset[str] = frozenset()
    ) -> dict[str, Frame]:
        """Runs an interval; the frames of the relations in `emit` (by fingerprint).

        Args:
            sources: by name of the source, its rows of the interval by (k, partition, offset).
        """
        frames: dict[str, Frame] = {}
        self._newest_before_us = dict(self.newest_us)
        self._formers_us.append(interval.former_us)
        for relation in self.relations:
            frames[relation.fingerprint] = self._run(relation, frames, sources, interval, emit)
        self._forget(interval)
        return {fingerprint: frames[fingerprint] for fingerprint in emit}

    def _run(
        self,
        relation: RelationPlan,
        frames: Mapping[str, Frame],
        sources: Mapping[str, pa.RecordBatch],
        interval: Interval,
        emit: frozenset[str],
    ) -> Frame:
        match relation:
            case SourcePlan():
                frame = self._ranked(_source_rows(relation, sources[relation.name.name]), origin_of(relation))
            case FilterPlan():
                frame = _filtered(relation, frames[relation.input.fingerprint])
            case ComputePlan():
                frame = frames[relation.input.fingerprint]
                for name, expression in relation.columns:
                    frame = frame.with_batch(set_column(frame.batch, name, expression.evaluate(frame.batch)))
            case EnrichPlan():
                frame = self._enriched(relation, frames[relation.input.fingerprint])
            case JoinPlan():
                frame = self._joined(relation, frames, interval)
            case GroupPlan():
                rows = frames[relation.input.fingerprint]
                state = self.groups[relation.fingerprint]
                found = self._apply(state, relation.keys, rows, self._horizon(relation))
                wanted = relation.fingerprint in emit or relation.fingerprint in self._as_rows
                frame = self._featured(relation, rows, found) if wanted else rows
        for asof in self.asofs.values():
            if asof.plan.relation.fingerprint == relation.fingerprint:
                self._apply(asof.state, asof.plan.keys, frame, self._asof_horizon(asof))
        return frame

    def _read_as_rows(self) -> set[str]:
        """Groups whose rows, not only their state, some relation takes in."""
        found = set()
        for relation in self.relations:
            match relation:
                case JoinPlan():
                    found |= {relation.observation.fingerprint, relation.outcome.fingerprint}
                case SourcePlan():
                    pass
                case _:
                    found.add(relation.input.fingerprint)
        return found | {state.plan.relation.fingerprint for state in self.asofs.values()}

    def _ranked(self, batch: pa.RecordBatch, origin: Origin) -> Frame:
        ranks = self.ranks.setdefault(origin.name, _Ranks())
        known = batch.column(KNOWN_TIME).to_numpy()
        n = len(known)
        ranks.former = ranks.last
        ranks.formers.append(ranks.last)
        steps = np.arange(n, dtype=np.int64)
        # rank[i] = max(rank[i - 1] + 1, known[i]), all at once
        rank = np.maximum.accumulate(known - steps) + steps if n else np.zeros(0, np.int64)
        if n and ranks.last != FOREVER:
            rank = np.maximum(rank, ranks.last + 1 + steps)
        ranks.known, ranks.rank = known, rank
        ranks.last = int(rank[-1]) if n else ranks.last
        before = [self.newest_us.get(origin.name, _LONG_AGO_US)]
        ranks.newest = np.maximum.accumulate(np.concatenate([before, batch.column(EVENT_TIME).to_numpy()]))
        if n:
            self.newest_us[origin.name] = int(ranks.newest[-1])
        return Frame(batch, rank, origin)

    def _enriched(self, relation: EnrichPlan, frame: Frame) -> Frame:
        columns = self.lookup(relation.lookup, frame)
        batch = frame.batch
        for name, values in columns.items():
            batch = set_column(batch, name, values)
        return frame.with_batch(batch)

    def lookup(self, lookup: LookupPlan, frame: Frame) -> dict[str, pa.Array]:
        """What a lookup says to each row at q = t and its own position."""
        source = lookup.source
        keys = [frame.batch.column(name) for name in lookup.keys]
        read = source.relation if isinstance(source, AsOfPlan) else source.input
        below = origin_of(read)
        a = frame.rank if below.name == frame.origin.name else self.ranks[below.name].at(frame.known)
        if isinstance(source, AsOfPlan):
            found = self.asofs[read_name(source)].query(alike(keys, source), frame.t, a).columns
        else:
            state = self.groups[source.fingerprint]
            found = state.query(alike(keys, source), frame.t, a, own=below.name == frame.origin.name).columns
        pairs = zip(lookup.columns, lookup.outputs.columns, strict=True)
        said = {output.name: found[column] for column, output in pairs}
        return self._remembered(lookup, frame, said)

    def _featured(self, relation: GroupPlan, rows: Frame, found_keys: FoundKeys) -> Frame:
        state = self.groups[relation.fingerprint]
        found = state.query_found(found_keys, rows.t, rows.rank, own=True)
        said = {f"{relation.name.name}.{name}": values for name, values in found.columns.items()}
        said = self._remembered(lookup_of_group(relation), rows, said, direct=True)
        return rows.with_batch(set_columns(rows.batch, said))

    def _remembered(
        self, lookup: LookupPlan, frame: Frame, said: dict[str, pa.Array], *, direct: bool = False
    ) -> dict[str, pa.Array]:
        """What state said to rows, those that came later than the group's declared delay answered by history.

        A row is late where its instant lies further back than the delay both before its own known time and before the
        newest event of the group's log known then; so what is late depends on the rows alone.
        """
        group = lookup.source
        if isinstance(group, AsOfPlan):
            return said
        ranks, own = self.ranks[origin_of(group).name], origin_of(group).name == frame.origin.name
        newest = ranks.newest_before(frame.rank) if own else ranks.newest_at(frame.known)
        late = frame.stands & (frame.t < np.minimum(frame.known, newest) - group.observations_late_us)
        if not late.any():
            return said
        self.late_observations += int(late.sum())
        found = self._past.lookup(lookup, frame.take(late), direct=direct)
        return {name: replaced(values, np.flatnonzero(late), found[name]) for name, values in said.items()}

    def _joined(self, relation: JoinPlan, frames: Mapping[str, Frame], interval: Interval) -> Frame:
        state = self.joins[relation.fingerprint]
        outcomes, observed = frames[relation.outcome.fingerprint], frames[relation.observation.fingerprint]
        self._apply(state.outcomes, relation.on, outcomes, self._join_horizon(state, interval))
        state.match(outcomes)
        state.observe(observed)
        made = state.close(interval.frontier_us)
        if made is not None:
            self.late_observations += len(state.late(int64s(made, EVENT_TIME), int64s(made, KNOWN_TIME)))
        origin = origin_of(relation)
        if made is None:
            made = _empty_like(observed.batch, relation)
        return self._ranked(made, origin)

    def _apply(self, state: LayoutState, keys: Sequence[str], frame: Frame, horizon: Horizon) -> FoundKeys:
        """Adds the rows of a frame to a state under their keys; where these were found."""
        if not len(frame):
            return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        columns = [frame.batch.column(name) for name in keys]
        keep = frame.stands if not frame.origin.table else np.not_equal(frame.op, OP_DROP)
        records, hashes = state.keyed.find(columns, create=True)
        state.keyed.apply(
            Applied(
                records=records,
                t=frame.t,
                rank=frame.rank,
                known=frame.known,
                keep=keep,
                slots=state.encode(frame.batch),
                ids=id_hashes(frame.ids, frame.partition) if frame.origin.corrected else None,
                corrected_us=frame.origin.horizon_us,
                horizon=horizon,
            )
        )
        return records, hashes

    def _horizon(self, plan: GroupPlan) -> Horizon:
        """What of a group's rows no query tells apart that state must answer.

        While rows of long ago are only now becoming known, their own instants hold it back; and so do the instants of
        an interval's rows while it runs, each of which asks at its own.
        """
        origin, state = origin_of(plan), self.groups[plan.fingerprint]
        newest_us = self._newest_before_us.get(origin.name)
        if newest_us is None:
            return Horizon(settled=self.ranks[origin.name].settled)
        before_us = min(self._formers_us[0], newest_us) - plan.observations_late_us - reach_us(plan.layout)
        return self._folding(state, origin, before_us) if state.endless else self._forgetting(origin, before_us)

    def _asof_horizon(self, state: AsOfState) -> Horizon:
        """The same of an as-of read: a row that is enriched by it asks at its own instant, however late it is."""
        origin, before_us = origin_of(state.plan.relation), self._formers_us[0] - ASOF_LATE_US
        if read_name(state.plan) in self._asked_by_rows:
            return self._forgetting(origin, FOREVER)
        return self._folding(state.state, origin, before_us)

    def _join_horizon(self, state: JoinState, interval: Interval) -> Horizon:
        """The same of a join's outcomes: joins ask about instants long gone, so no rank is settled."""
        return Horizon(cutoff_us=state.forgotten_us(interval.former_us))

    def _forgetting(self, origin: Origin, before_us: int) -> Horizon:
        return Horizon(cutoff_us=before_us, settled=self.ranks[origin.name].settled)

    def _folding(self, state: LayoutState, origin: Origin, before_us: int) -> Horizon:
        settled = self.ranks[origin.name].settled
        if not state.folds or not origin.settles:
            return Horizon(settled=settled)
        beyond = self._formers_us[0] - (origin.horizon_us or 0) if origin.corrected else settled
        return Horizon(settled=settled, fold_us=before_us, fold_rank=min(settled, beyond))

    def _forget(self, interval: Interval) -> None:
        """Sweeps a few shards of every state, round and round."""
        first = interval.number * _SHARDS_A_BATCH % 1024
        for relation in self.relations:
            match relation:
                case GroupPlan():
                    horizon = self._horizon(relation)
                    keyed = self.groups[relation.fingerprint].keyed
                case JoinPlan():
                    horizon = self._join_horizon(self.joins[relation.fingerprint], interval)
                    keyed = self.joins[relation.fingerprint].outcomes.keyed
                case _:
                    continue
            if not horizon.is_nothing:
                keyed.sweep(first, _SHARDS_A_BATCH, horizon)
        for asof in self.asofs.values():
            horizon = self._asof_horizon(asof)
            if not horizon.is_nothing:
                asof.state.keyed.sweep(first, _SHARDS_A_BATCH, horizon)

    def due_us(self) -> int | None:
        """When the next waiting observation closes; None where none waits."""
        found = [due for state in self.joins.values() if (due := state.due_us()) is not None]
        return min(found, default=None)

    def waiting(self) -> dict[str, bytes]:
        """The open observations of every join, by its name, for a checkpoint."""
        return {state.plan.name.name: state.to_bytes() for state in self.joins.values()}

    def kept(self) -> dict[str, list[str]]:
        """What lies under each root, in their order: the fingerprint, and of an as-of read the columns kept."""
        made: dict[str, list[str]]
        made = {r.name.name: [r.fingerprint] for r in self.relations if isinstance(r, GroupPlan | JoinPlan)}
        return made | {name: [state.plan.fingerprint, *state.columns] for name, state in self.asofs.items()}

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the arena, as plain data; open observations go apart."""
        ranks = {name: ranks.last for name, ranks in self.ranks.items()}
        return {"ranks": ranks, "newest_us": dict(self.newest_us), "late": self.late_observations}

    def past(self) -> dict[str, Any]:
        """How far the last batches had come, which decides what is folded: for a checkpoint, as plain data."""
        return {
            "us": list(self._formers_us),
            "ranks": {name: list(ranks.formers) for name, ranks in self.ranks.items()},
        }

    def restore(self, facts: Mapping[str, Any], waiting: Mapping[str, bytes]) -> None:
        """Takes back what `facts`, with `past`, and `waiting` gave."""
        for state in self.joins.values():
            state.from_bytes(waiting[state.plan.name.name])
        self.ranks = {name: _Ranks(last=int(last), former=int(last)) for name, last in facts["ranks"].items()}
        for name, ranks in self.ranks.items():
            ranks.formers.extend(facts["past"]["ranks"][name])
        self._formers_us.extend(facts["past"]["us"])
        self.newest_us = dict(facts["newest_us"])
        self.late_observations = int(facts["late"])


_SHARDS_A_BATCH = 4
_LONG_AGO_US = -(2**62)  # before every event, with room below it


def reads(
    relations: Sequence[RelationPlan], asofs: Mapping[str, tuple[AsOfPlan, tuple[str, ...]]]
) -> dict[str, tuple[AsOfPlan, tuple[str, ...]]]:
    """All as-of reads by name, each with every column that someone reads."""
    found: dict[str, tuple[AsOfPlan, tuple[str, ...]]] = {}

    def add(plan: AsOfPlan, columns: Sequence[str]) -> None:
        name = read_name(plan)
        _, former = found.get(name, (plan, ()))
        found[name] = (plan, tuple(dict.fromkeys((*former, *columns))))

    for relation in relations:
        if isinstance(relation, EnrichPlan) and isinstance(relation.lookup.source, AsOfPlan):
            add(relation.lookup.source, relation.lookup.columns)
    for plan, columns in asofs.values():
        add(plan, columns)
    return found


def read_name(plan: AsOfPlan) -> str:
    """What the state of an as-of read is called among the roots."""
    return f"asof:{plan.fingerprint}"


def alike(keys: Sequence[pa.Array], source: AsOfPlan | GroupPlan) -> list[pa.Array]:
    """Keys in the types of those that are read."""
    kinds = [kind.arrow for kind in source.key_types]
    return [key if key.type == kind else key.cast(kind) for key, kind in zip(keys, kinds, strict=True)]


def _source_rows(relation: SourcePlan, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of a source; those of a table say by its own column what they do, as they have no id."""
    if relation.kind != "table" or relation.op is None:
        return batch
    said = pc.utf8_lower(batch.column(relation.op).cast(pa.string()))
    op = pc.fill_null(pc.index_in(said, pa.array(OP_NAMES)), OP_INSERT).cast(pa.int8())
    return set_column(batch, OP, op)


def _filtered(relation: FilterPlan, frame: Frame) -> Frame:
    condition = pc.fill_null(relation.condition.evaluate(frame.batch), False)
    passes: npt.NDArray[np.bool_] = np.asarray(condition)
    if not frame.origin.corrected and not frame.origin.table:
        return frame if passes.all() else frame.take(passes)
    op = np.where(frame.stands & ~passes, np.int8(OP_DROP), frame.op).astype(np.int8)
    return frame.with_batch(set_column(frame.batch, OP, pa.array(op)))


def _empty_like(batch: pa.RecordBatch, relation: JoinPlan) -> pa.RecordBatch:
    """No rows, with the columns of a join."""
    batch = batch.slice(0, 0)
    for reducer in relation.reducers:
        batch = set_column(batch, reducer.name, pa.nulls(0, reducer.type.arrow))
    return batch
