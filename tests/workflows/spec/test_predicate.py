from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import WorkflowError
from penstock.workflows.spec.predicate import FactRef, Predicate, Scope, parse

H, MIN = 3_600_000_000, 60_000_000
SCOPE = Scope(now_us=100 * H, start_us=98 * H, end_us=99 * H, parameters={"share": 0.5, "city": "Oslo"})


def lookup(**facts: Any) -> Any:
    return lambda kind, subject: facts.get(f"{kind}_{subject}")


@pytest.mark.parametrize(
    ("text", "facts", "answer"),
    [
        ("watermark(s) >= end + 1h", {"watermark_s": 100 * H}, True),
        ("watermark(s) >= end + 1h", {"watermark_s": 100 * H - 1}, False),
        ("watermark(s) >= end + 1h", {}, None),
        ("not watermark(s) >= end", {}, None),
        ("watermark(s) >= interval.end + 10min and quality(s) == 'pass'", {"watermark_s": 100 * H}, None),
        ("watermark(s) >= end and quality(s) == 'pass'", {"watermark_s": 0}, False),
        ("watermark(s) >= end or quality(s) == 'pass'", {"quality_s": "pass"}, True),
        ("watermark(a) >= now - 5min", {"watermark_a": 100 * H - 5 * MIN}, True),
        ("watermark(a) - watermark(b) <= 5min", {"watermark_a": 6 * MIN, "watermark_b": 0}, False),
        ("mature(s) >= 0.98", {"mature_s": 0.99}, True),
        ("mature(s) >= param.share", {"mature_s": 0.4}, False),
        ("rows(s) > 10 and not (model(m) == '7')", {"rows_s": 11, "model_m": "8"}, True),
        ("rows(s) > param.city", {"rows_s": 11}, None),
        ("snapshot(items) == 3", {"snapshot_items": 3}, True),
        ("lag(s) < 10s", {"lag_s": 9_000_000}, True),
        ("signal(go)", {"signal_go": True}, True),
        ("approved(boss)", {"approved_boss": False}, False),
        ("done(d)", {"interval_d": [(0, 98 * H), (98 * H, 99 * H)]}, True),
        ("done(d)", {"interval_d": [(0, 98 * H), (98 * H + 1, 99 * H)]}, False),
        ("done(d, start - 24h, end)", {"interval_d": [(98 * H, 99 * H), (74 * H, 98 * H + 5)]}, True),
        ("done(d)", {}, None),
        ("end - start == 1h", {}, True),
        ("true == true", {}, True),
    ],
)
def test_truth_is_as_the_language_says(text: str, facts: dict[str, Any], answer: bool | None) -> None:
    assert parse(text).evaluate(lookup(**facts), SCOPE) is answer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing"),
        ("watermark(s)", None),
        ("watermark(s) >= 5", "not compared"),
        ("watermark(s) >= end + 5", "unit"),
        ("watermark(s) + end >= now", "an instant \\+ an instant"),
        ("quality(s) >= 'pass'", "no order"),
        ("quality(s) == 3", "not compared"),
        ("watremark(s) >= end", "watermark"),
        ("watermark(s >= end", "'\\)' is missing"),
        ("watermark() >= end", "needs a name"),
        ("mature >= 0.5", "no value"),
        ("rows(s) and rows(t) > 1", "no condition"),
        ("rows(s) > 1 rows(t) > 1", "should end here"),
        ("now", "is a condition"),
        ("(rows(s) > 1) > 2", "not compared"),
        ("done(d, 1h, end)", "two instants"),
        ("rows(s) > 1; import os", "means nothing here"),
        ("not " * 60 + "signal(go)", "nested"),
        ("__import__('os')", "no kind of fact"),
    ],
)
def test_what_does_not_parse_or_type_is_refused_with_its_place(text: str, words: str | None) -> None:
    if words is None:
        assert parse(text).bare == FactRef("watermark", "s")
        return
    with pytest.raises(WorkflowError, match=words) as error:
        parse(text)
    assert "column" in str(error.value) and "->" in str(error.value)


def test_a_node_of_the_workflow_is_stored_by_its_full_name() -> None:
    found = parse("watermark(samples) >= end and done(other.fit)", workflow="late", nodes={"samples"})
    assert found.reads == (FactRef("watermark", "late.samples"), FactRef("interval", "other.fit"))


def test_thresholds_are_pushed_down_where_only_one_growing_fact_decides() -> None:
    found = parse("watermark(s) >= end + 1h and mature(s) >= 0.98 and end < frontier(f) and offset(o) + 5 > 7")
    assert found.thresholds(SCOPE) == (
        ("watermark", "s", 100 * H),
        ("frontier", "f", 99 * H + 1),
        ("offset", "o", 3),
    )
    assert found.watched(SCOPE) == (FactRef("mature", "s"),)
    assert parse("watermark(a) >= now - 5min").thresholds(SCOPE) == ()
    assert parse("watermark(a) >= watermark(b)").watched(SCOPE) == (
        FactRef("watermark", "a"),
        FactRef("watermark", "b"),
    )


def test_unmet_says_what_is_there_and_what_is_needed() -> None:
    found = parse("watermark(s) >= end + 1h and quality(s) == 'pass' and rows(s) > 3")
    unmet = found.unmet(lookup(watermark_s=99 * H, rows_s=4), SCOPE)
    assert [(u.text, u.fact, u.present, u.required) for u in unmet] == [
        ("watermark(s) >= end + 1h", FactRef("watermark", "s"), 99 * H, 100 * H),
        ('quality(s) == "pass"', FactRef("quality", "s"), None, "pass"),
    ]


TERMS = st.sampled_from(["watermark(a)", "watermark(b) + 3us", "end", "now - 2us", "now", "start + 4us", "frontier(a)"])
SHAPES = st.recursive(
    st.tuples(TERMS, st.sampled_from([">=", ">", "<=", "<", "==", "!="]), TERMS).map(" ".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
        inner.map(lambda p: f"not ({p})"),
    ),
    max_leaves=4,
)
SMALL = st.one_of(st.none(), st.integers(0, 12))


@given(SHAPES, st.tuples(SMALL, SMALL, SMALL), st.integers(0, 12), st.integers(0, 6), st.integers(0, 6))
def test_time_alone_turns_nothing_before_the_instant_that_is_told(
    text: str, values: tuple[int | None, ...], now: int, start: int, length: int
) -> None:
    predicate = parse(text)
    facts = lookup(watermark_a=values[0], watermark_b=values[1], frontier_a=values[2])
    scope = Scope(now, start, start + length)
    turn = predicate.changes_at(facts, scope)
    truth = predicate.evaluate(facts, scope)
    for later in range(now, (turn if turn is not None else now + 40)):
        assert predicate.evaluate(facts, Scope(later, start, start + length)) is truth


@given(SHAPES, st.tuples(SMALL, SMALL, SMALL), st.integers(0, 12), st.integers(0, 12))
def test_growth_between_thresholds_changes_nothing(
    text: str, values: tuple[int | None, ...], now: int, grown: int
) -> None:
    predicate, scope = parse(text), Scope(now, 2, 7)
    if values[0] is None or FactRef("watermark", "a") in predicate.watched(scope) or grown <= values[0]:
        return
    crossed = [v for kind, subject, v in predicate.thresholds(scope) if (kind, subject) == ("watermark", "a")]
    if any(values[0] < v <= grown for v in crossed):
        return
    before = lookup(watermark_a=values[0], watermark_b=values[1], frontier_a=values[2])
    after = lookup(watermark_a=grown, watermark_b=values[1], frontier_a=values[2])
    assert predicate.evaluate(before, scope) is predicate.evaluate(after, scope)


@given(SHAPES)
def test_a_tree_written_out_reads_the_same(text: str) -> None:
    first = parse(text)
    again = Predicate(first.root.text(), parse(first.root.text()).root)
    for values in [(1, 5, 9), (9, 5, 1), (None, 3, 3)]:
        facts = lookup(watermark_a=values[0], watermark_b=values[1], frontier_a=values[2])
        assert first.evaluate(facts, Scope(4, 2, 6)) is again.evaluate(facts, Scope(4, 2, 6))


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except WorkflowError as error:
        assert error.remedy
