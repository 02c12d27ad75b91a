from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import WorkflowError
from penstock.workflows.spec import template
from penstock.workflows.spec.diff import diff
from penstock.workflows.spec.model import (
    Consume,
    Edge,
    Isolation,
    Node,
    Overlap,
    Parameter,
    Retry,
    Schedule,
    Trigger,
    WorkflowSpec,
)
from penstock.workflows.spec.text import from_text, schema, spec_fingerprint, to_json, to_yaml

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
DURATIONS = st.integers(0, 10**12)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)
EDGES = st.builds(Edge, action=st.sampled_from(["start", "gate", "reload"]), when=WORDS)
NODES = st.builds(
    Node,
    name=NAMES,
    kind=st.sampled_from(["batch", "stream"]),
    component=NAMES,
    parameters=st.dictionaries(NAMES, JSON, max_size=3),
    inputs=st.dictionaries(NAMES, NAMES, max_size=2),
    edges=st.lists(EDGES, max_size=3).map(tuple),
    retry=st.builds(Retry, times=st.integers(0, 5), wait=DURATIONS),
    timeout=st.one_of(st.none(), DURATIONS),
    priority=st.integers(-5, 5),
    isolation=st.builds(Isolation, requirements=st.lists(NAMES, max_size=2).map(tuple)),
)
SPECS = st.builds(
    WorkflowSpec,
    name=NAMES,
    purpose=WORDS,
    schedule=st.one_of(st.none(), st.builds(Schedule, every=st.just("1h"), zone=st.just("Asia/Tokyo"))),
    triggers=st.lists(
        st.builds(Trigger, name=NAMES, on=WORDS, consume=st.builds(Consume, count=st.integers(1, 9))), max_size=2
    ).map(tuple),
    overlap=st.builds(Overlap, how=st.sampled_from(["queue", "parallel", "keep_newest"]), limit=st.integers(1, 9)),
    parameters=st.lists(st.builds(Parameter, name=NAMES, type=st.just("json"), default=JSON), max_size=2).map(tuple),
    nodes=st.lists(NODES, max_size=4, unique_by=lambda node: node.name).map(tuple),
)


@given(SPECS)
def test_json_and_yaml_keep_every_field(spec: WorkflowSpec) -> None:
    assert from_text(to_json(spec))[0] == spec
    assert from_text(to_yaml(spec))[0] == spec


@given(SPECS, SPECS)
def test_the_fingerprint_is_equal_where_nothing_changed(one: WorkflowSpec, two: WorkflowSpec) -> None:
    assert diff(one, one) == ()
    if spec_fingerprint(one) == spec_fingerprint(two):
        assert diff(one, two) == ()


def test_the_schema_is_json_and_names_every_field() -> None:
    found = json.loads(json.dumps(schema()))
    assert set(found["properties"]) == set(WorkflowSpec.model_fields)


def test_places_on_a_canvas_do_not_change_the_fingerprint() -> None:
    plain = WorkflowSpec(name="w")
    assert spec_fingerprint(plain) == spec_fingerprint(plain.model_copy(update={"notes": {"x": 3}}))


def test_a_diff_speaks_of_nodes_and_edges() -> None:
    one = Node(
        name="fit", kind="batch", component="python", parameters={"rounds": 3}, edges=(Edge(when="rows(a) > 1"),)
    )
    two = one.model_copy(update={"parameters": {"rounds": 4}, "edges": (Edge(when="rows(a) > 2"),)})
    more = Node(name="more", kind="batch", component="shell")
    before, after = WorkflowSpec(name="w", nodes=(one,)), WorkflowSpec(name="w", nodes=(more, two), priority=2)
    assert [str(change) for change in diff(before, after)] == [
        "+ nodes.more: kind=batch, component=shell",
        "~ nodes.fit.parameters.rounds: 3 -> 4",
        "+ nodes.fit.edges.start when rows(a) > 2",
        "- nodes.fit.edges.start when rows(a) > 1",
        "+ priority: 2",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "YAML or JSON"),
        ("- a", "an object"),
        ("name: w\nformat: 2", "upgrade"),
        ("name: w\nnodse: []", "nodse"),
        ("name: w\noverlap: {how: many}", "overlap.how"),
        ("nodes: []", "name"),
        ("!!python/object/apply:os.system ['true']", "YAML or JSON"),
    ],
)
def test_a_text_that_is_no_workflow_is_refused(text: str, words: str) -> None:
    with pytest.raises(WorkflowError, match=words):
        from_text(text, "w.yaml")


def test_templates_keep_the_type_alone_and_are_text_inside_text() -> None:
    read = template.run_values("r1", 0, 3_600_000_000, {"days": 7, "cities": ["Oslo"]})
    value = {
        "a": "{{ param.days }}",
        "b": ["from {{ start }} to {{end}}: {{ param.cities }}"],
        "c": 3,
        "d": "{{ dict.limit }}",
    }
    assert template.render(value, read, skip=template.LATE) == {
        "a": 7,
        "b": ['from 1970-01-01T00:00:00Z to 1970-01-01T01:00:00Z: ["Oslo"]'],
        "c": 3,
        "d": "{{ dict.limit }}",
    }
    with pytest.raises(WorkflowError, match=r"did you mean param\.days"):
        template.render("{{ param.day }}", read)
    assert list(template.names(value)) == ["param.days", "start", "end", "param.cities", "dict.limit"]
