"""Whether a workflow can run at all: what can be known before anything does. All errors are told together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from penstock.components.contract import BatchComponent, StreamComponent
from penstock.errors import WorkflowError, WorkflowErrors, nearest
from penstock.workflows.spec import template
from penstock.workflows.spec.convert import Places
from penstock.workflows.spec.model import Edge, Node, Parameter, WorkflowSpec
from penstock.workflows.spec.predicate import FactRef, Predicate, parse
from penstock.workflows.spec.schedule import check_schedule

__all__ = ["STATUSES", "STREAM_STATUSES", "Surroundings", "check", "value_fits"]

STATUSES: Final = ("waiting", "ready", "running", "done", "failed", "killed", "skipped", "late")
STREAM_STATUSES: Final = ("starting", "running", "paused", "waiting", "stopping", "stopped", "broken")
_VERDICTS: Final = ("pass", "warn", "fail")
_PROGRESS: Final = ("watermark", "frontier", "offset", "rows", "lag", "quality")
_SUBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "stream": _PROGRESS,
    "table": ("snapshot", "frontier", "watermark", "rows", "quality"),
    "samples": (*_PROGRESS, "mature", "snapshot"),
    "model": ("model", "quality"),
}
"""Kind of a project's definition -> kinds of facts it can have. Groups, joins and views progress as streams do."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a workflow may refer to.

    Attributes:
        components: by name.
        broken: name of a component that could not be loaded -> why.
        subjects: name of a definition of the project -> stream, table, samples or model.
        workflows: the other workflows that are applied, by name.
    """

    components: Mapping[str, type[BatchComponent] | type[StreamComponent]]
    broken: Mapping[str, str] = field(default_factory=dict)
    subjects: Mapping[str, str] = field(default_factory=dict)
    workflows: Mapping[str, WorkflowSpec] = field(default_factory=dict)


def check(spec: WorkflowSpec, around: Surroundings, *, now_us: int, places: Places | None = None) -> None:
    """Refuses a workflow that could not run as it says.

    Raises:
        WorkflowError: one thing does not fit; `WorkflowErrors` for several.
    """
    checker = _Checker(spec, around, places or Places())
    errors = [*_schedule(spec, checker, now_us), *checker.errors()]
    if len(errors) > 1:
        raise WorkflowErrors(tuple(errors))
    if errors:
        raise errors[0]


def _schedule(spec: WorkflowSpec, checker: _Checker, now_us: int) -> Iterator[WorkflowError]:
    if spec.schedule is None:
        return
    try:
        check_schedule(spec.schedule, now_us)
    except WorkflowError as error:
        yield checker.placed(error, f"workflow {spec.name}, schedule")


def value_fits(parameter: Parameter, value: Any) -> bool:
    """Whether a value is of a parameter's type; numbers take integers, the textual types take text."""
    match parameter.type:
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "json":
            return True
    return isinstance(value, str)


class _Checker:
    def __init__(self, spec: WorkflowSpec, around: Surroundings, places: Places) -> None:
        self.spec, self.around, self.places = spec, around, places
        self.nodes = {node.name: node for node in spec.nodes}
        self.before: dict[str, set[str]] = {node.name: set() for node in spec.nodes}

    def error(self, what: str, found: str, remedy: str, node: str = "") -> WorkflowError:
        return WorkflowError(what, found=found, remedy=remedy, where=self.places.of(node))

    def placed(self, error: WorkflowError, what: str, node: str = "") -> WorkflowError:
        return self.error(f"{what}: {error.asked}", error.found, error.remedy, node)

    def errors(self) -> Iterator[WorkflowError]:
        yield from self.names()
        yield from self.schedule()
        yield from self.parameters()
        yield from self.overlap()
        for trigger in self.spec.triggers:
            yield from self.trigger(trigger.name, trigger.on)
            if trigger.consume.how == "window" and trigger.consume.count is None and trigger.consume.deadline is None:
                yield self.error(
                    f"trigger {trigger.name}: a window ends by a count or a deadline", "neither", "give one, or both"
                )
        for node in self.spec.nodes:
            yield from self.component(node)
            yield from self.edges(node)
            yield from self.templates(node)
        yield from self.cycle()
        for node in self.spec.nodes:
            yield from self.inputs(node)

    def names(self) -> Iterator[WorkflowError]:
        seen: set[str] = set()
        for node in self.spec.nodes:
            if node.name in seen:
                yield self.error("node names are unique", repr(node.name), "rename one", node.name)
            seen.add(node.name)
        if not self.spec.nodes:
            yield self.error(f"workflow {self.spec.name} has a node", "none", "add one by flow.batch or flow.stream")

    def schedule(self) -> Iterator[WorkflowError]:
        by = self.spec.schedule.by if self.spec.schedule is not None else None
        if by is None:
            return
        predicate = yield from self.parsed(by, "schedule, by", "")
        if predicate is None:
            return
        if predicate.bare is None or predicate.bare.kind not in ("watermark", "frontier"):
            yield self.error("a schedule goes by a watermark or a frontier", by, 'write by="watermark(events)"')
        yield from self.facts(predicate, "schedule, by", "")

    def parameters(self) -> Iterator[WorkflowError]:
        for parameter in self.spec.parameters:
            given = parameter.default is not None
            if given and not value_fits(parameter, parameter.default):
                yield self.error(
                    f"parameter {parameter.name} is of type {parameter.type}",
                    f"default {parameter.default!r}",
                    f"write a default of type {parameter.type}",
                )

    def overlap(self) -> Iterator[WorkflowError]:
        key = self.spec.overlap.key
        valid = [parameter.name for parameter in self.spec.parameters]
        if key is not None and key not in valid:
            yield self.error("an overlap key is a parameter of the run", repr(key), nearest(key, valid))

    def trigger(self, name: str, on: str) -> Iterator[WorkflowError]:
        what = f"trigger {name}"
        predicate = yield from self.parsed(on, what, "")
        if predicate is None:
            return
        if predicate.uses_interval or predicate.parameters:
            yield self.error(
                f"{what} is asked before there is a run",
                f"{on!r} needs the run's interval or parameters",
                'give the workflow a schedule and put the predicate on a node by when="..."',
            )
        yield from self.facts(predicate, what, "")

    def parsed(self, text: str, what: str, node: str) -> Any:
        """The predicate, or None after its error has been told."""
        try:
            return parse(text, workflow=self.spec.name, nodes=frozenset(self.nodes))
        except WorkflowError as error:
            yield self.placed(error, what, node)
            return None

    def component(self, node: Node) -> Iterator[WorkflowError]:
        what = f"{self.spec.name}.{node.name}"
        found = self.around.components.get(node.component)
        if found is None:
            if node.component in self.around.broken:
                why = self.around.broken[node.component]
                yield self.error(f"{what}: component {node.component} is broken", why, "mend or remove it", node.name)
                return
            names = [name for name, c in self.around.components.items() if c.kind == node.kind]
            yield self.error(
                f"{what}: there is no component {node.component!r}", "", nearest(node.component, names), node.name
            )
            return
        if found.kind != node.kind:
            yield self.error(
                f"{what} is a {node.kind} node",
                f"component {node.component}, which is for {found.kind} nodes",
                f"declare it by flow.{found.kind}(...)",
                node.name,
            )
        yield from self.node_parameters(node, found, what)

    def node_parameters(self, node: Node, component: Any, what: str) -> Iterator[WorkflowError]:
        open_fields = {key for key, value in node.parameters.items() if list(template.names(value))}
        try:
            component.parameters.model_validate(node.parameters)
        except ValidationError as error:
            for item in error.errors():
                name = str(item["loc"][0]) if item["loc"] else ""
                # What is filled in at run time is checked then, when its type is known.
                if name in open_fields and item["type"] not in ("missing", "extra_forbidden"):
                    continue
                remedy = nearest(name, component.parameters.model_fields) if item["type"] == "extra_forbidden" else ""
                yield self.error(
                    f"{what}: parameter {'.'.join(map(str, item['loc']))} of component {node.component}: {item['msg']}",
                    repr(item["input"]),
                    remedy or f"`penstock components {node.component}` prints its parameters",
                    node.name,
                )

    def edges(self, node: Node) -> Iterator[WorkflowError]:
        for edge in node.edges:
            what = f"{self.spec.name}.{node.name}, {edge.action}"
            predicate = yield from self.parsed(edge.when, what, node.name)
            if predicate is None:
                continue
            yield from self.edge(node, edge, predicate, what)
            yield from self.facts(predicate, what, node.name)
            for ref in predicate.reads:
                former = self.own(ref)
                if former is not None and former.kind == "batch" and node.kind == "batch":
                    self.before[node.name].add(former.name)

    def edge(self, node: Node, edge: Edge, predicate: Predicate, what: str) -> Iterator[WorkflowError]:
        acts = node.kind == "stream" and edge.action in ("stop", "restart", "reload")
        if predicate.bare is not None and not acts:
            yield self.error(
                f"{what}: an edge is a condition", edge.when, f'compare it, as in "{edge.when} >= end"', node.name
            )
        if node.kind == "batch" and edge.action not in ("start", "gate"):
            yield self.error(f"{what}: {edge.action} acts on streams", "a batch node", "use start or gate", node.name)
        has_interval = self.spec.schedule is not None and self.spec.schedule.every is not None
        if predicate.uses_interval and (node.kind == "stream" or not has_interval):
            why = "a stream belongs to no run" if node.kind == "stream" else "the workflow has no `every`"
            yield self.error(f"{what}: there is no interval", why, "compare with now, or give `every`", node.name)
        valid = [parameter.name for parameter in self.spec.parameters]
        for name in sorted(predicate.parameters):
            if name not in valid:
                yield self.error(f"{what}: there is no parameter {name!r}", edge.when, nearest(name, valid), node.name)
            elif node.kind == "stream":
                yield self.error(f"{what}: a stream belongs to no run", edge.when, "write the value itself", node.name)

    def own(self, ref: FactRef) -> Node | None:
        workflow, dot, name = ref.subject.rpartition(".")
        return self.nodes.get(name) if dot and workflow == self.spec.name else None

    def facts(self, predicate: Predicate, what: str, node: str) -> Iterator[WorkflowError]:
        for ref in predicate.reads:
            if ref.kind in ("signal", "approved"):
                continue
            kinds = self.kinds(ref)
            if kinds is None:
                valid = [*self.nodes, *self.around.subjects, *self.around.workflows]
                yield self.error(
                    f"{what}: there is no node or definition {ref.subject!r}",
                    predicate.text,
                    nearest(ref.subject.rpartition(".")[2], valid),
                    node,
                )
            elif ref.kind not in kinds:
                name = "done" if ref.kind == "interval" else ref.kind
                yield self.error(
                    f"{what}: {ref.subject} has no fact {name!r}", predicate.text, nearest(name, kinds), node
                )
        yield from self.words(predicate, what, node)

    def words(self, predicate: Predicate, what: str, node: str) -> Iterator[WorkflowError]:
        for kind, value in predicate.compared():
            valid = {"status": (*STATUSES, *STREAM_STATUSES), "quality": _VERDICTS}.get(kind)
            if valid is not None and value not in valid:
                yield self.error(f"{what}: {kind} is never {value!r}", predicate.text, nearest(value, valid), node)

    def kinds(self, ref: FactRef) -> tuple[str, ...] | None:
        """The kinds of facts that a subject can have; None if there is no such subject."""
        if ref.subject.startswith("dict."):
            return ("snapshot",)
        node = self.own(ref)
        if node is None:
            workflow, _, name = ref.subject.rpartition(".")
            other = self.around.workflows.get(workflow)
            node = next((n for n in other.nodes if n.name == name), None) if other else None
        if node is None:
            kind = self.around.subjects.get(ref.subject)
            return None if kind is None else _SUBJECTS[kind]
        component = self.around.components.get(node.component)
        own = component.facts if component is not None else ()
        return ("status", "interval", *own) if node.kind == "batch" else ("status", *own)

    def templates(self, node: Node) -> Iterator[WorkflowError]:
        valid = ["run", *(f"param.{parameter.name}" for parameter in self.spec.parameters)]
        if self.spec.schedule is not None and self.spec.schedule.every is not None:
            valid += ["start", "end"]
        for name in template.names(node.parameters):
            fits = name.startswith(template.LATE) or (name in valid and node.kind == "batch")
            if not fits:
                yield self.error(
                    f"{self.spec.name}.{node.name}: a parameter mentions {{{{ {name} }}}}",
                    "no such value" if node.kind == "batch" else "a stream, which belongs to no run",
                    nearest(name, [*valid, "dict.KEY", "secret.NAME"]),
                    node.name,
                )

    def cycle(self) -> Iterator[WorkflowError]:
        state: dict[str, int] = {}
        for start in self.before:
            found = self.find_cycle(start, state, [])
            if found:
                drawn = " -> ".join([found[0], *reversed(found)])
                yield self.error(
                    f"workflow {self.spec.name}: batch nodes wait for one another in a circle",
                    drawn,
                    "take one edge away, or let a stream stand between them",
                    found[0],
                )
                return

    def find_cycle(self, name: str, state: dict[str, int], path: list[str]) -> list[str] | None:
        if state.get(name) == 2:
            return None
        if name in path:
            return path[path.index(name) :]
        for former in sorted(self.before[name]):
            if found := self.find_cycle(former, state, [*path, name]):
                return found
        state[name] = 2
        return None

    def inputs(self, node: Node) -> Iterator[WorkflowError]:
        for name, source in node.inputs.items():
            former, _, output = source.partition(".")
            what = f"{self.spec.name}.{node.name}: input {name}"
            if former not in self.nodes:
                yield self.error(f"{what} comes from a node", repr(source), nearest(former, self.nodes), node.name)
                continue
            if former not in self.reach(node.name):
                yield self.error(
                    f"{what} comes from a node that is done before", former, f"add after={former}", node.name
                )
            component = self.around.components.get(self.nodes[former].component)
            known = getattr(component, "outputs", {})
            if known and output not in known and "*" not in known:
                yield self.error(f"{what}: {former} has no output {output!r}", "", nearest(output, known), node.name)

    def reach(self, name: str) -> set[str]:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            for former in self.before[waiting.pop()] - seen:
                seen.add(former)
                waiting.append(former)
        return seen
