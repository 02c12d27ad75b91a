from __future__ import annotations

from typing import Any

import pytest

from penstock.components.registry import Found, discover
from penstock.testing.components import ComponentSuite

FOUND = discover().found


@pytest.fixture(params=sorted(FOUND))
def found(request: Any) -> Found:
    return FOUND[request.param]


class TestComponents(ComponentSuite):
    """Every component that is installed."""
