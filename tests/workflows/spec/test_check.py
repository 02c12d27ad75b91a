from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

import penstock as ps
from penstock.components.contract import BatchComponent, Parameters, StreamComponent
from penstock.define.workflow import Workflow
from penstock.errors import NotBuiltError, WorkflowError, WorkflowErrors
from penstock.workflows.spec.check import Surroundings, check
from penstock.workflows.spec.convert import to_spec
from penstock.workflows.spec.text import from_text

NOW = 1_795_000_000_000_000
HERE = Path(__file__).parent


class CountParameters(Parameters):
    table: str
    limit: int = 10


class Count(BatchComponent):
    name = "count"
    parameters = CountParameters
    outputs: ClassVar = {"rows": "integer"}
    facts = ("rows", "quality")


class Tail(StreamComponent):
    name = "tail"


AROUND = Surroundings(
    components={"count": Count, "tail": Tail, "python": BatchComponent},
    broken={"mine": "ImportError: no module named 'nothing'"},
    subjects={"events": "stream", "items": "table"},
)


def count(**more: Any) -> Any:
    return ps.component("count", table="t", **more)


def refused(flow: Workflow) -> str:
    with pytest.raises(WorkflowError) as error:
        spec, places = to_spec(flow, HERE)
        check(spec, AROUND, now_us=NOW, places=places)
    text = str(error.value)
    assert "->" in text
    assert f"{Path(__file__).name}:" in text
    return text


def accepted(flow: Workflow) -> None:
    spec, places = to_spec(flow, HERE)
    check(spec, AROUND, now_us=NOW, places=places)


def test_a_workflow_with_all_kinds_of_edges_is_accepted() -> None:
    flow = ps.workflow(
        "w", every="1h", zone="America/New_York", overlap="keep_newest", parameters={"city": str, "share": 0.5}
    )
    tail = flow.stream("tail", ps.component("tail"), gate="watermark(events) >= now - 5min")
    first = flow.batch("first", count(), when="watermark(tail) >= end + 10min and rows(events) > 5")
    second = flow.batch("second", count(limit="{{ param.share }}"), after=first, inputs={"n": first["rows"]}, retries=2)
    flow.stream("server", ps.component("tail"), reload=second, start='quality(first) == "pass"')
    flow.batch("last", count(), after=[first, second], when="done(first, start - 1d, end) and signal(go)", pool="big")
    assert tail.kind == "stream"
    accepted(flow)


def test_a_cycle_through_a_stream_is_legal_and_one_without_is_drawn() -> None:
    flow = ps.workflow("w", every="1h")
    flow.batch("fit", count(), when="watermark(serve) >= end")
    flow.stream("serve", ps.component("tail"), reload='status(fit) == "done"')
    accepted(flow)
    circle = ps.workflow("w", every="1h")
    circle.batch("a", count(), when='status(c) == "done"')
    circle.batch("b", count(), when='status(a) == "done"')
    circle.batch("c", count(), when="rows(b) > 1")
    assert "a -> b -> c -> a" in refused(circle)


def edge(when: str, **more: Any) -> Workflow:
    flow = ps.workflow("w", **more)
    flow.batch("one", count())
    flow.batch("two", count(), when=when)
    return flow


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        (lambda: edge('status(oen) == "done"'), "did you mean one"),
        (lambda: edge("watermark(one) >= now"), "has no fact 'watermark'"),
        (lambda: edge("snapshot(events) == 3"), "has no fact 'snapshot'"),
        (lambda: edge("watermark(events) >= end"), "there is no interval"),
        (lambda: edge('status(one) == "dnoe"'), "did you mean done"),
        (lambda: edge('quality(one) == "passed"'), "did you mean pass"),
        (lambda: edge("rows(one) > param.n"), "there is no parameter 'n'"),
        (lambda: edge("rows(one)"), "an edge is a condition"),
        (lambda: edge("rows(one) >"), "missing"),
        (lambda: edge("done(other.two)", every="1h"), "there is no node or definition"),
        (lambda: edge("rows(one) > 1", every="7h"), "divides the day"),
        (lambda: edge("rows(one) > 1", cron="30 2 * * *", zone="America/New_York"), "clock change skips"),
        (lambda: edge("rows(one) > 1", key="city"), "overlap key"),
        (lambda: edge("rows(one) > 1", on="snapshot(itms)"), "did you mean items"),
        (lambda: edge("rows(one) > 1", on="watermark(events) >= end"), "before there is a run"),
        (lambda: edge("rows(one) > 1", on=ps.on("rows(events)", consume="window")), "count or a deadline"),
        (lambda: edge("rows(one) > 1", parameters={"n": {"type": "integer", "default": "x"}}), "of type integer"),
        (lambda: edge("rows(one) > 1", overlp="queue"), "did you mean overlap"),
        (lambda: edge("rows(one) > 1", overlap="que"), "overlap.how"),
        (lambda: edge("rows(one) > 1", timeout="7"), "timeout"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(flow: Any, words: str) -> None:
    assert words in refused(flow())


def node(**options: Any) -> Workflow:
    flow = ps.workflow("w")
    runs = options.pop("runs", count())
    flow.batch("one", runs, **options)
    return flow


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        (lambda: node(runs=ps.component("cuont")), "did you mean count"),
        (lambda: node(runs=ps.component("mine")), "nothing"),
        (lambda: node(runs=ps.component("tail")), "for stream nodes"),
        (lambda: node(runs=ps.component("count")), "Field required"),
        (lambda: node(runs=count(limit="many")), "valid integer"),
        (lambda: node(runs=count(lmit=3)), "did you mean limit"),
        (lambda: node(runs=count(limit="{{ param.n }}")), "param.n"),
        (lambda: node(runs=ps.component("count", table="{{ start }}")), "start"),
        (lambda: node(runs=lambda context: None), "another process can find"),
        (lambda: node(runs=7), "found 7"),
        (lambda: node(retrys=3), "did you mean retries"),
        (lambda: node(retries=-1), "retry.times"),
        (lambda: node(after="nothing here"), "is no value"),
        (lambda: node(inputs={"n": "one.rows"}), "input from a node"),
    ],
)
def test_a_node_that_cannot_run_is_refused_with_its_line(flow: Any, words: str) -> None:
    assert words in refused(flow())


def test_all_that_does_not_fit_is_told_together() -> None:
    flow = ps.workflow("w")
    flow.batch("one", ps.component("cuont"))
    flow.batch("two", count(), when='status(oen) == "done"')
    with pytest.raises(WorkflowErrors) as error:
        accepted(flow)
    assert len(error.value.errors) == 2


def test_an_input_needs_its_node_done_before_and_an_output_that_exists() -> None:
    flow = ps.workflow("w")
    one = flow.batch("one", count())
    flow.batch("two", count(), inputs={"n": one["rows"]})
    assert "add after=one" in refused(flow)
    other = ps.workflow("w")
    one = other.batch("one", count())
    other.batch("two", count(), after=one, inputs={"n": one["row"]})
    assert "did you mean rows" in refused(other)


def test_what_the_loop_brings_is_refused_by_name() -> None:
    flow = ps.workflow("w")
    flow.batch("fit", ps.fit())
    with pytest.raises(NotBuiltError, match="not built yet"):
        to_spec(flow, HERE)


def test_a_function_of_the_project_is_named_by_module_and_name() -> None:
    flow = ps.workflow("w")
    flow.batch("one", test_what_the_loop_brings_is_refused_by_name)
    spec, _ = to_spec(flow, HERE)
    assert spec.nodes[0].component == "python"
    assert spec.nodes[0].parameters == {"call": f"{Path(__file__).stem}:test_what_the_loop_brings_is_refused_by_name"}


def test_yaml_errors_point_at_the_line_of_the_node() -> None:
    one = "- name: one\n  kind: batch\n  component: count\n  parameters: {table: t}\n"
    text = f"name: w\nnodes:\n{one}- name: two\n  kind: batch\n  component: cuont\n"
    spec, places = from_text(text, "w.yaml")
    with pytest.raises(WorkflowError, match="did you mean count") as error:
        check(spec, AROUND, now_us=NOW, places=places)
    assert "w.yaml:7" in str(error.value)
