"""Reads by key for a stream of readers: queries, or the rows of a relation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.engine.history.answers import Answer
from penstock.engine.history.arrange import KeyedRows
from penstock.engine.history.asof import answer_asof
from penstock.engine.history.frame import column, int64, replace_column, system
from penstock.engine.history.frontiers import Frontiers
from penstock.engine.history.groups import Asked, answer_group
from penstock.engine.history.joins import asking_rows
from penstock.engine.history.knowledge import EVERYTHING, Instants, Knowledge, Own, Vectors, log_name
from penstock.engine.history.relations import Readers, group_names, whole
from penstock.engine.history.run import Run
from penstock.engine.history.selves import UNKNOWN_US, Selves
from penstock.errors import EngineError
from penstock.names import fingerprint
from penstock.plan.asking import source_of
from penstock.plan.expr.types import Schema
from penstock.plan.ir import (
    AsOfPlan,
    ComputePlan,
    EnrichPlan,
    FilterPlan,
    GroupPlan,
    JoinPlan,
    LookupPlan,
    RelationPlan,
)
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, OFFSET, PARTITION

__all__ = [
    "NUMBER",
    "STATUS",
    "A",
    "OwnPosition",
    "Q",
    "Said",
    "Sight",
    "answer_lookup",
    "as_input",
    "bundles",
    "lookup_of_group",
    "read_columns",
    "read_lookup",
]

_SELF: Final = "_self"

Q: Final = "_q"
A: Final = "_a"
"""The knowledge of a query: an instant, or the index of its position vector."""
NUMBER: Final = "_number"
"""The query's place among all."""
STATUS: Final = "_status:"
"""Before the name of a column: its statuses."""


class Sight(Protocol):
    """What the readers are, and so how `q` and `a` are found in their tables.

    Attributes:
        log: the name of the log whose rows they are; None if they are no rows.
        direct: they stand as the input of the group that they ask has them.
    """

    @property
    def log(self) -> str | None:
        """See above."""
        ...

    @property
    def direct(self) -> bool:
        """See above."""
        ...

    def q(self, readers: pa.Table) -> NDArray[np.int64]:
        """The instants asked for."""
        ...

    def knowledge(self, readers: pa.Table) -> Knowledge:
        """What each may know."""
        ...

    def counts_in(self, group: GroupPlan) -> bool:
        """Whether the readers may be rows of a group's input."""
        ...

    def selves(self, readers: pa.Table) -> pa.Table:
        """The readers as rows of the log they come from."""
        ...


@dataclass(frozen=True)
class Said:
    """Queries that say `q` and `a`: instants, position vectors, or everything as it occurred.

    Attributes:
        at: the position vectors, and how far everything is known at each; None: `a` are instants.
        log: the stream whose rows the requests are, for groups that include the asking row; None: they are no rows.
        direct: they are rows of the group's input already, with all its columns.
        id: the column that holds the ids of their events, where the requests bring it.
    """

    at: Frontiers | None = None
    as_occurred: bool = False
    log: str | None = None
    direct: bool = False
    id: str | None = None

    def counts_in(self, group: GroupPlan) -> bool:
        """Where the group's rows come from their stream, through joins and groups too."""
        return source_of(group).name.name == self.log

    def selves(self, readers: pa.Table) -> pa.Table:
        """Requests as rows of their base stream: at `q`, known at `q`, unless they say otherwise."""
        for name in (EVENT_TIME, KNOWN_TIME):
            if name not in readers.column_names:
                readers = readers.append_column(name, readers.column(Q))
        if OFFSET not in readers.column_names:
            readers = readers.append_column(OFFSET, pa.array(np.full(readers.num_rows, UNKNOWN_US)))
        if ID not in readers.column_names and self.id in readers.column_names:
            readers = readers.append_column(ID, readers.column(self.id).cast(pa.string()))
        return readers

    def q(self, readers: pa.Table) -> NDArray[np.int64]:
        """The column `Q`."""
        return int64(readers.column(Q))

    def knowledge(self, readers: pa.Table) -> Knowledge:
        """The column `A`."""
        if self.as_occurred:
            return EVERYTHING
        if self.at is not None:
            return Vectors(int64(readers.column(A)), self.at.vectors, self.at)
        return Instants(int64(readers.column(A)))


@dataclass(frozen=True)
class OwnPosition:
    """Rows of a relation, asking at their own instant and position."""

    log: str
    direct: bool = False

    def counts_in(self, group: GroupPlan) -> bool:
        """Where the group's rows are of the same log."""
        return log_name(group.input) == self.log

    def selves(self, readers: pa.Table) -> pa.Table:
        """The rows themselves."""
        return readers

    def q(self, readers: pa.Table) -> NDArray[np.int64]:
        """Their event times."""
        return system(readers, EVENT_TIME)

    def knowledge(self, readers: pa.Table) -> Knowledge:
        """Their places."""
        return Own(self.log, system(readers, KNOWN_TIME), system(readers, PARTITION), system(readers, OFFSET))


def read_columns(source: AsOfPlan | GroupPlan, columns: Iterable[str]) -> frozenset[str]:
    """The columns of a read's relation that answering it takes."""
    if isinstance(source, AsOfPlan):
        return frozenset({*source.keys, *columns})
    slots = (slot.columns for slot in source.slots)
    return frozenset({*source.keys}).union(*slots)


def relation_of(source: AsOfPlan | GroupPlan) -> RelationPlan:
    """The relation that a read goes to."""
    return source.relation if isinstance(source, AsOfPlan) else source.input


def answer_lookup(run: Run, lookup: LookupPlan, keyed: KeyedRows, asked: Asked) -> Answer:
    """The lookup's columns under the reader's names, for queries and rows of one partition."""
    source = lookup.source
    threads = run.options.threads
    if isinstance(source, AsOfPlan):
        found = answer_asof(source, keyed, asked, list(dict.fromkeys(lookup.columns)), threads=threads)
    else:
        found = answer_group(source, keyed, asked, threads=threads)
    pairs = zip(lookup.columns, lookup.outputs.names, strict=True)
    columns, statuses = {}, {}
    for old, new in pairs:
        columns[new], statuses[new] = found.columns[old], found.statuses[old]
    return Answer(columns, statuses)


def bundles(lookups: Sequence[LookupPlan]) -> Iterator[tuple[LookupPlan, ...]]:
    """Lookups that go to the same rows by the same keys together, in the order of the first of each."""
    found: dict[tuple[object, ...], list[LookupPlan]] = {}
    for lookup in lookups:
        place = (id(relation_of(lookup.source)), lookup.source.keys, lookup.keys)
        found.setdefault(place, []).append(lookup)
    yield from map(tuple, found.values())


def read_lookup(
    run: Run,
    readers_: Readers,
    lookups: Sequence[LookupPlan],
    readers: Iterable[pa.Table],
    sight: Sight,
    *,
    statuses: bool = False,
    n_readers: int | None = None,
    tag: str = "",
) -> Iterator[pa.Table]:
    """The readers with the columns of a bundle of lookups, partition by partition.

    Args:
        statuses: also put out `_status:` columns.
        tag: tells apart reads by the same lookups for several sets of readers in one run.
    """
    source, keys = lookups[0].source, lookups[0].keys
    relation = relation_of(source)
    wanted = frozenset[str]().union(*(read_columns(lookup.source, lookup.columns) for lookup in lookups))
    name = source.name.name if isinstance(source, GroupPlan) else log_name(relation)
    short = f"{name}-{fingerprint([[x.fingerprint for x in lookups], keys, statuses])[:8]}{tag}"
    asking = run.exchange(readers, keys, f"ask-{short}", n_readers)
    if run.parts == 1:
        rows = pa.concat_tables(list(whole(run, readers_, relation, wanted)))
        parts: Iterable[tuple[pa.Table, pa.Table]] = ((asking.read(0), rows),)
    else:
        stage = f"rows-{name}-{fingerprint([relation.fingerprint, source.keys, sorted(wanted)])[:8]}"
        stored = run.exchange(whole(run, readers_, relation, wanted), source.keys, stage)
        parts = ((asking.read(part), stored.read(part)) for part in range(run.parts))
    begun = run.clock.now_us()
    for part, (reading, rows_) in enumerate(parts):
        if reading.num_rows or part == 0:
            make = partial(_answered, run, readers_, lookups, sight, reading=reading, rows=rows_, statuses=statuses)
            yield run.once(f"answer-{short}", part, make)
        run.tell(f"answer-{name}", (part + 1) / run.parts, part + 1, begun)


def _answered(
    run: Run,
    readers: Readers,
    lookups: Sequence[LookupPlan],
    sight: Sight,
    *,
    reading: pa.Table,
    rows: pa.Table,
    statuses: bool,
) -> pa.Table:
    keys = [column(reading, key) for key in lookups[0].keys]
    keyed = KeyedRows(rows, lookups[0].source.keys)
    q, knowledge = sight.q(reading), sight.knowledge(reading)
    answered = reading
    for lookup in lookups:
        selves = _selves(run, readers, lookup, reading, sight)
        answer = answer_lookup(run, lookup, keyed, Asked(keys, q, knowledge, selves))
        for name, values in answer.columns.items():
            answered = replace_column(answered, name, values)
            if statuses:
                answered = replace_column(answered, STATUS + name, pa.array(answer.statuses[name]))
    return answered


def _selves(run: Run, readers: Readers, lookup: LookupPlan, reading: pa.Table, sight: Sight) -> Selves | None:
    """The readers as rows of the input of a group that includes them; None for other reads."""
    source = lookup.source
    if not isinstance(source, GroupPlan) or not source.layout.include_self:
        return None
    if isinstance(sight, Said) and lookup.self_columns is None:
        return None
    if not sight.counts_in(source):
        return None
    rows = replace_column(sight.selves(reading), _SELF, pa.array(np.arange(reading.num_rows)))
    rows = rows.filter(pc.is_valid(rows.column(EVENT_TIME)))
    if not sight.direct:
        rows = as_input(run, readers, source.input, rows, sight)
    at = np.full(reading.num_rows, -1, np.int64)
    numbers = int64(rows.column(_SELF))
    at[numbers] = np.arange(len(numbers))
    return Selves(rows.drop_columns([_SELF]), at)


def as_input(run: Run, readers: Readers, relation: RelationPlan, rows: pa.Table, sight: Sight) -> pa.Table:
    """Rows of a log as a relation over it sees them: filtered, with its columns; read at their own instants.

    Raises:
        EngineError: the relation joins or reads by key, and the run spills.
    """
    match relation:
        case FilterPlan():
            rows = as_input(run, readers, relation.input, rows, sight)
            return rows.filter(pc.fill_null(relation.condition.evaluate(rows), False))
        case ComputePlan():
            rows = as_input(run, readers, relation.input, rows, sight)
            for name, expression in relation.columns:
                rows = replace_column(rows, name, expression.evaluate(rows))
            return rows
        case EnrichPlan() | GroupPlan():
            _refuse_spilled(run)
            rows = as_input(run, readers, relation.input, rows, sight)
            direct = isinstance(relation, GroupPlan)
            lookup = lookup_of_group(relation) if isinstance(relation, GroupPlan) else relation.lookup
            own = AtOwnTime(sight, log_name(relation.input), direct)
            return pa.concat_tables(read_lookup(run, readers, [lookup], [rows], own))
        case JoinPlan() if log_name(relation) != sight.log:
            _refuse_spilled(run)
            rows = as_input(run, readers, relation.observation, rows, sight)
            return asking_rows(run, readers, relation, rows, sight.knowledge(rows))
    return rows


def _refuse_spilled(run: Run) -> None:
    if run.spills:
        raise EngineError(
            "an asking row is followed through joins and reads by key in memory only",
            found=f"a run that spills, in {run.parts} partitions",
            remedy="give the run more memory, or no work folder",
        )


@dataclass(frozen=True)
class AtOwnTime:
    """Asking rows that read at their own instant, knowing what their query knows, and count there as rows of `log`."""

    sight: Sight
    log: str
    direct: bool

    def q(self, readers: pa.Table) -> NDArray[np.int64]:
        """Their event times."""
        return system(readers, EVENT_TIME)

    def knowledge(self, readers: pa.Table) -> Knowledge:
        """That of their queries."""
        return self.sight.knowledge(readers)

    def counts_in(self, group: GroupPlan) -> bool:
        """Where the group's rows are of the same log."""
        return log_name(group.input) == self.log

    def selves(self, readers: pa.Table) -> pa.Table:
        """The rows themselves."""
        return readers


def lookup_of_group(plan: GroupPlan) -> LookupPlan:
    """A group's own columns, read by its own input's rows."""
    names = group_names(plan)
    columns = tuple(replace(plan.outputs[name], name=names[name]) for name in plan.outputs.names)
    return LookupPlan(
        source=plan,
        keys=plan.keys,
        columns=plan.outputs.names,
        outputs=Schema(columns),
        self_columns=(),
        parts={},
        lineage={},
        fingerprint=plan.fingerprint,
    )
