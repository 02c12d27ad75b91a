from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra.sorting import gather, order_groups, sort_rows
from penstock.errors import EngineError


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 3), st.integers(0, 2)), max_size=80),
    st.booleans(),
)
def test_rows_come_out_in_order_and_equal_ones_stay(rows: list[tuple[int, int, int, int]], nearly: bool) -> None:
    rows = sorted(rows, key=lambda row: row[1] // 3) if nearly else rows
    key, t, kf, rest = (np.array([row[i] for row in rows], np.int64) for i in range(4))
    found = sort_rows(key, t, kf, rest, n_keys=5)
    wanted = sorted(range(len(rows)), key=lambda i: rows[i])
    assert found.order.tolist() == wanted
    assert found.t.tolist() == t[wanted].tolist()
    assert found.start.tolist() == np.searchsorted(key[wanted], np.arange(6)).tolist()
    by_time = sort_rows(key, t)
    assert by_time.order.tolist() == sorted(range(len(rows)), key=lambda i: rows[i][:2])


def test_codes_out_of_range_are_refused() -> None:
    with pytest.raises(EngineError, match="codes -1 to 3"):
        sort_rows(np.array([3, -1]), np.zeros(2, np.int64))


def test_a_long_key_in_reverse() -> None:
    t = np.arange(10_000)[::-1].copy()
    assert sort_rows(np.zeros(10_000, np.int64), t).order.tolist() == list(range(9_999, -1, -1))


@pytest.mark.parametrize(
    "values",
    [np.arange(5), np.arange(5, dtype=np.uint8), np.arange(10, dtype=np.uint64).reshape(5, 2), np.arange(5.0)],
)
def test_gather(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    order = np.array([4, 0, 0, 2])
    assert gather(values, order).tolist() == values[order].tolist()


@given(st.lists(st.lists(st.integers(0, 9) | st.integers(-(2**63), 2**63 - 1), max_size=30), max_size=6))
def test_groups_are_ordered_by_rank(groups: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, groups)])
    rank = np.array([x for group in groups for x in group], np.int64)
    order = order_groups(offsets, rank)
    for first, group in zip(offsets.tolist(), groups, strict=False):
        assert (order[first : first + len(group)] - first).tolist() == sorted(range(len(group)), key=group.__getitem__)
