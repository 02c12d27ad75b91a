"""Point in time over history: features of any keys at any instants, knowing what was known then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.clock import Clock, WallClock
from penstock.engine.history.explain import Explanation, explain
from penstock.engine.history.frame import column, full, instants_us, int64, replace_column
from penstock.engine.history.frontiers import Frontiers
from penstock.engine.history.lookups import NUMBER, A, Q, Said, lookup_of_group, read_columns, read_lookup
from penstock.engine.history.readers import KeyedReads
from penstock.engine.history.relations import rows_of
from penstock.engine.history.results import Result
from penstock.engine.history.run import Options, Progress, Run, partitions_for
from penstock.engine.history.sources import ArrowRows, ParquetRows, Resolver, Rows, resolver_of
from penstock.engine.history.views import answer_view
from penstock.errors import DataError, EngineError, nearest
from penstock.names import fingerprint
from penstock.plan.asking import source_of, sources_of
from penstock.plan.ir import AsOfPlan, GroupPlan, Plan, RelationPlan, SourcePlan, ViewPlan
from penstock.store.log.interface import Position

__all__ = ["History", "Places"]

Places = Mapping[tuple[str, int], int]
"""Positions: {(stream, partition): offset of the first row that is not known}."""
Queries: TypeAlias = pa.Table | pa.RecordBatch | Rows | str | Path


class History:
    """Answers over all rows of a project's sources.

    Args:
        plan: the checked project.
        rows: the rows of each source by its plain name (Arrow tables, Parquet paths, or anything that is `Rows`), or
            a function that resolves a source's plan.
        memory_bytes: about how much memory one run may take; beyond it rows are split by key and spilled. None holds
            everything in memory.
        work: a folder for one run, in which it goes on after it was killed.
        threads: cores that sweep.
        progress: told how far a run is.

    Answers are the same whatever these say. `Result.table` gives them in the order of the queries; `Result.batches` and
    files by partition, where there are several (over a million rows, or spilled).
    """

    def __init__(
        self,
        plan: Plan,
        rows: Mapping[str, Rows | pa.Table | str | Path] | Resolver,
        *,
        clock: Clock | None = None,
        memory_bytes: int | None = None,
        work: Path | None = None,
        threads: int = 1,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.plan = plan
        self.clock = clock or WallClock()
        self._resolver = rows if callable(rows) else resolver_of(rows)
        self._options = Options(memory_bytes, work, threads, progress)

    def group(
        self,
        group: str | GroupPlan,
        queries: Queries,
        *,
        q: str = "q",
        a: str | Sequence[Places | Sequence[Position]] | None = None,
        known: str | None = None,
        as_occurred: bool = False,
    ) -> Result:
        """The features of a group for a table of queries.

        Args:
            queries: columns with the key under the reader's or the stream's names, and `q`; more columns come back
                unchanged. A file is read as a stream. For a group that includes the asking row they may also have
                the columns that it reads, and system columns that say which row it is (at `q` and new, if none).
            q: the column of instants, timestamps or int64 microseconds.
            a: the column of instants that cuts knowledge; or one position vector per query; `q` by default.
            known: with position vectors, the column of instants at or before which everything known was read: joined
                rows made by then count. By default as far as the positions show.
            as_occurred: no cut by knowledge, for exploration only.

        Raises:
            EngineError: there is no such group.
            DataError: a column is missing, or null where it may not be.
        """
        plan = group if isinstance(group, GroupPlan) else self._group(group)
        lookup = lookup_of_group(plan)
        asked = _Requests(queries, q, a, known, as_occurred=as_occurred)
        keys = _key_columns(plan, asked.names)
        outputs = {name: name for name in plan.outputs.names}
        names = dict(zip(lookup.outputs.names, outputs, strict=True))
        asking = read_columns(plan, ()) - set(plan.keys) <= set(asked.names)
        base = source_of(plan) if asking else None

        def answer(run: Run, statuses: bool) -> Iterator[pa.Table]:
            reading = replace(lookup, keys=keys)
            sight = asked.sight(run, base, direct=True)
            found = read_lookup(
                run, KeyedReads(), [reading], asked.tables(), sight, statuses=statuses, n_readers=asked.rows()
            )
            yield from found

        return self._result(plan.fingerprint, [plan], asked, answer, names)

    def view(
        self,
        view: str | ViewPlan,
        queries: Queries,
        *,
        q: str = "q",
        a: str | Sequence[Places | Sequence[Position]] | None = None,
        known: str | None = None,
        as_occurred: bool = False,
    ) -> Result:
        """The columns of a view for a table of requests: its inputs and `q`. Arguments as in `group`."""
        plan = view if isinstance(view, ViewPlan) else self._view(view)
        asked = _Requests(queries, q, a, known, as_occurred=as_occurred)
        asked.require(plan.inputs.names, f"view {plan.name.name}")
        base = None if plan.observation is None else source_of(plan.observation)
        reads = [*plan.lookups, *(x for hop in plan.two_hops for x in (hop.value, hop.keys))]

        def answer(run: Run, statuses: bool) -> Iterator[pa.Table]:
            yield from answer_view(
                run,
                KeyedReads(),
                plan,
                asked.tables(),
                asked.sight(run, base),
                statuses=statuses,
                n_requests=asked.rows(),
            )

        return self._result(
            plan.fingerprint, [r.source for r in reads], asked, answer, {n: n for n in plan.outputs.names}
        )

    def relation(
        self, relation: str | RelationPlan, *, a_us: int | None = None, where: Mapping[str, Any] | None = None
    ) -> pa.Table:
        """The rows of a relation as versions, in the order of rows, with all system columns.

        Args:
            a_us: only the rows that count at this instant; None: all versions, with `_known_until`.
            where: only rows whose columns equal these values; others are dropped as they are read.
        """
        plan = self._relation(relation) if isinstance(relation, str) else relation
        run = self._run([plan], 0)
        try:
            wanted = frozenset(plan.schema.names)
            tables = [_where(full(t), where or {}) for t in rows_of(run, KeyedReads(), plan, wanted)]
            table = pa.concat_tables(tables, promote_options="permissive")
        finally:
            run.close()
        if a_us is not None:
            known, until = int64(table.column("_known_time")), int64(table.column("_known_until"))
            table = table.filter(pa.array((known <= a_us) & (until > a_us)))
        keys = [int64(table.column(n)) for n in ("_offset", "_partition", "_ordinal", "_known_time", "_event_time")]
        names = [n for n in table.column_names if n.startswith("_")] + list(plan.schema.names)
        return table.take(pa.array(np.lexsort(keys))).select(names)

    def all_keys(self, group: str | GroupPlan, q_us: int, *, a_us: int | None = None) -> Result:
        """The features of every key that has a row known at `a` (by default `q`), at one instant."""
        plan = group if isinstance(group, GroupPlan) else self._group(group)
        run = self._run([plan.input], 0)
        try:
            known = q_us if a_us is None else a_us
            tables = []
            for table in rows_of(run, KeyedReads(), plan.input, frozenset(plan.keys)):
                seen = table.filter(pa.array(int64(table.column("_known_time")) <= known))
                tables.append(seen.select(list(plan.keys)).group_by(list(plan.keys)).aggregate([]))
        finally:
            run.close()
        keys = pa.concat_tables(tables).group_by(list(plan.keys)).aggregate([]).drop_null()
        keys = keys.sort_by([(name, "ascending") for name in plan.keys])
        keys = keys.append_column("q", pa.repeat(pa.scalar(q_us, pa.int64()), keys.num_rows))
        keys = keys.append_column("a", pa.repeat(pa.scalar(known, pa.int64()), keys.num_rows))
        return self.group(plan, keys, a="a")

    def explain(
        self, column: str, key: Mapping[str, Any], q_us: int, *, a_us: int | None = None, limit: int = 1_000
    ) -> Explanation:
        """The rows behind one value of a group, and those that did not count, each with its reason.

        Args:
            column: `group.column`.
            key: by the names of the group's keys.
            limit: how many rows that did not count are listed, the newest.

        Raises:
            EngineError: there is no such group or column.
        """
        name, _, output = column.rpartition(".")
        plan, known = self._group(name), q_us if a_us is None else a_us
        run = self._run([plan], 0)
        try:
            rows, left_out, (left_us, right_us) = explain(
                run, KeyedReads(), plan, output, key, q=q_us, a=known, limit=limit
            )
        finally:
            run.close()
        values = {n: key.get(called, key.get(n)) for n, called in zip(plan.keys, plan.key_names, strict=True)}
        kinds = dict(zip(plan.keys, plan.key_types, strict=True))
        asked: dict[str, Any] = {n: pa.array([value], kinds[n].arrow) for n, value in values.items()}
        asked |= {"_asked_at": pa.array([q_us]), "_known_at": pa.array([known])}
        answer = self.group(plan, pa.table(asked), q="_asked_at", a="_known_at").table(statuses=True)
        found = answer.to_pylist()[0]
        return Explanation(found[output], found[f"{output}:status"], left_us, right_us, rows, left_out)

    def _result(
        self,
        identity: str,
        reads: Sequence[RelationPlan | AsOfPlan],
        asked: _Requests,
        answer: Callable[[Run, bool], Iterator[pa.Table]],
        names: Mapping[str, str],
    ) -> Result:
        sources = sorted({s.name.name: s for read in reads for s in sources_of(read)}.items())
        whole = fingerprint([identity, asked.identity(), [[n, self._resolver(s).identity()] for n, s in sources]])
        return Result(lambda: self._run(reads, asked.rows() or 0), answer, names, asked.kept, whole)

    def _run(self, reads: Sequence[RelationPlan | AsOfPlan], n_queries: int) -> Run:
        estimate, n_rows = 0, 0
        for read in reads:
            for source in sources_of(read):
                rows = self._rows_of(source)
                estimate, n_rows = max(estimate, rows * 8 * 7), max(n_rows, rows)
        parts, spills = partitions_for(estimate + 64 * n_queries, n_rows, self._options)
        return Run(self._resolver, self._options, parts, spills, n_rows, self.clock)

    def _rows_of(self, source: SourcePlan) -> int:
        """How many rows a source has; counted, one batch in memory at a time, where only that tells."""
        rows = self._resolver(source)
        known = rows.rows()
        if known is not None or self._options.memory_bytes is None:
            return known or 0
        return sum(batch.num_rows for batch in rows.batches(source.schema.names[:1]))

    def _group(self, name: str) -> GroupPlan:
        found = self.plan.groups.get(name)
        if found is None:
            raise EngineError("no group has this name", found=repr(name), remedy=nearest(name, self.plan.groups))
        return found

    def _view(self, name: str) -> ViewPlan:
        found = self.plan.views.get(name)
        if found is None:
            raise EngineError("no view has this name", found=repr(name), remedy=nearest(name, self.plan.views))
        return found

    def _relation(self, name: str) -> RelationPlan:
        found = self.plan.relations.get(name)
        if found is None:
            raise EngineError("no relation has this name", found=repr(name), remedy=nearest(name, self.plan.relations))
        return found


def _where(table: pa.Table, values: Mapping[str, Any]) -> pa.Table:
    for name, value in values.items():
        kind = table.schema.field(name).type
        try:
            scalar = pa.scalar(value, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise EngineError(f"{name} is {kind}", found=repr(value), remedy="give a value of that type") from error
        equal = pc.equal(table.column(name), scalar)
        table = table.filter(pc.fill_null(equal, False))
    return table


def _key_columns(plan: GroupPlan, names: Sequence[str]) -> tuple[str, ...]:
    """The queries' columns that hold the key: called as a reader calls them, or as the stream does."""
    for candidate in (plan.key_names, plan.keys):
        if set(candidate) <= set(names):
            return candidate
    raise DataError(
        f"queries of {plan.name.name} have the key columns {', '.join(plan.key_names)}",
        found=f"columns {list(names)}",
        remedy="rename the columns of the queries",
    )


class _Requests:
    """Queries as tables with `Q`, `A` and `NUMBER`, read anew at each call."""

    def __init__(
        self,
        queries: Queries,
        q: str,
        a: str | Sequence[Places | Sequence[Position]] | None,
        known: str | None,
        *,
        as_occurred: bool,
    ) -> None:
        if isinstance(queries, str | Path):
            queries = ParquetRows(queries)
        self.source: Rows = ArrowRows(queries) if isinstance(queries, pa.Table | pa.RecordBatch) else queries
        self.q, self.as_occurred = q, as_occurred
        self.a = a if isinstance(a, str) else None
        self.vectors = None if a is None or isinstance(a, str) else [_places(v) for v in a]
        schema = next(iter(self.source.batches(_Anything())), None)
        self.names: list[str] = [] if schema is None else list(schema.schema.names)
        n_rows = self.source.rows()
        if self.vectors is not None and n_rows is not None and n_rows != len(self.vectors):
            raise DataError(
                "there is one position vector per query",
                found=f"{len(self.vectors)} for {n_rows} queries",
                remedy="give as many as there are rows",
            )
        self.kept = [n for n in self.names if not n.startswith("_")]
        self.known = None if self.vectors is None else known
        self.require([q, *(name for name in (self.a, self.known) if name)], "queries")

    def require(self, names: Sequence[str], what: str) -> None:
        """Refuses queries that lack a column."""
        missing = [name for name in names if name not in self.names]
        if missing and self.names:
            raise DataError(
                f"{what} need the column {missing[0]}",
                found=f"columns {self.names}",
                remedy=nearest(missing[0], self.names),
            )

    def sight(self, run: Run, base: SourcePlan | None, *, direct: bool = False) -> Said:
        """How `q` and `a` stand in the tables.

        Args:
            base: the stream whose rows the queries are, if they are rows.
        """
        at = None if self.vectors is None else Frontiers(run, self.vectors, self._known_us())
        if base is None:
            return Said(at, self.as_occurred)
        return Said(at, self.as_occurred, base.name.name, direct, base.id)

    def _known_us(self) -> NDArray[np.int64] | None:
        if self.known is None:
            return None
        batches = self.source.batches((self.known,))
        return np.concatenate([int64(instants_us(batch.column(self.known))) for batch in batches])

    def rows(self) -> int | None:
        """How many queries, if known."""
        return self.source.rows()

    def identity(self) -> str:
        """Of the queries and what they may know."""
        vectors = [sorted([*k, v] for k, v in places.items()) for places in self.vectors or ()]
        return fingerprint([self.source.identity(), self.q, self.a, self.known, self.as_occurred, vectors])

    def tables(self) -> Iterator[pa.Table]:
        """The queries, numbered."""
        first = 0
        for batch in self.source.batches(_Anything()):
            table = pa.Table.from_batches([batch])
            n = table.num_rows
            instants = instants_us(column(table, self.q))
            if instants.null_count:
                raise DataError(
                    "every query has an instant", found=f"null in {self.q}", remedy="leave such queries out"
                )
            table = replace_column(table, Q, instants)
            number = np.arange(first, first + n, dtype=np.int64)
            known = pa.array(number) if self.vectors is not None else instants
            if self.a is not None:
                known = instants_us(column(table, self.a))
            table = replace_column(replace_column(table, A, known), NUMBER, pa.array(number))
            first += n
            yield table


class _Anything(Sequence[str]):
    """All columns."""

    def __contains__(self, name: object) -> bool:
        return True

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: Any) -> Any:
        raise IndexError(index)


def _places(vector: Places | Sequence[Position]) -> Places:
    if isinstance(vector, Mapping):
        return vector
    return {
        (position.topic.rpartition("/")[2].partition("@")[0], partition): offset
        for position in vector
        for partition, offset in enumerate(position.offsets)
    }
