from __future__ import annotations

import math
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra.layout import Layout, Measure, Op, Slot, SlotKind
from penstock.algebra.monoids import Element, Monoid, Status, aggregate, monoid_of
from penstock.define import Aggregate

LAYOUT = Layout(
    (
        Slot("x", SlotKind.INT, "int"),
        Slot("y", SlotKind.FLOAT, "float"),
        Slot("d", SlotKind.DECIMAL, "decimal(12,2)", scale=2),
        Slot("b", SlotKind.BOOL, "bool"),
        Slot("c", SlotKind.CODE, "text"),
    ),
    (),
    (),
    (),
)


class Counts(Aggregate):
    def lift(self, x: int) -> dict[str, int]:
        return {str(x): 1}

    def merge(self, p: dict[str, int], q: dict[str, int]) -> dict[str, int]:
        return {k: p.get(k, 0) + q.get(k, 0) for k in p | q}

    def finalize(self, s: dict[str, int]) -> int:
        return max(s.values())


MEASURES = [
    *(Measure(op) for op in (Op.COUNT,)),
    *(
        Measure(op, slot)
        for op in (Op.COUNT, Op.SUM, Op.MEAN, Op.MIN, Op.MAX, Op.VARIANCE, Op.STD)
        for slot in (0, 1, 2)
    ),
    *(Measure(op, slot, where=3) for op in (Op.FIRST, Op.LAST) for slot in (0, 4)),
    Measure(Op.SHARE, 3),
    Measure(Op.RATIO, 0, 2),
    Measure(Op.LAST_N, 0, n=3),
    Measure(Op.LAST_N, 0, slots=(4, 1), n=2),
    Measure(Op.DISTINCT, 4, limit=3),
    Measure(Op.DECAYED_COUNT, half_life_us=9),
    Measure(Op.DECAYED_SUM, 1, half_life_us=30),
    Measure(Op.CUSTOM, 0, custom="Counts"),
    Measure(Op.SUM, 1, per=4),
    Measure(Op.SHARE, 3, per=0),
]


@st.composite
def elements(draw: st.DrawFn) -> list[Element]:
    times = sorted(draw(st.lists(st.integers(-50, 50), max_size=9)))
    value = st.tuples(
        st.none() | st.integers(-4, 4), st.none() | st.integers(-100, 100).map(lambda x: x / 8),
        st.none() | st.integers(-999, 999), st.none() | st.booleans(), st.none() | st.integers(0, 4),
    )  # fmt: skip
    return [Element(i, t, draw(value)) for i, t in enumerate(times)]


def same(p: Any, q: Any) -> bool:
    if isinstance(p, dict) and isinstance(q, dict):
        return p.keys() == q.keys() and all(same(p[k], q[k]) for k in p)
    if isinstance(p, float) and isinstance(q, float):
        return math.isclose(p, q, rel_tol=1e-9, abs_tol=1e-9)
    return bool(p == q)


def made(measure: Measure) -> Monoid:
    return monoid_of(LAYOUT, measure, custom={"Counts": Counts})


@pytest.mark.parametrize("measure", MEASURES, ids=str)
@given(rows=elements(), cut=st.integers(0, 9), order=st.randoms(use_true_random=False))
def test_any_split_and_any_order_give_the_whole(measure: Measure, rows: list[Element], cut: int, order: Any) -> None:
    monoid = made(measure)
    whole = aggregate(monoid, rows, 60)
    states = [monoid.lift(row) for row in rows]
    left, right = reduce(monoid.merge, states[:cut], None), reduce(monoid.merge, states[cut:], None)
    for parts in ((left, right), (right, left), (None, left, None, right)):
        value, status = monoid.finalize(reduce(monoid.merge, parts), 60)
        assert status == whole[1] and same(value, whole[0])
    order.shuffle(states)
    value, status = monoid.finalize(reduce(monoid.merge, states, None), 60)
    assert status == whole[1] and same(value, whole[0])


def test_statuses_of_nothing_one_and_too_much() -> None:
    row = Element(0, 0, (2**63 - 1, 1.0, 5, True, 1))
    assert aggregate(made(Measure(Op.COUNT)), [], 0) == (0, Status.ZERO)
    assert aggregate(made(Measure(Op.SUM, 0)), [], 0) == (None, Status.EMPTY)
    assert aggregate(made(Measure(Op.SUM, 0)), [row, row], 0) == (None, Status.OVERFLOW)
    assert aggregate(made(Measure(Op.VARIANCE, 1)), [row], 0) == (None, Status.UNDEFINED)
    many = [Element(i, i, (i, None, None, None, i)) for i in range(5)]
    assert aggregate(made(Measure(Op.DISTINCT, 0, limit=4)), many, 0) == (None, Status.LIMIT)
    assert [status.word for status in Status] == ["ok", "empty", "overflow", "limit", "ok", "empty"]
