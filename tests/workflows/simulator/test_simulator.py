"""Ten thousand worlds hold; and each of the planted bugs is found within a thousand."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from penstock.testing.simulator import BrokenError, simulate
from tests.workflows.simulator.planted import PLANTED, Plant

SEEDS, CHUNK = 10_000, 250


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The scheduler logs each failure that a world makes."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_what_must_hold_holds_in_every_world(first: int) -> None:
    for seed in range(first, first + CHUNK):
        simulate(seed)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found_within_a_thousand_worlds(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(1_000):
        try:
            simulate(seed)
        except BrokenError as broken:
            assert f"--seed {seed} --trace" in broken.__notes__[-1]
            return
    pytest.fail("it was not found")


def test_a_seed_decides_everything() -> None:
    worlds = [simulate(6, trace=100_000) for _ in range(2)]
    traces = [[repr(item) for item in world.trace] for world in worlds]
    assert traces[0] == traces[1]
    assert len(traces[0]) > 300
