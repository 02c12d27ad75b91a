from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from penstock.clock import ReplayClock

if TYPE_CHECKING:
    from penstock.store.log import Log

pytest_plugins = ("penstock.testing.pytest_matrix",)

# A shared machine stalls now and then, so no example is judged by its time. The default run is the same every time, so
# that a red run is the change's doing; HYPOTHESIS_PROFILE=thorough looks for new cases; what it finds becomes a case.
settings.register_profile(
    "default", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def clock() -> ReplayClock:
    """A clock that stands at 1,000 us until it is moved."""
    return ReplayClock(1_000)


@pytest.fixture
def log(tmp_path: Path, clock: ReplayClock) -> Iterator[Log]:
    """An empty log on `clock`."""
    from penstock.store.log import Log  # only the tests that ask for a log load the stores

    with Log.open(tmp_path / "log", clock=clock) as opened:
        yield opened
