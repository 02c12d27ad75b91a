"""The incremental rules give the oracle's answers: folding, versions, joins, frontiers, watermarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

import penstock.define as ps
from penstock.define.project import Definitions
from penstock.define.relation import Group, Joined
from penstock.define.stream import Stream
from penstock.testing.conformance import Case, GroupQuery, differences
from penstock.testing.model import Frontier, GroupModel, JoinModel, LabelModel, TooLate, Watermark
from penstock.testing.oracle import Log, Oracle, Own, Row, samples
from penstock.testing.oracle.relations import base_name
from penstock.testing.strategies import arrivals, keys_of, model_cases, spans, streams


def model_of(case: Case, group: Group) -> GroupModel:
    stream = case.definitions[base_name(group.input)]
    assert isinstance(stream, Stream)
    return GroupModel(group, stream, {})


def commits(rows: Sequence[Row]) -> list[list[Row]]:
    return [list(found) for _, found in groupby(sorted(rows, key=lambda row: row.place), key=lambda row: row.k)]


@given(model_cases(), st.data())
def test_state_answers_as_the_oracle_while_rows_arrive(case: Case, data: st.DataObject) -> None:
    group = case.definitions["g"]
    assert isinstance(group, Group)
    rows = case.oracle.log(group.input).rows
    model = model_of(case, group)
    for commit in commits(rows):
        for row in commit:
            model.apply(row)
        model.advance(commit[-1].k)
        q = max(model.since_us, data.draw(st.sampled_from((commit[-1].k, commit[-1].t, model.since_us))))
        q += data.draw(st.sampled_from((0, 0, 1, 500_000, 3_000_000)))
        if q > commit[-1].k:
            continue  # a later query may still learn of rows known by then
        for key in keys_of(group, rows):
            expected = case.oracle.group(group, key, q, q)
            assert differences(expected, model.read(key, q, q)) == []
    last = rows[-1].k if rows else 0
    for query in case.queries:
        assert isinstance(query, GroupQuery)
        if query.q >= model.since_us and query.q >= last:
            expected = case.oracle.group(group, query.key, query.q, query.q)
            assert differences(expected, model.read(query.key, query.q, query.q)) == []


@given(model_cases(include_self=True))
def test_rows_of_a_group_are_computed_as_they_arrive(case: Case) -> None:
    group = case.definitions["g"]
    assert isinstance(group, Group)
    model = model_of(case, group)
    for row, expected in zip(case.oracle.log(group.input).rows, case.oracle.log(group).rows, strict=True):
        model.apply(row)
        if row.op not in ("delete", "drop"):
            key = tuple(row.values.get(column) for entity in group.entities for column in entity.key_columns)
            try:
                found = model.read(key, row.t, None, row)
            except TooLate:
                continue  # history's
            answer = case.oracle.group(group, key, row.t, own(row, case, group), row)
            assert differences(answer, found) == []
            assert expected.place == row.place
        model.advance(row.k - 1)


def own(row: Row, case: Case, group: Group) -> Any:
    return Own(base_name(group.input), row.place)


@given(model_cases())
def test_the_form_of_state_does_not_depend_on_timing(case: Case) -> None:
    group = case.definitions["g"]
    assert isinstance(group, Group)
    rows = case.oracle.log(group.input).rows
    often, once = model_of(case, group), model_of(case, group)
    for commit in commits(rows):
        for row in commit:
            often.apply(row)
            once.apply(row)
        often.advance(commit[-1].k)
    if rows:
        once.advance(rows[-1].k)
    assert often.form() == once.form()


def test_rows_fold_only_when_all_three_conditions_hold() -> None:
    stream = ps.stream("s", time="t", schema={"u": "int"})
    group = stream.by("u").over(ps.window("100s", hop="10s")).features("g", n=ps.count(), observations_late="5s")
    model = GroupModel(group, stream, {})
    second = 1_000_000
    model.apply(Row(3 * second, 40 * second, {"u": 1}))
    model.advance(44 * second)
    assert {form[0] for form in model.form()} == {"row"}  # f < k + D_obs
    model.advance(45 * second)
    assert {form[0] for form in model.form()} == {"tile"}
    model.advance(114 * second)
    assert {form[0] for form in model.form()} == {"tile"}  # q = 109 s still covers [0, 10)
    model.advance(115 * second)
    assert model.form() == set() and model.keys == {}


def join_case(data: st.DataObject, emit: str) -> tuple[Joined, Oracle, list[tuple[int, int, Row]]]:
    span = data.draw(spans)
    observations, outcomes = data.draw(streams("ev")), data.draw(streams("out"))
    joined = observations.join(
        outcomes, on="a", within="10s", grace=data.draw(st.sampled_from(("0s", "2s"))), name="j",
        emit="match" if emit == "match" else "final", hits=ps.count(), top=ps.max("i"), newest=ps.last("w"),
    )  # fmt: skip
    found = {stream.name: data.draw(arrivals(stream, span)) for stream in (observations, outcomes)}
    oracle = Oracle(Definitions.of(joined), found)
    both = [(row.k, side, row) for side, name in enumerate(("ev", "out")) for row in found[name]]
    return joined, oracle, sorted(both, key=lambda entry: (entry[0], entry[1], entry[2].place))


def felt(log: Log) -> list[Row]:
    """The rows of a log without deletes of what had not been made."""
    made: set[int] = set()
    found = []
    for row, event in zip(log.rows, log.events, strict=True):
        gone = row.op in ("delete", "drop")
        if not gone or event in made:
            found.append(row)
        (made.discard if gone else made.add)(event)
    return found


def shown(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, values={}) if row.op in ("delete", "drop") else row for row in rows]


@given(st.sampled_from(("final", "match")), st.data())
def test_joined_rows_are_released_by_the_frontier_whichever_input_is_fast(emit: str, data: st.DataObject) -> None:
    joined, oracle, both = join_case(data, emit)
    assert isinstance(joined.observation, Stream) and isinstance(joined.outcome, Stream)
    model = JoinModel(joined, (joined.observation, joined.outcome), {})
    if data.draw(st.booleans()):  # one input is read far ahead of the other
        fast = data.draw(st.integers(0, 1))
        both = sorted(both, key=lambda entry: (entry[1] != fast, entry[0], entry[2].place))
    for side in (0, 1):
        model.frontiers[side].open({row.partition for _, at, row in both if at == side} or {0})
    made: list[Row] = []
    for k, side, row in both:
        (model.observe, model.outcome)[side](row)
        for partition in model.frontiers[side].partitions:
            model.frontiers[side].read(partition, k - 1)  # no partition of this input has anything before
        made += model.release()
    for frontier in model.frontiers:
        for partition in frontier.partitions:
            frontier.read_to_end(partition, 2**62)
    made += model.release()
    assert shown(made) == shown(felt(oracle.log(joined)))


@given(st.sampled_from(("wait", "correct")), st.data())
def test_samples_are_made_as_rows_arrive(policy: Literal["wait", "correct"], data: st.DataObject) -> None:
    span = data.draw(spans)
    show, click = data.draw(streams("ev")), data.draw(streams("out"))
    label = ps.label(
        click, data.draw(st.sampled_from((None, "i > 2"))), on="a", within="10s",
        grace=data.draw(st.sampled_from(("0s", "2s"))), absent=data.draw(st.sampled_from((0, "null", "drop"))),
    )  # fmt: skip
    definition = ps.samples("set", show, features=ps.view("v", show["a", "i"]), policy=policy, y=label)
    found = {stream.name: data.draw(arrivals(stream, span)) for stream in (show, click)}
    oracle = Oracle(Definitions.of(definition), found)
    model = LabelModel(definition, (show, click), features_of)
    for side, name in enumerate(("ev", "out")):
        model.frontiers[side].open({row.partition for row in found[name]} or {0})
    both = [(row.k, side, row) for side, name in enumerate(("ev", "out")) for row in found[name]]
    fast = data.draw(st.sampled_from((None, 0, 1)))  # one input may be read far ahead of the other
    made = []
    for k, side, row in sorted(both, key=lambda entry: (fast not in (None, entry[1]), entry[0], entry[2].place)):
        (model.observe, model.outcome)[side](row)
        for partition in model.frontiers[side].partitions:
            model.frontiers[side].read(partition, k - 1)  # no partition of this input has anything before
        made += list(model.release())
    for frontier in model.frontiers:
        for partition in frontier.partitions:
            frontier.read_to_end(partition, 2**62)
    made += list(model.release())
    made.sort(key=lambda sample: (sample.row.place, sample.revision))
    assert made == samples(oracle, definition)


def features_of(row: Row) -> dict[str, Any]:
    return {"a": row.values["a"], "i": row.values["i"]}


def test_the_frontier_is_that_of_the_slowest_partition() -> None:
    frontier = Frontier()
    frontier.open((0, 1))
    frontier.read(0, 10)
    assert frontier.at_us < 0
    frontier.read_to_end(1, 7)
    assert frontier.at_us == 7


def test_the_watermark_holds_when_all_are_idle_and_never_goes_back() -> None:
    watermark = Watermark(late_us=5, idle_us=100)
    watermark.row(0, 50, clock_us=0)
    assert watermark.at(0) == 45
    watermark.row(1, 20, clock_us=10)  # a new partition joins at the topic's watermark
    assert watermark.at(10) == 45
    watermark.row(0, 90, clock_us=20)
    assert watermark.at(20) == 45
    assert watermark.at(115) == 85  # partition 1 is idle and steps aside
    assert watermark.at(1_000) == 85
