from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from penstock.testing.conformance import MATRIX, Case, Matrix, check, grid
from penstock.testing.strategies import cases, chains, own_views, views
from tests.engine.live.tempo import built
from tests.engine.online.tempo import OnlineTempo, at_present

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def test_the_grid_is_the_oracle() -> None:
    MATRIX.require("online")
    MATRIX.require("online")
    assert sum(check(at_present(case), OnlineTempo(), MATRIX) for case in grid()) > 100


@given(cases(), st.integers(1, 20))
@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
def test_random_groups_are_the_oracle(case: Case, max_rows: int) -> None:
    check(at_present(case), OnlineTempo(max_rows))


@given(chains())
@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
def test_random_chains_are_the_oracle(case: Case) -> None:
    assume(built(case))
    check(at_present(case), OnlineTempo(), Matrix())


@given(views())
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
def test_random_views_are_the_oracle(case: Case) -> None:
    check(at_present(case), OnlineTempo(), Matrix())


@given(own_views())
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
def test_asking_rows_on_their_way_to_a_group_are_the_oracle(case: Case) -> None:
    check(at_present(case), OnlineTempo(), Matrix())


@given(st.one_of(cases(), chains(), views()), st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(1, 8))
@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
def test_restarts_and_crashes_change_no_answer(case: Case, crashes: list[int], max_rows: int) -> None:
    check(at_present(case), OnlineTempo(max_rows, crashes), Matrix())
