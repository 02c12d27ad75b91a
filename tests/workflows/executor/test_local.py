from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.testing.executors import ExecutorSuite, Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("place") / "project") as opened:
        yield opened


class TestLocal(ExecutorSuite):
    """Warm, forked tasks keep the contract of executors."""
