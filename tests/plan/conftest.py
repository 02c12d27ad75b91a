from __future__ import annotations

from pathlib import Path

import pytest

import penstock as ps
from penstock.define import load
from penstock.define.stream import Stream
from penstock.plan import Plan, plan

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session", params=["flights", "feed", "chain"])
def example(request: pytest.FixtureRequest) -> Plan:
    """Each example project, planned."""
    return plan(load(EXAMPLES / request.param))


@pytest.fixture(scope="session")
def flights() -> Plan:
    return plan(load(EXAMPLES / "flights"))


@pytest.fixture(scope="session")
def feed() -> Plan:
    return plan(load(EXAMPLES / "feed"))


@pytest.fixture(scope="session")
def chain() -> Plan:
    return plan(load(EXAMPLES / "chain"))


@pytest.fixture
def pay() -> Stream:
    """Payments by card."""
    return ps.stream(
        "pay",
        time="at",
        id="pay_id",
        schema={
            "pay_id": "text",
            "at": "instant",
            "card_id": "int",
            "shop_id": "text?",
            "amount": "decimal(12,2)",
            "rating": "float?",
            "points": "int?",
            "ok": "bool?",
        },
    )
