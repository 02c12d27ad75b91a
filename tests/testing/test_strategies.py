"""The strategies make cases that the oracle can answer, and reach the corners they promise."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.define.relation import Group
from penstock.define.stream import Stream
from penstock.plan import plan
from penstock.testing.conformance import Case, GroupQuery, Matrix, OracleTempo, check
from penstock.testing.oracle.windows import left_edge
from penstock.testing.strategies import cases, chains, views

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(cases())
def test_cases_can_be_answered(case: Case) -> None:
    assert check(case, OracleTempo(), Matrix()) == len(case.queries)


@QUICK
@given(chains())
def test_chains_can_be_answered(case: Case) -> None:
    assert check(case, OracleTempo(), Matrix()) == len(case.queries)


@QUICK
@given(views())
def test_views_can_be_answered(case: Case) -> None:
    assert check(case, OracleTempo(), Matrix()) == len(case.queries)


@QUICK
@given(st.one_of(cases(), chains(), views()))
def test_definitions_are_legal(case: Case) -> None:
    assert not plan(case.definitions).not_built


def corners_of(case: Case) -> set[str]:
    """What is special about the rows and queries of a case over one stream."""
    group, stream = case.definitions["g"], case.definitions["ev"]
    assert isinstance(group, Group) and isinstance(stream, Stream)
    rows = case.arrivals["ev"]
    former = {(row.partition, row.id): row for row in rows if row.id is not None}
    found = {f"base {row.t // 86_400_000_000}" for row in rows[:1]}
    found |= {"late" for row in rows if row.t < row.k} | {"ahead" for row in rows if row.t > row.k}
    found |= {"delete" for row in rows if row.op == "delete"} | {"null key" for row in rows if row.values["a"] is None}
    found |= {"tie" for row in rows for other in rows if row.t == other.t and row.place < other.place}
    found |= {"huge" for row in rows if row.values["x"] in (1e16, -1e16)}
    for row in rows:
        other = former.get((row.partition, row.id or ""))
        if row.op == "upsert" and other is not None:
            found |= {"corrected", "moved key"} if other.values["a"] != row.values["a"] else {"corrected"}
        if row.op == "delete" and any(o.id == row.id and o.k == row.k and o.partition != row.partition for o in rows):
            found.add("moved partition")
    for query in case.queries:
        assert isinstance(query, GroupQuery)
        found.add("positions" if not isinstance(query.a, int) else "served" if query.a == query.q else "apart")
        found |= {"own row"} if query.self_row is not None else set()
        for window in group.windows:
            left, right = left_edge(window, query.q), query.q - window.offset_us
            found |= {"at the left edge" for row in rows if row.t == left}
            found |= {"at the right edge" for row in rows if row.t == right}
            found |= {"known at a exactly" for row in rows if row.k == query.a}
            if window.kind == "time" and window.hop_us and window.width_us % window.hop_us:
                found.add("no multiple of its hop")
    return found


def test_the_corners_are_reached() -> None:
    reached: Counter[str] = Counter()

    @settings(max_examples=400, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def collect(case: Case) -> None:
        reached.update(corners_of(case))

    collect()
    wanted = {"late", "ahead", "delete", "null key", "tie", "huge", "corrected", "moved key", "moved partition"}
    wanted |= {"positions", "served", "apart", "own row", "at the left edge", "at the right edge"}
    wanted |= {"known at a exactly", "no multiple of its hop"}
    assert {corner: n for corner in wanted if (n := reached[corner]) < 5} == {}
    assert len([corner for corner in reached if corner.startswith("base")]) > 3
