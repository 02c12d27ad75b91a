from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.testing.conformance import END_US, Case, RowsQuery, check, check_grid
from penstock.testing.strategies import cases, chains
from tests.engine.live.tempo import LiveTempo

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def rows_only(case: Case, *names: str) -> Case:
    """Asks for rows, those included that come later than a group's `observations_late`."""
    return Case(case.definitions, case.arrivals, [RowsQuery(name, END_US) for name in names], case.title)


def test_the_grid_is_the_oracle() -> None:
    assert check_grid(LiveTempo(max_rows=1_000)) == 10


@given(cases(), st.integers(1, 20))
@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
def test_a_group_puts_out_what_each_row_could_know(case: Case, max_rows: int) -> None:
    check(rows_only(case, "g"), LiveTempo(max_rows=max_rows))


@given(chains(), st.integers(1, 20))
@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
def test_chains_put_out_what_each_row_could_know(case: Case, max_rows: int) -> None:
    names = ["g", "j"] if case.title.startswith(("join", "match")) else ["g"]
    check(rows_only(case, *names), LiveTempo(max_rows=max_rows))


@given(chains(), st.lists(st.integers(1, 12), max_size=6), st.integers(1, 8))
@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
def test_crashes_change_nothing(case: Case, crashes: list[int], max_rows: int) -> None:
    check(rows_only(case, "g"), LiveTempo(crashes, max_rows))
