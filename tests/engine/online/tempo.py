"""The online engine under the conformance suite: rows go through a live job, instant by instant; Online is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from penstock.clock import ReplayClock
from penstock.engine.live.job import LiveJob, Options
from penstock.engine.online import Online
from penstock.engine.online.online import optional_inputs
from penstock.engine.online.prepared import PreparedGroup, PreparedView
from penstock.errors import EngineError
from penstock.plan import plan
from penstock.plan.ir import Plan, SourcePlan
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import Append, TopicConfig
from penstock.testing.conformance import Case, Found, FoundCell, GroupQuery, Query, RowsQuery, ViewQuery, is_present
from tests.engine.live.tempo import Crashing, run, to_batch


class OnlineTempo:
    """Feeds a job the rows known at each query's `a`, and asks then.

    Args:
        max_rows: of a micro-batch.
        crashes: after how many steps the job ends, each time anew; with any, it also begins anew before each query.
    """

    name = "online"

    def __init__(self, max_rows: int = 1000, crashes: Sequence[int] = ()) -> None:
        self.max_rows, self.crashes = max_rows, crashes

    def takes(self, case: Case, query: Query) -> bool:
        """The present, whatever instant that is; asking rows come as requests of views."""
        if isinstance(query, RowsQuery) or (isinstance(query, GroupQuery) and query.self_row is not None):
            return False
        if isinstance(query, ViewQuery) and query.self_row is None and counts_itself(case, query):
            return False  # such a request counts as a row
        return is_present(case, query)

    def answer(self, case: Case, queries: Sequence[Query]) -> Sequence[Found]:
        """In the order of the queries."""
        with tempfile.TemporaryDirectory() as folder:
            return self._answer(Path(folder), case, [q for q in queries if not isinstance(q, RowsQuery)])

    def _answer(self, folder: Path, case: Case, queries: Sequence[GroupQuery | ViewQuery]) -> Sequence[Found]:
        planned = plan(case.definitions)
        clock = ReplayClock(-(2**62))
        options = Options(max_rows=self.max_rows, memory_dir=folder, reserve_bytes=1 << 28)
        found: dict[int, Found] = {}
        with EmbeddedLog.open(folder / "log", clock=clock, durability="process") as log:
            topics(log, planned)
            crashing, state = Crashing(self.crashes), folder / "state"

            def begun(crash: Crashing) -> LiveJob:
                return LiveJob(planned, log, state, clock, options=options, on_step=crash)

            job = run(begun, crashing)
            online = Online(planned, state, clock)
            before = -(2**63)
            for a in sorted({int(query.a) for query in queries}):  # type: ignore[arg-type]
                feed(log, planned, case, before, a)
                if self.crashes:
                    job.close()
                    job = run(begun, crashing)
                else:
                    job.drain()
                before = a
                found |= {i: ask(online, query) for i, query in enumerate(queries) if query.a == a}
            online.close()
            job.close()
        return [found[i] for i in range(len(queries))]


def counts_itself(case: Case, query: ViewQuery) -> bool:
    """Whether a request of the view is a row that its groups include."""
    view = plan(case.definitions).views[query.view]
    return view.observation is not None and any(lookup.self_columns is not None for lookup in view.lookups)


def topics(log: EmbeddedLog, planned: Plan) -> None:
    """A topic for every source."""
    for source in planned.relations.values():
        if isinstance(source, SourcePlan):
            config = TopicConfig(clock="source", carried=True, max_ahead_us=2**62)
            log.create_topic(source.name, source.schema.arrow, config)


def feed(log: EmbeddedLog, planned: Plan, case: Case, after: int, until: int) -> None:
    """The rows known after one instant and not after another; the log promises that there are no more."""
    for name, source in planned.relations.items():
        if isinstance(source, SourcePlan):
            rows = [row for row in case.arrivals.get(name, ()) if after < row.k <= until]
            batch = to_batch(source, sorted(rows, key=lambda row: row.place))
            log.append_all([Append(str(source.name), batch, frontier_us=until)])


def ask(online: Online, query: GroupQuery | ViewQuery) -> Found:
    """One query as a user asks it."""
    request: dict[str, Any] = {}
    if isinstance(query, GroupQuery):
        answers = online.group(query.group, *query.key, q_us=query.q)
    else:
        view = online.plan.views[query.view]
        request = {n: query.inputs.get(n) for n in view.inputs.names}
        if query.self_row is not None and query.self_row.id is not None and "id" in optional_inputs(view):
            request["id"] = query.self_row.id
        answers = online.view(query.view, request, q_us=query.q)
    found: dict[str, Any] = {}
    for name, values in answers.columns.items():
        word = answers.words(name)[0].as_py() if name in answers.statuses else None
        found[name] = FoundCell(values[0].as_py(), word)
    for name, value in ask_prepared(online, query, request).items():
        assert value == found[name].value, name
    return found


def ask_prepared(online: Online, query: GroupQuery | ViewQuery, request: dict[str, Any]) -> dict[str, Any]:
    """The same of what is prepared: of a view all or nothing, of a group the features that can be."""
    clock, plans = ReplayClock(query.q), online.plan
    if isinstance(query, GroupQuery):
        plan = plans.groups[query.group]
        names = [o.name for o in plan.layout.outputs if not refused(partial(online.prepare, query.group, [o.name]))]
        group = PreparedGroup(online._present, plan, clock, names) if names else None
        return {} if group is None else dict(zip(group.names, group.get_one(*query.key), strict=True))
    if refused(partial(online.prepare_view, query.view)):
        return {}
    view = PreparedView(online._present, plans.views[query.view], clock)
    return dict(zip(view.names, view.get_one(request), strict=True))


def refused(prepare: Callable[[], object]) -> bool:
    """Whether something cannot be prepared."""
    try:
        prepare()
    except EngineError:
        return True
    return False


def at_present(case: Case) -> Case:
    """The same case, with queries moved to where online answers them."""
    return Case(case.definitions, case.arrivals, [_moved(case, q) for q in case.queries], case.title)


def _moved(case: Case, query: Query) -> Query:
    if isinstance(query, RowsQuery):
        return query
    if isinstance(query, GroupQuery):
        query = replace(query, self_row=None)
    known = sorted({row.k for rows in case.arrivals.values() for row in rows})
    if not known:
        return query
    a = query.a if isinstance(query.a, int) else known[-1]
    a = max(min(a, query.q), known[0])
    q = max(a, query.q)
    if query.self_row is not None:  # the request is made at q
        return replace(query, a=a, q=q, self_row=replace(query.self_row, t=q, k=q))
    return replace(query, a=a, q=q)
