"""Hypothesis strategies: definitions x rows x queries, leaning on the places where engines go wrong.

Late, duplicate, corrected, moved, tied, null, out of order, far future; exactly at edges; floats of 1e16 that leave;
keys such as (1, 11) and (11, 1); windows that are no multiple of their hop; days on which clocks change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from hypothesis import strategies as st

import penstock.define as ps
from penstock.define.aggregate import Agg
from penstock.define.project import Definitions
from penstock.define.relation import Group, Relation
from penstock.define.stream import Stream, Table
from penstock.define.window import Closed, Window
from penstock.testing.conformance import Case, GroupQuery, Query, RowsQuery, ViewQuery
from penstock.testing.oracle import Door, Knowledge, Reached, Row
from penstock.testing.oracle.rows import instant_us
from penstock.testing.oracle.windows import left_edge
from penstock.testing.spread import Spread

__all__ = ["SCHEMA", "aggregates", "arrivals", "cases", "chains", "group_queries", "keys_of",
           "model_cases", "own_views", "spans", "streams", "views", "windows"]  # fmt: skip

SCHEMA = {
    "a": "int?", "b": "int?", "s": "text?", "x": "float?", "i": "int?", "m": "decimal(12,2)?", "w": "text?",
    "flag": "bool?", "at": "instant",
}  # fmt: skip
CLOSED: tuple[Closed, ...] = ("left", "left", "left", "right", "both")
KEYS = (("a",), ("a", "b"), ("s",), ("s", "a"))
BASES = tuple(
    instant_us(datetime.fromisoformat(text))
    for text in (
        "2026-01-01T00:00:00+00:00",  # aligned with every hop
        "2026-03-08T06:58:20+00:00",  # New York goes from 02:00 to 03:00 at 07:00 UTC
        "2026-11-01T05:58:20+00:00",  # and back at 06:00 UTC
        "2026-06-30T15:58:20+00:00",  # the month ends in Shanghai at 16:00 UTC
        "2026-11-01T04:58:20+00:00",  # Havana's midnight comes twice: 04:00 and 05:00 UTC
    )
)
ZONES = ("America/New_York", "Asia/Shanghai", "America/Havana", "UTC")
SECOND = 1_000_000


AGGREGATES: tuple[Callable[[], Agg], ...] = (
    ps.count,
    lambda: ps.count("x"),
    lambda: ps.sum("x"),
    lambda: ps.sum("i"),
    lambda: ps.sum("m"),
    lambda: ps.sum("x * 2 + i"),
    lambda: ps.mean("x"),
    lambda: ps.mean("i"),
    lambda: ps.mean("m"),
    lambda: ps.share("x > 1"),
    lambda: ps.share("flag"),
    lambda: ps.min("x"),
    lambda: ps.min("at"),
    lambda: ps.max("flag"),
    lambda: ps.max("i"),
    lambda: ps.max("m"),
    lambda: ps.variance("x"),
    lambda: ps.std("i"),
    lambda: ps.std("x"),
    lambda: ps.first("w"),
    lambda: ps.first("x"),
    lambda: ps.last("i"),
    lambda: ps.last("m"),
    lambda: ps.last("w"),
    lambda: ps.last_n(2, "x"),
    lambda: ps.last_n(3, "w", "i"),
    lambda: ps.distinct("i"),
    lambda: ps.distinct("w", limit=2),
    lambda: ps.distinct("x"),
    lambda: ps.distinct("i", approx=True),
    lambda: ps.decayed_sum("x", "20s"),
    lambda: ps.decayed_sum("i", "3s"),
    lambda: ps.decayed_count("1min"),
    lambda: ps.ratio("x", "i"),
    lambda: ps.ratio("m", "m"),
    lambda: Spread.of("a"),
)
CONDITIONS = ("x > 0", "flag", "i % 2 = 1", "w <> '' or x is null", "m >= 1")
BUCKETS = ("w", "i % 3", "flag", "case when x > 1 then 'high' else 'low' end")

small_ints = st.integers(0, 3)
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "a": st.sampled_from((1, 1, 1, 11, 2, -1, None)),
    "b": st.sampled_from((1, 11, 11, 1, 0, None)),
    "s": st.sampled_from(("", "u", "u", "é", "1", None)),
    "x": st.sampled_from((0.0, -0.0, 0.1, 1.5, 3.0, -2.25, 1e16, -1e16, 1e-9, float("nan"), None)),
    "i": st.one_of(st.integers(-3, 9), st.sampled_from((2**62, 2**62 + 1, -(2**62), None))),
    "m": st.sampled_from((Decimal("0.01"), Decimal("0.10"), Decimal("-5.00"), Decimal("9999999999.99"), None)),
    "w": st.sampled_from(("", "a", "b", "é", "zz", "\U0001f600", None)),
    "flag": st.sampled_from((True, False, None)),
}


@st.composite
def aggregates(draw: st.DrawFn, most: int = 4) -> dict[str, Any]:
    """Some aggregates with modifiers, by name."""
    found = {}
    for number in range(draw(st.integers(1, most))):
        agg = draw(st.sampled_from(AGGREGATES))()
        if draw(st.integers(0, 2)) == 0:
            agg = agg.where(draw(st.sampled_from(CONDITIONS)))
        if draw(st.integers(0, 3)) == 0:
            agg = agg.per(draw(st.sampled_from(BUCKETS)))
        found[f"f{number}"] = agg
    return found


@st.composite
def windows(draw: st.DrawFn, ahead: bool = False) -> Window:
    """A window of any kind; most are in time.

    Args:
        ahead: some look ahead.
    """
    kind = draw(st.sampled_from(("time", "time", "time", "rows", "lifetime", "calendar")))
    closed: Closed = draw(st.sampled_from(CLOSED))
    offset = draw(st.sampled_from((None, None, None, "5s", "-3s" if ahead else "1s")))
    if kind == "time":
        width = draw(st.sampled_from(("1s", "7s", "10s", "25s", "100s", "7min", "1h", "1d")))
        hop = draw(st.sampled_from((None, "exact", "1s", "3s", "10s")))
        return ps.window(width, hop=hop, offset=offset, closed=closed)
    if kind == "rows":
        found = ps.rows(draw(st.integers(1, 4)))
    elif kind == "lifetime":
        found = ps.lifetime()
    else:
        make = draw(st.sampled_from((ps.today, ps.this_week, ps.this_month, ps.this_year)))
        found = make(draw(st.sampled_from(ZONES)))
    return found.with_defaults(None, offset, closed if closed != "left" else None)


@st.composite
def streams(draw: st.DrawFn, name: str = "ev") -> Stream:
    """A stream over SCHEMA, with ids and corrections or without, and a duplicate span that matters.

    One with a known time of its own (`known_at`) may know rows long before they happen.
    """
    corrected = draw(st.booleans())
    return ps.stream(
        name,
        time="at",
        known="known_at" if draw(st.integers(0, 3)) == 0 else None,
        id="id" if corrected or draw(st.booleans()) else None,
        op="op" if corrected else None,
        dedup=draw(st.sampled_from(("0s", "3s", "1d"))),
        corrected=draw(st.sampled_from((None, None, "3s"))),
        schema=SCHEMA | {"id": "text?", "op": "text?", "known_at": "instant"},
    )


@dataclass(frozen=True)
class Span:
    """Where in time a case lies: rows at `base_us` plus up to 40 steps."""

    base_us: int
    step_us: int


spans = st.builds(Span, st.sampled_from(BASES), st.sampled_from((SECOND // 2, SECOND, 5 * SECOND, 600 * SECOND)))


@st.composite
def arrivals(draw: st.DrawFn, stream: Stream, span: Span, most: int = 20) -> tuple[Row, ...]:
    """Rows as they come to the door of a stream, and what it accepts."""
    k = span.base_us
    door = Door(stream)
    for _ in range(draw(st.integers(0, most))):
        k += draw(st.sampled_from((0, 0, 1, 1, 2, 5))) * span.step_us + draw(st.sampled_from((0, 0, 0, 1)))
        late = draw(st.sampled_from((0, 0, 0, 1, 1, 2, 7, 20, -1, -100))) * span.step_us
        values = {name: draw(strategy) for name, strategy in VALUES.items()}
        id = draw(st.sampled_from((None, "e1", "e2", "e3", "e4", "e5"))) if stream.id else None
        op = draw(st.sampled_from(("insert", "insert", "upsert", "delete"))) if stream.op else "insert"
        t = k - late
        values |= {"at": t, "id": id, "op": op, "known_at": k}
        door.take([Row(t, k, values, id, op, 0, draw(st.sampled_from((0, 0, 1))))])
    return tuple(door.accepted)


def keys_of(group: Group, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """The keys that rows have, and one that none has."""
    columns = [column for entity in group.entities for column in entity.key_columns]
    found = {tuple(row.values.get(column) for column in columns): None for row in rows}
    return [*found, tuple("nobody" if column in ("s", "w") else 77 for column in columns)]


@st.composite
def instants(draw: st.DrawFn, group: Group, rows: Sequence[Row], span: Span) -> int:
    """An instant at or beside an edge of some window over some row."""
    if not rows or draw(st.integers(0, 4)) == 0:
        return span.base_us + draw(st.integers(-2, 60)) * span.step_us
    row = draw(st.sampled_from(rows))
    edges = [row.t, row.k]
    for window in group.windows:
        right = row.t + window.offset_us
        edges += [right, right + window.width_us]
        left = left_edge(window, right + window.width_us)
        if left is not None:
            edges += [right + window.width_us + (row.t - left)]
    return draw(st.sampled_from(edges)) + draw(st.sampled_from((0, 0, 1, -1, 2)))


@st.composite
def knowledge(draw: st.DrawFn, q: int, logs: Mapping[str, Sequence[Row]], span: Span) -> Knowledge:
    """`a`: mostly as served, else another instant, positions with the instant they reach or without, or no cut at all.

    Args:
        logs: rows of the streams whose positions may be the knowledge; none: instants only.
    """
    known = sorted(row.k for rows in logs.values() for row in rows)
    match draw(st.sampled_from(("served", "served", "served", "instant", "later", "positions", "occurred"))):
        case "served":
            return q
        case "instant" if known:
            return draw(st.sampled_from(known)) - draw(st.sampled_from((0, 0, 1)))
        case "occurred":
            return None
        case "positions" if known:
            return draw(positions(logs, known))
    return q + draw(st.integers(0, 60)) * span.step_us


@st.composite
def positions(draw: st.DrawFn, logs: Mapping[str, Sequence[Row]], known: Sequence[int]) -> Knowledge:
    """Positions of logs: those of an instant, as a job has them that has read all known by then; or any."""
    ends = {(name, row.partition): row.offset + 1 for name, rows in logs.items() for row in rows}
    if draw(st.integers(0, 2)) == 0:
        return {place: draw(st.integers(0, end)) for place, end in ends.items()}
    reached = draw(st.sampled_from(known)) - draw(st.sampled_from((0, 0, 1)))
    read = [(name, row) for name, rows in logs.items() for row in rows if row.k <= reached]
    places = dict.fromkeys(ends, 0) | {(name, row.partition): row.offset + 1 for name, row in read}
    return Reached(places, reached) if draw(st.booleans()) else places


@st.composite
def late_queries(draw: st.DrawFn, group: Group, logs: Mapping[str, Sequence[Row]]) -> list[Query]:
    """Queries of keys that there are, at positions, just after all that is known there: joined rows have been made."""
    known = sorted(row.k for rows in logs.values() for row in rows)
    queries: list[Query] = []
    for key in draw(st.lists(st.sampled_from((1, 11)), max_size=4)) if known else ():
        q = draw(st.sampled_from(known)) + 1
        queries.append(GroupQuery(group.name, (key,), q, draw(positions(logs, [k for k in known if k <= q]))))
    return queries


@st.composite
def group_queries(
    draw: st.DrawFn, group: Group, logs: Mapping[str, Sequence[Row]], span: Span, *, most: int = 6, places: bool = True
) -> list[Query]:
    """Queries of a group at instants that matter; some made from a row.

    Args:
        logs: rows of each stream; the first are the group's, for keys and edges.
        places: their positions may be what is known.
    """
    rows = next(iter(logs.values()))
    queries: list[Query] = []
    for _ in range(draw(st.integers(1, most))):
        key = draw(st.sampled_from(keys_of(group, rows)))
        q = draw(instants(group, rows, span))
        a = draw(knowledge(q, logs if places else {}, span))
        own = None
        if group.include_self and rows and draw(st.booleans()):
            own = draw(st.sampled_from(rows))
            columns = [column for entity in group.entities for column in entity.key_columns]
            key, q = tuple(own.values.get(column) for column in columns), own.t
        queries.append(GroupQuery(group.name, key, q, a, own))
    return queries


@st.composite
def cases(draw: st.DrawFn, rows: int = 20, queries: int = 6, late: Sequence[str] = ("1h",)) -> Case:
    """A group over one stream, plain, filtered or with computed columns, its rows, and queries at their edges.

    Args:
        late: delays of observations that groups declare.
    """
    span = draw(spans)
    stream = draw(streams())
    relation: Relation = stream
    match draw(st.sampled_from(("plain", "plain", "filtered", "computed"))):
        case "filtered":
            relation = stream.where(draw(st.sampled_from(CONDITIONS)))
        case "computed":
            relation = stream.with_columns(y="x + 1", z="y * 2")
    group = draw(groups("g", relation, ahead=stream.known is not None, late=late))
    found = draw(arrivals(stream, span, rows))
    asked = draw(group_queries(group, {stream.name: found}, span, most=queries))
    return Case(Definitions.of(group), {stream.name: found}, asked)


@st.composite
def groups(
    draw: st.DrawFn,
    name: str,
    relation: Relation,
    keys: Sequence[str] | None = None,
    *,
    ahead: bool = False,
    late: Sequence[str] = ("1h",),
) -> Group:
    """A group over a relation that has the columns of SCHEMA."""
    found = draw(st.lists(windows(ahead), max_size=3, unique_by=lambda window: window.name))
    include_self = draw(st.integers(0, 4)) == 0
    by = keys or draw(st.sampled_from(KEYS))
    grouping = relation.by(*by).over(*found, include_self=include_self)
    return grouping.features(name, observations_late=draw(st.sampled_from(late)), **draw(aggregates()))


@st.composite
def model_cases(draw: st.DrawFn, include_self: bool = False) -> Case:
    """A group that folds and forgets early: observations are late by a few seconds at most."""
    span = draw(spans)
    stream = replace(draw(streams()), corrected_us=draw(st.sampled_from((None, 0, 3 * SECOND))))
    relation: Relation = stream if draw(st.booleans()) else stream.where(draw(st.sampled_from(CONDITIONS)))
    group = draw(groups("g", relation, ahead=stream.known is not None))
    late = draw(st.sampled_from((0, SECOND, 20 * SECOND)))
    group = replace(group, observations_late_us=late, include_self=include_self)
    found = draw(arrivals(stream, span))
    asked = draw(group_queries(group, {stream.name: found}, span, places=False))
    return Case(Definitions.of(group), {stream.name: found}, asked)


@st.composite
def chains(draw: st.DrawFn, rows: int = 12, queries: int = 4, late: Sequence[str] = ("1h",)) -> Case:
    """Two streams and a table, joined, enriched, grouped and grouped again; `late` as of `cases`."""
    span = draw(spans)
    ev, out = draw(streams()), draw(streams("out"))
    found = {"ev": draw(arrivals(ev, span, rows)), "out": draw(arrivals(out, span, rows))}
    relation: Relation = ev
    shape = draw(
        st.sampled_from(("join", "match", "group", "asof", "table", "join then group", "join, deep, then group"))
    )
    if "deep" in shape:  # a table, a filter and a group before the join
        found["tab"] = draw(table_rows(span))
        relation = (relation >> a_table(None)["grade"]).where("grade is null or i < 5").with_columns(z="grade + i")
        relation = draw(groups("early", relation, ("a",), late=late))
    if shape.startswith(("join", "match")):
        within, grace = draw(st.sampled_from(("2s", "10s"))), draw(st.sampled_from(("0s", "1s")))
        relation = relation.join(
            out, on="a", within=within, grace=grace, name="j", emit="match" if shape == "match" else "final",
            hit=ps.any(), hits=ps.count(), top=ps.max("i"), newest=ps.last("w"),
        )  # fmt: skip
    elif shape == "asof":
        near = out.with_columns(near="x").asof("a", within=draw(st.sampled_from((None, "3s"))))
        relation = relation >> near["near"]
    elif shape == "table":
        table = a_table(draw(st.sampled_from((None, "5s"))))
        found["tab"] = draw(table_rows(span))
        relation = relation >> table["grade"]
    if shape.endswith("group"):
        by_a = draw(groups("first", relation, ("a",), late=late))
        relation = by_a if draw(st.booleans()) else relation >> by_a
    group = draw(groups("g", relation, ("a",), late=late))
    asked = draw(group_queries(group, found, span, most=queries))
    if shape.startswith(("join", "match")):
        asked += draw(late_queries(group, found))
        asked.append(RowsQuery("j", draw(instants(group, found["ev"], span))))
    return Case(Definitions.of(group), found, asked, shape)


@st.composite
def own_views(draw: st.DrawFn, rows: int = 10, queries: int = 4) -> Case:
    """A view of a group that includes the asking row, over rows that are joined, read, filtered and grouped before."""
    span = draw(spans)
    ev, out = draw(streams()), draw(streams("out"))
    found = {"ev": draw(arrivals(ev, span, rows)), "out": draw(arrivals(out, span, rows))}
    found["tab"] = draw(table_rows(span))
    relation: Relation = ev
    measures: dict[str, Any] = {"n": ps.count(), "x": ps.sum("x"), "w": ps.last_n(2, "w")}
    for step in draw(st.lists(st.sampled_from(tuple(OWN_STEPS)), min_size=1, max_size=3, unique=True)):
        relation, measures[step] = OWN_STEPS[step](relation, out), OWN_MEASURES[step]
    widths = draw(st.lists(windows(), min_size=1, max_size=2, unique_by=lambda window: window.name))
    group = relation.by("a").over(*widths, include_self=True).features("g", **measures)
    asked: list[Query] = []
    known = sorted(row.k for logged in found.values() for row in logged) or [span.base_us]
    for _ in range(draw(st.integers(1, queries))):
        q = draw(st.one_of(instants(group, found["ev"], span), st.sampled_from(known)))
        values = {name: draw(strategy) for name, strategy in VALUES.items()}
        id = draw(st.sampled_from((None, "e1", "e2", "e9"))) if ev.id else None
        payload = Row(q, q, {**values, "at": q, "known_at": q, "id": id, "op": "insert"}, id, "insert", 0, 0, 2**40)
        asked.append(ViewQuery("v", payload.values, q, draw(knowledge(q, found, span)), payload))
    return Case(Definitions.of(ps.view("v", ev["a"], group)), found, asked, "own view")


def _read_other(relation: Relation, out: Relation) -> Relation:
    other = relation.by("s").over("1h", include_self=True).features("other", n=ps.count(), w=ps.last("w"))
    return relation >> other


OWN_STEPS: Mapping[str, Callable[[Relation, Relation], Relation]] = {
    "join": lambda relation, out: relation.join(
        out, on="a", within="10s", grace="5s", name="joined", top=ps.max("i"), newest=ps.last("w")
    ),
    "match": lambda relation, out: relation.join(
        out, on="a", within="1min", name="matched", emit="match", hit=ps.any()
    ),
    "group": lambda relation, out: relation.by("a").over("100s", include_self=True).features("first", x=ps.sum("x")),
    "other": _read_other,
    "table": lambda relation, out: (relation >> a_table(None)["grade"]).where("grade is null or i < 5"),
}
OWN_MEASURES = {
    "join": ps.sum("top"), "match": ps.share("hit"), "group": ps.max("first.x_100s"), "other": ps.last("other.w_1h"),
    "table": ps.sum("grade"),
}  # fmt: skip


@st.composite
def views(draw: st.DrawFn, rows: int = 12, queries: int = 4) -> Case:
    """A view over groups, a table, an as-of read, two hops and expressions; of a stream's rows or of plain inputs."""
    span = draw(spans)
    ev, out = draw(streams()), draw(streams("out"))
    table = a_table(draw(st.sampled_from((None, "5s"))), draw(st.sampled_from(("left", "right"))))
    found = {
        "ev": draw(arrivals(ev, span, rows)),
        "out": draw(arrivals(out, span, rows)),
        "tab": draw(table_rows(span)),
    }
    by_a = draw(groups("g", draw(st.sampled_from((ev, out))), ("a",)))
    recent = ev.by("s").over("100s").features("recent", items=ps.last_n(3, "a", "w"), n=ps.count())
    tops = out.by("a").over("25s").features("tops", top=ps.max("x"), n=ps.count())
    near = tops["top_25s"].of(recent["items_100s"], first=draw(st.sampled_from((None, 1))),
                              agg=draw(st.sampled_from(HOPS))())  # fmt: skip
    outs = out.with_columns(seen="w", up="flag")  # a request that is a row of `ev` brings w and flag itself
    asof = outs.asof("a", within=draw(st.sampled_from((None, "3s"))))["seen", "up"]
    base = ev["a", "s"] if draw(st.booleans()) else ps.inputs(a="int?", s="text?")
    # reads by what earlier reads found
    further = (by_a.on("grade", name="of_grade"), recent["n_100s"].on("seen", name="of_seen"),
               tops["top_25s"].on("grade", name="top_of_grade"))  # fmt: skip
    far = tops["n_25s"].of(recent["items_100s"].on("seen"), agg=ps.sum())
    view = ps.view("v", base, table["grade"], by_a, recent["n_100s"], asof, *further, there=tops["n_25s"], near=near,
                   far=far, busy="recent.n_100s > 1 and coalesce(grade, 0) < 3",
                   size="there.n_25s * 2 + grade + of_seen.n_100s")  # fmt: skip
    asked: list[Query] = []
    for _ in range(draw(st.integers(1, queries))):
        q = draw(instants(by_a, found["ev"], span))
        values = {name: draw(strategy) for name, strategy in VALUES.items()}
        id = draw(st.sampled_from((None, "e1", "e9"))) if ev.id else None
        payload = Row(q, q, {**values, "at": q, "known_at": q, "id": id, "op": "insert"}, id, "insert", 0, 0, 2**40)
        own = payload if view.base is not None and hasattr(view.base, "relation") and draw(st.booleans()) else None
        a = draw(knowledge(q, found, span))
        asked.append(ViewQuery("v", payload.values if own else {"a": values["a"], "s": values["s"]}, q, a, own))
    return Case(Definitions.of(view), found, asked, "view")


HOPS = (ps.mean, ps.max, ps.sum, ps.count, ps.first)


def a_table(max_age: str | None, closed: Literal["left", "right"] = "left") -> Table:
    """A table of grades by `a`, with deletes."""
    schema = {"a": "int", "grade": "int?", "at": "instant", "op": "text?"}
    return ps.table("tab", key="a", time="at", op="op", max_age=max_age, closed=closed, schema=schema)


@st.composite
def table_rows(draw: st.DrawFn, span: Span, most: int = 10) -> tuple[Row, ...]:
    """Rows of a table by `a`, some older than what is known, some deletes."""
    k, rows = span.base_us, []
    for number in range(draw(st.integers(0, most))):
        k += draw(st.sampled_from((0, 1, 3))) * span.step_us
        t = k - draw(st.sampled_from((0, 0, 1, 5))) * span.step_us
        values = {"a": draw(st.sampled_from((1, 11, 2))), "grade": draw(st.sampled_from((1, 2, 3, None))), "at": t}
        op = draw(st.sampled_from(("insert", "upsert", "upsert", "delete")))
        rows.append(replace(Row(t, k, values | {"op": op}, op=op), offset=number))
    return tuple(rows)
