from __future__ import annotations

import json
from typing import Any

import pytest

import penstock as ps
from penstock.define import Definitions
from penstock.define.stream import Stream
from penstock.errors import PlanError
from penstock.plan import Plan, plan
from penstock.plan.against import compare, render_changes
from penstock.plan.describe import document, render


def saved(made: Plan) -> dict[str, Any]:
    """The document as it is read back from a file."""
    found: dict[str, Any] = json.loads(json.dumps(document(made)))
    return found


def test_a_document_is_json_and_says_what_each_definition_puts_out_and_needs(example: Plan) -> None:
    found = saved(example)
    assert set(found["definitions"]) == {*example.relations, *example.views}
    for name, view in example.views.items():
        described = found["definitions"][name]
        assert [c["name"] for c in described["columns"]] == list(view.outputs)
        assert list(described["needs"]) == list(view.inputs)
        assert set(described["inputs"]) <= set(found["definitions"])


def test_the_text_names_columns_windows_and_what_is_assumed(flights: Plan) -> None:
    text = render(flights)
    assert "by_origin   group of departures by origin   definitions.py:" in text
    assert "1h (steps of 1min), 3h (steps of 5min)" in text
    assert "mean_1h float?" in text
    assert "late15        sample sets come with the closed loop, which is not built yet" in text
    assert "departures: no known time is declared" in text


def test_windows_of_every_kind_have_words(pay: Stream) -> None:
    windows = [ps.today("Asia/Shanghai"), ps.rows(5), ps.lifetime(), ps.window("7d", offset="3d", closed="both")]
    made = plan(Definitions.of(pay.by("card_id").over(*windows).features("g", n=ps.count())))
    assert document(made)["definitions"]["g"]["windows"] == [
        "this day (Asia/Shanghai)",
        "last 5 rows",
        "lifetime",
        "7d (steps of 6h, ending 3d before, closed both)",
    ]


def project(pay: Stream, condition: str = "ok", window: str = "1h", extra: str = "x") -> Plan:
    group = pay.by("card_id").over(window).features("g", n=ps.count().where(condition))
    chained = group.by("shop_id").over("1d").features("chained", top=ps.max(f"g.n_{window}"))
    alone = pay.where("amount > 5").by("shop_id").over("1d").features("alone", n=ps.count())
    view = ps.view("v", pay["card_id"], group)
    more = ps.view(extra, pay["card_id"])
    return plan(Definitions.of(chained, alone, view, more))


def test_a_plan_against_itself_is_unchanged(pay: Stream) -> None:
    assert {c.state for c in compare(saved(project(pay)), project(pay))} == {"unchanged"}


def test_a_change_is_followed_to_what_rests_on_it(pay: Stream) -> None:
    changes = {c.name: c for c in compare(saved(project(pay)), project(pay, condition="not ok"))}
    assert changes["g"].state == "rebuild"
    assert changes["g"].reasons == ("aggregates.n.where: 'ok' -> 'NOT ok'",)
    assert changes["chained"].reasons == ("rests on g, which changed",)
    assert changes["v"].reasons == ("rests on g, which changed",)
    assert {name for name, c in changes.items() if c.state == "unchanged"} == {"pay", "alone", "x"}


def test_new_renamed_and_removed_definitions_are_told(pay: Stream) -> None:
    changes = compare(saved(project(pay)), project(pay, extra="y"))
    found = {c.name: (c.state, c.reasons) for c in changes}
    assert found["x"] == ("removed", ())
    assert found["y"] == ("new", ("x under another name: the same answers",))
    text = render_changes(changes)
    assert "pay      stream  unchanged" in text and "x        view    removed" in text


def test_a_former_plan_of_another_form_is_refused(pay: Stream) -> None:
    for former in ({}, {"format": 2, "definitions": {}}, {"format": 1, "definitions": {"a": {}}}):
        with pytest.raises(PlanError, match="a former plan is a document"):
            compare(former, project(pay))
