from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra.history import sweep
from penstock.algebra.layout import Layout, Measure, Op, Output, Slot, SlotKind, Window, WindowKind
from penstock.algebra.monoids import Status
from penstock.algebra.table import Queries, Rows
from penstock.define import Aggregate
from penstock.errors import EngineError
from tests.algebra.naive import NEVER, Query, Row, close, expected, plain, queries_of, table_of

SLOTS = (
    Slot("x", SlotKind.INT, "int"),
    Slot("y", SlotKind.FLOAT, "float"),
    Slot("d", SlotKind.DECIMAL, "decimal(38,0)"),
    Slot("b", SlotKind.BOOL, "bool"),
    Slot("c", SlotKind.CODE, "text"),
)


class Span(Aggregate):
    """Greatest less least."""

    def lift(self, x: int) -> list[int]:
        return [x, x]

    def merge(self, p: list[int], q: list[int]) -> list[int]:
        return [min(p[0], q[0]), max(p[1], q[1])]

    def finalize(self, s: list[int]) -> int:
        return s[1] - s[0]


def _fast() -> list[tuple[Measure, str]]:
    made = [
        (Measure(Op.COUNT), "int"),
        (Measure(Op.COUNT, where=3), "int"),
        (Measure(Op.DECAYED_COUNT, half_life_us=7), "float"),
    ]
    for slot, kind in ((0, "int"), (1, "float"), (2, "decimal(38,0)")):
        for where in (None, 3):
            ops = (Op.COUNT, Op.SUM, Op.MEAN, Op.MIN, Op.MAX, Op.VARIANCE, Op.STD, Op.FIRST, Op.LAST)
            made += [(Measure(op, slot, where=where), kind) for op in ops]
            made.append((Measure(Op.DECAYED_SUM, slot, where=where, half_life_us=20), "float"))
    made += [(Measure(op, 4), "text") for op in (Op.FIRST, Op.LAST, Op.COUNT)]
    made += [
        (Measure(Op.SHARE, 3), "float"),
        (Measure(Op.RATIO, 0, 2), "float"),
        (Measure(Op.RATIO, 2, 0, where=3), "float"),
    ]
    return [*made, (Measure(Op.SUM, 0), "decimal(38,0)"), (Measure(Op.MIN, 3), "bool"), (Measure(Op.LAST, 3), "bool")]


def _slow() -> list[tuple[Measure, str]]:
    made = [
        (Measure(Op.LAST_N, 0, n=3), "list<int>"),
        (Measure(Op.LAST_N, 1, n=2, where=3), "list<float>"),
        (Measure(Op.LAST_N, 0, slots=(2, 4), n=2, where=3), "list<struct>"),
        (Measure(Op.CUSTOM, 0, custom="Span"), "int"),
        (Measure(Op.MIN, 4), "text"),
    ]
    made += [(Measure(Op.DISTINCT, slot, limit=4), "int") for slot in (0, 1, 2, 4)]
    ops = (Op.COUNT, Op.SUM, Op.MEAN, Op.MIN, Op.MAX, Op.STD, Op.FIRST, Op.LAST)
    made += [(Measure(op, slot, per=4), "map") for op in ops for slot in (0, 1)]
    made += [
        (Measure(Op.SUM, 2, per=0), "map"),
        (Measure(Op.SHARE, 3, per=4), "map"),
        (Measure(Op.COUNT, per=3), "map"),
    ]
    return [*made, (Measure(Op.DECAYED_SUM, 1, per=4, half_life_us=9), "map"), (Measure(Op.RATIO, 0, 1, per=4), "map")]


def windows() -> st.SearchStrategy[Window]:
    offsets = st.sampled_from([0, 0, 0, 5, -3])
    closed = st.sampled_from(["left", "left", "right", "both"])
    timed = st.builds(
        lambda width, hop, offset, side: Window("w", WindowKind.TIME, width, hop, offset, side),
        st.integers(1, 300),
        st.sampled_from([0, 0, 7, 50]),
        offsets,
        closed,
    )
    life = st.builds(lambda offset, side: Window("w", WindowKind.LIFETIME, 0, 0, offset, side), offsets, closed)
    newest = st.builds(
        lambda n, offset, side: Window("w", WindowKind.ROWS, 0, 0, offset, side, n=n),
        st.integers(1, 40),
        offsets,
        closed,
    )
    day = st.builds(
        lambda zone: Window("w", WindowKind.CALENDAR, unit="day", zone=zone), st.sampled_from(["UTC", "Asia/Shanghai"])
    )
    return st.one_of(timed, timed, life, newest, day)


def values() -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(
        st.none() | st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.sampled_from([0.0, 0.1, 1e16, -1e16, 42.5]) | st.floats(-1e9, 1e9).map(lambda x: x + 0.0),
        st.none() | st.integers(-5, 5) | st.integers(-(10**38) + 1, 10**38 - 1),
        st.none() | st.booleans(),
        st.none() | st.integers(0, 5),
    )


@st.composite
def cases(draw: st.DrawFn, most: int) -> tuple[list[Window], list[Row], list[Query]]:
    t = st.integers(-200, 200)
    superseded = draw(st.booleans())
    rows: list[Row] = []
    for key in range(draw(st.integers(1, 3))):
        n = draw(st.integers(0, most))
        pool = draw(st.lists(values(), min_size=1, max_size=6))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        times = np.sort(rng.integers(-200, 200, n))
        for at in times.tolist():
            kf = at + int(rng.choice([0, 0, 0, 0, 3, 40, -10]))
            kt = kf + int(rng.integers(1, 60)) if superseded and rng.random() < 0.3 else NEVER
            rows.append(Row(key, at, kf, kt, pool[rng.integers(len(pool))]))
    rows.sort(key=lambda row: (row.key, row.t, row.kf))
    queries: list[Query] = []
    for _ in range(draw(st.integers(1, 12))):
        key, q = draw(st.integers(-1, 3)), draw(t)
        a = q if draw(st.booleans()) else draw(t)
        with_self = draw(st.booleans())
        own = draw(st.integers(0, len(rows) - 1)) if rows and with_self else -1
        queries.append(Query(key, q, a, own if own >= 0 and rows[own].key == key else -1))
    return draw(st.lists(windows(), min_size=1, max_size=5)), rows, queries


def layout_of(chosen: list[tuple[Measure, str]], found: list[Window]) -> Layout:
    pairs = [(i, j) for i in range(len(chosen)) for j in range(len(found))]
    outputs = tuple(Output(f"o{i}_{j}", i, j, chosen[i][1]) for i, j in pairs)
    return Layout(SLOTS, tuple(m for m, _ in chosen), tuple(found), outputs, include_self=True)


def check(layout: Layout, rows: list[Row], queries: list[Query], threads: int = 1) -> None:
    columns = sweep(layout, table_of(layout, rows), queries_of(queries), threads=threads, custom={"Span": Span})
    for k, output in enumerate(layout.outputs):
        column = columns[output.name]
        for i, query in enumerate(queries):
            value, status, scale = expected(layout, rows, query, k, {"Span": Span})
            found = plain(layout, k, column, i)
            measure = layout.measures[output.measure]
            if measure.op is Op.RATIO and (measure.per is not None or scale > 1e6 * abs(value or 0)):
                continue  # the denominator nearly cancels: the bound says nothing
            what = (measure, layout.windows[output.window], query, found, Status(column.status[i]), value, status)
            assert close(found, value, scale), what
            assert column.status[i] == status, what


@given(cases(most=60), st.integers(0, 1000))
def test_merged_fields_equal_the_reference(case: tuple[list[Window], list[Row], list[Query]], pick: int) -> None:
    found, rows, queries = case
    measures = _fast()
    chosen = [measures[(pick + 7 * i) % len(measures)] for i in range(9)]
    check(layout_of(chosen, found), rows, queries)


@given(cases(most=40), st.integers(0, 1000))
def test_measures_of_visible_rows_equal_the_reference(
    case: tuple[list[Window], list[Row], list[Query]], pick: int
) -> None:
    found, rows, queries = case
    measures = _slow()
    chosen = [measures[(pick + 5 * i) % len(measures)] for i in range(5)]
    check(layout_of(chosen, found), rows, queries)


def test_long_series_equal_the_reference() -> None:
    rng = np.random.default_rng(5)
    rows: list[Row] = []
    for at in np.sort(rng.integers(0, 5_000, 3_000)).tolist():
        kf = at + (int(rng.integers(0, 90)) if rng.random() < 0.05 else 0)
        kt = kf + int(rng.integers(1, 500)) if rng.random() < 0.2 else NEVER
        null = rng.random() < 0.1
        rows.append(
            Row(
                0,
                at,
                kf,
                kt,
                (int(rng.integers(-9, 9)), None if null else float(rng.normal()), 5, bool(at % 3), at % 7),
            )
        )
    rows.sort(key=lambda row: (row.t, row.kf))
    queries = [
        Query(0, int(q), int(q) - int(rng.choice([0, 0, 100])), int(rng.integers(-1, 3_000)))
        for q in rng.integers(0, 5_200, 25)
    ]
    found = [Window("w", WindowKind.TIME, width) for width in (3, 40, 700, 4_000)]
    found += [
        Window("w", WindowKind.LIFETIME),
        Window("w", WindowKind.ROWS, n=300),
        Window("w", WindowKind.TIME, 500, 60, 100),
    ]
    measures = [
        (Measure(Op.COUNT), "int"),
        (Measure(Op.SUM, 1), "float"),
        (Measure(Op.STD, 1, where=3), "float"),
        (Measure(Op.LAST, 1), "float"),
        (Measure(Op.DECAYED_SUM, 1, half_life_us=100), "float"),
        (Measure(Op.SUM, 0), "int"),
    ]
    check(layout_of(measures, found), rows, queries, threads=2)


def test_a_great_value_that_left_leaves_no_trace() -> None:
    layout = Layout(
        (SLOTS[1],),
        (Measure(Op.STD, 0), Measure(Op.SUM, 0)),
        (Window("w", WindowKind.TIME, 50),),
        (Output("std", 0, 0, "float"), Output("sum", 1, 0, "float")),
    )
    x = np.array([1e16] + [1.0, 2.0] * 100)
    rows = Rows(np.zeros(201, np.int64), np.arange(201), np.arange(201), [x], [None])
    at = np.array([150, 201])
    columns = sweep(layout, rows, Queries(np.zeros(2, np.int64), at, at))
    assert columns["std"].values == pytest.approx([np.std(x[100:150], ddof=1), np.std(x[151:201], ddof=1)], rel=1e-12)
    assert columns["sum"].values.tolist() == [75.0, 75.0]


def test_what_cancels_inside_a_window_is_exact() -> None:
    layout = Layout(
        (SLOTS[1],), (Measure(Op.SUM, 0),), (Window("w", WindowKind.LIFETIME),), (Output("sum", 0, 0, "float"),)
    )
    rows = Rows(np.zeros(3, np.int64), np.arange(3), np.arange(3), [np.array([1e16, 1.0, -1e16])], [None])
    asked = Queries(np.zeros(1, np.int64), np.array([9]), np.array([9]))
    assert sweep(layout, rows, asked)["sum"].values.tolist() == [1.0]


def test_progress_reaches_one() -> None:
    layout = Layout((), (Measure(Op.COUNT),), (Window("w", WindowKind.LIFETIME),), (Output("n", 0, 0, "int"),))
    key = np.repeat(np.arange(100), 10)
    t = np.tile(np.arange(10), 100)
    seen: list[float] = []
    columns = sweep(layout, Rows(key, t, t, [], []), Queries(key, t, t), progress=seen.append, threads=2)
    assert seen[-1] == 1.0 and seen == sorted(seen)
    assert columns["n"].values.tolist() == t.tolist()


@pytest.mark.parametrize("spread", [30, 10**12])
def test_different_values_slide_under_corrections(spread: int) -> None:
    rng = np.random.default_rng(spread)
    n, m = 4_000, 500
    t = np.sort(rng.integers(0, 20_000, n))
    kf = t + np.where(rng.random(n) < 0.1, rng.integers(0, 900, n), 0)
    kt = np.where(rng.random(n) < 0.4, kf + rng.integers(1, 3_000, n), NEVER)
    x = rng.integers(0, 40, n) * (spread // 30)
    q = rng.integers(0, 21_000, m)
    a = np.where(rng.random(m) < 0.8, q, q + rng.integers(-500, 500, m))
    own = np.where(rng.random(m) < 0.5, rng.integers(0, n, m), -1)
    widths = (50, 2_000, 30_000)
    layout = Layout(
        (SLOTS[0],),
        (Measure(Op.DISTINCT, 0), Measure(Op.COUNT)),
        tuple(Window(f"w{w}", WindowKind.TIME, w) for w in widths),
        tuple(Output(f"{name}{j}", i, j, "int") for i, name in enumerate(("different", "rows")) for j in range(3)),
        include_self=True,
    )
    key = np.zeros(n, np.int64)
    columns = sweep(layout, Rows(key, t, kf, [x], [None], kt), Queries(key[:m], q, a, own))
    for j, width in enumerate(widths):
        for i in range(m):
            seen = (t >= q[i] - width) & (t < q[i]) & (kf <= a[i]) & (a[i] < kt)
            if own[i] >= 0:
                seen[own[i]] = True
            assert columns[f"rows{j}"].values[i] == seen.sum()
            assert columns[f"different{j}"].values[i] == np.unique(x[seen]).size


def test_rows_that_do_not_fit_are_refused() -> None:
    layout = Layout((), (Measure(Op.COUNT),), (Window("w", WindowKind.LIFETIME),), (Output("n", 0, 0, "int"),))
    key = np.array([1, 0])
    with pytest.raises(EngineError, match="unsorted rows"):
        sweep(layout, Rows(key, key, key, [], []), Queries(key, key, key))
    with pytest.raises(EngineError, match=r"lengths \[1, 2\]"):
        sweep(layout, Rows(key[:1], key[:1], key, [], []), Queries(key, key, key))
