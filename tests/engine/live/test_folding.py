"""Rows fold as early as they may: the answers are the oracle's, and what is held does not grow with the rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.engine.live import flow
from penstock.testing.conformance import Case, Matrix, check
from penstock.testing.strategies import model_cases, views
from tests.engine.live.tempo import LiveTempo
from tests.engine.live.test_conformance import rows_only
from tests.engine.online.tempo import OnlineTempo, at_present

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@contextmanager
def folding_at_once() -> Iterator[None]:
    """No read of a former batch is waited for, and every key is looked at after every batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "READABLE_BATCHES", 0)
        patch.setattr(flow, "_SHARDS_A_BATCH", 1024)
        patch.setattr(flow, "ASOF_LATE_US", 0)
        yield


@given(model_cases(), st.integers(1, 6))
@settings(suppress_health_check=SLOW)
def test_rows_put_out_are_the_oracles(case: Case, max_rows: int) -> None:
    with folding_at_once():
        check(rows_only(case, "g"), LiveTempo(max_rows=max_rows))


@given(model_cases(), st.integers(1, 6))
@settings(suppress_health_check=SLOW)
def test_reads_of_groups_are_the_oracles(case: Case, max_rows: int) -> None:
    with folding_at_once():
        check(at_present(case), OnlineTempo(max_rows), Matrix())


@given(views(), st.integers(1, 6))
@settings(suppress_health_check=SLOW)
def test_reads_of_views_are_the_oracles(case: Case, max_rows: int) -> None:
    with folding_at_once():
        check(at_present(case), OnlineTempo(max_rows), Matrix())


@given(model_cases(), st.lists(st.integers(1, 12), max_size=6), st.integers(1, 6))
@settings(max_examples=30, suppress_health_check=SLOW)
def test_crashes_change_nothing_of_what_was_folded(case: Case, crashes: list[int], max_rows: int) -> None:
    with folding_at_once():
        check(rows_only(case, "g"), LiveTempo(crashes, max_rows))
