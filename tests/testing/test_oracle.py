"""The oracle on a group of one stream, by hand."""

from __future__ import annotations

import penstock.define as ps
from penstock.define.project import Definitions
from penstock.testing.conformance import Case, GroupQuery, OracleTempo, check
from penstock.testing.oracle import Door, Row


def test_oracle_as_a_tempo_agrees_with_itself_and_knows_a_correction_from_its_known_time_on() -> None:
    stream = ps.stream("pay", time="at", id="id", op="op", schema={"user": "int", "amount": "float?"})
    group = stream.by("user").over("1h").features("by_user", n=ps.count(), total=ps.sum("amount"))
    rows = Door(stream).take(
        [
            Row(1_000, 1_000, {"user": 1, "amount": 1.0}, id="a"),
            Row(2_000, 2_000, {"user": 1, "amount": 3.0}, id="b"),
            Row(2_000, 2_100, {"user": 1, "amount": 4.0}, id="b", op="upsert"),
        ]
    )
    queries = [GroupQuery("by_user", (1,), 3_000, a) for a in (999, 2_000, 2_100)]
    case = Case(Definitions.of(group), {"pay": rows.accepted}, queries)
    assert check(case, OracleTempo()) == 3
    found = [case.oracle.group(group, (1,), 3_000, query.a)["total_1h"].value for query in queries]
    assert found == [None, 4.0, 5.0]
