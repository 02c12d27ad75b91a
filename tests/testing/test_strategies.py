"""The strategies make cases that the oracle can answer, and reach the corners they promise."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.plan import plan
from penstock.testing.conformance import Case, Matrix, OracleTempo, check
from penstock.testing.strategies import cases, chains

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
@given(st.one_of(cases(), chains()))
def test_definitions_are_legal(case: Case) -> None:
    assert not plan(case.definitions).not_built
