"""Real data beside the repository; absent only where the folder was not handed out with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture
def real() -> Callable[[str], Path]:
    """The path of a file or folder of the real data."""

    def path(name: str) -> Path:
        if not DATA.is_dir():
            pytest.skip(f"the real data are not at {DATA}")
        return DATA / name

    return path


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT
