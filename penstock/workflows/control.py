"""All parts of workflows in one process: store, hub, executor, supervisor, scheduler, dictionary, resources."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from penstock.clock import Clock, WallClock
from penstock.components.code import CodeIdentity
from penstock.components.registry import Registry, discover
from penstock.define.model import Model
from penstock.define.project import Definitions, load
from penstock.define.relation import Group, Joined
from penstock.define.sample import Samples
from penstock.define.stream import Stream, Table
from penstock.define.workflow import Workflow
from penstock.errors import PenstockError, WorkflowError, nearest
from penstock.store.blob import Blob
from penstock.store.meta import Meta
from penstock.store.meta.rows import DefinitionRow, RowChange, WorkflowRow
from penstock.store.meta.rows_store import RowStore
from penstock.workflows.core.requests import Apply, FactGiven, Message
from penstock.workflows.core.turn import Core
from penstock.workflows.dictionary import Dictionary
from penstock.workflows.executor.local.executor import LocalExecutor
from penstock.workflows.hub import Hub
from penstock.workflows.resources import Resources
from penstock.workflows.scheduler import Scheduler
from penstock.workflows.spec.check import Surroundings, check
from penstock.workflows.spec.convert import Places, to_spec
from penstock.workflows.spec.diff import Change, diff
from penstock.workflows.spec.model import WorkflowSpec
from penstock.workflows.spec.text import spec_fingerprint, to_json
from penstock.workflows.supervisor.local import LocalSupervisor
from penstock.workflows.why import Pace

__all__ = ["Control", "Version", "project_workflows", "surroundings"]

T = TypeVar("T")
_ANSWER_S = 30.0


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a workflow."""

    spec: WorkflowSpec
    version: int
    author: str
    reason: str
    created_us: int


class Control:
    """What a server holds of workflows. Use as a context; `start` begins.

    Args:
        project: the folder of definitions; state goes to its `.penstock`.
        clock: the deployment's; the wall by default.
    """

    def __init__(self, project: Path, *, clock: Clock | None = None) -> None:
        self.project, self.state = project.resolve(), project.resolve() / ".penstock"
        self.clock = clock or WallClock()
        self.state.mkdir(parents=True, exist_ok=True)
        self.meta = Meta.open(self.state / "meta.db", clock=self.clock)
        self.rows = RowStore(self.meta.engine)
        self.hub = Hub(self.state / "run")
        self.executor = LocalExecutor(self.hub, self.state)
        self.supervisor = LocalSupervisor(self.project, self.state, self.rows, self.hub)
        self.scheduler = Scheduler(self.rows, self.clock, self.executor, self.supervisor)
        self.dictionary = Dictionary(self.meta, self.state)
        self.resources = Resources(self.meta, Blob.open(self.state / "blobs"))
        self.registry: Registry = discover(self.project)
        self.pace = Pace()
        self._code = CodeIdentity(self.project)
        self.scheduler.subscribe(self.pace.take)

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begins: the scheduler goes on where the last one ended, workers and streams come to the hub."""
        self.scheduler.start()
        self.supervisor.start()
        self.hub.open()

    def close(self) -> None:
        """Ends the scheduler; tasks and streams go on, and a later one finds them."""
        self.scheduler.close()
        self.hub.close()
        self.supervisor.close()
        self.executor.close()
        self.rows.close()
        self.meta.close()

    def ask(self, message: Message) -> dict[str, Any]:
        """Gives a request in and waits until what follows from it is durable.

        Raises:
            WorkflowError: it cannot be.
            StoreError: it could not be written.
        """
        return self.scheduler.post(message).result(_ANSWER_S)

    def look(self, at: Callable[[Core, int], T]) -> T:
        """Reads the scheduler's state between two passes.

        Args:
            at: called with the state and the present in the scheduler's thread; it changes nothing.
        """
        found: Future[T] = self.scheduler.look(at)
        return found.result(_ANSWER_S)

    def new_id(self) -> str:
        """A new part of a run's id: rising with time, and no one else's."""
        return f"{self.clock.now_us():x}{secrets.token_hex(3)}"

    def subscribe(self, subscriber: Callable[[list[RowChange]], None]) -> Callable[[], None]:
        """Lets somebody be told of every change after its commit; gives a function that ends it."""
        return self.scheduler.subscribe(subscriber)

    # workflows

    def apply(
        self,
        spec: WorkflowSpec,
        *,
        author: str,
        reason: str,
        expect: int | None = None,
        places: Places | None = None,
        around: Surroundings | None = None,
    ) -> dict[str, Any]:
        """Checks a workflow and makes it what runs from now on; the same again adds no version.

        Args:
            spec: of the workflow.
            author, reason: on record with the version.
            expect: the version that the change was made from.
            places: where its parts stand, for errors.
            around: what it may refer to; the project as it is by default.

        Raises:
            WorkflowError: something does not fit; what runs goes on as it was.
        """
        self.registry = discover(self.project)
        check(spec, around or self.surroundings(), now_us=self.clock.now_us(), places=places)
        used = {node.component: self.registry[node.component].version for node in spec.nodes}
        return self.ask(
            Apply(
                spec.name, to_json(spec), spec_fingerprint(spec), author, reason, self._code.now(), used, expect=expect
            )
        )

    def apply_project(self, *, author: str, reason: str, only: str | None = None) -> list[dict[str, Any]]:
        """Applies the workflows that the project's definitions hold, or one of them; all are checked before any is.

        Raises:
            WorkflowError: something does not fit, or there is no such workflow.
        """
        definitions = load(self.project)
        found = project_workflows(definitions)
        if only is not None and only not in found:
            raise WorkflowError(f"workflow {only!r} of the project", found="none", remedy=nearest(only, found))
        if not found:
            raise WorkflowError(
                "the project has a workflow",
                found=f"none in {self.project}",
                remedy='define one: flow = ps.workflow("nightly", every="1d")',
            )
        self.registry = discover(self.project)
        around = self.surroundings(definitions, {name: spec for name, (spec, _) in found.items()})
        chosen = {name: value for name, value in found.items() if only in (None, name)}
        for spec, places in chosen.values():
            check(spec, around, now_us=self.clock.now_us(), places=places)
        return [
            self.apply(spec, author=author, reason=reason, places=places, around=around)
            for spec, places in chosen.values()
        ]

    def surroundings(
        self, definitions: Definitions | None = None, more: Mapping[str, WorkflowSpec] | None = None
    ) -> Surroundings:
        """What a workflow of this project may refer to."""
        if definitions is None:
            try:
                definitions = load(self.project)
            except PenstockError:
                # A specification that names no definition needs none; one that does is told so by its check.
                definitions = Definitions.of()
        workflows = {version.spec.name: version.spec for version in self.workflows()} | dict(more or {})
        return surroundings(self.registry, definitions, workflows)

    def workflows(self) -> list[Version]:
        """The newest version of every workflow that is in service, by name."""
        rows = sorted(self.rows.read(WorkflowRow), key=lambda row: row.name)
        return [self.version(row.name, row.version) for row in rows if row.state != "retired"]

    def versions(self, name: str) -> list[Version]:
        """All versions of a workflow, oldest first; empty if there never was one."""
        rows = self.rows.read(DefinitionRow, "name = ?", (f"workflow/{name}",), tail="ORDER BY version")
        return [_version(row) for row in rows]

    def version(self, name: str, version: int | None = None) -> Version:
        """A version of a workflow, the newest by default.

        Raises:
            WorkflowError: there is none.
        """
        found = self.versions(name)
        if not found:
            names = [row.name for row in self.rows.read(WorkflowRow)]
            raise WorkflowError(f"workflow {name!r}", found="none", remedy=nearest(name, names))
        if version is None:
            return found[-1]
        if not 1 <= version <= len(found):
            raise WorkflowError(
                f"version {version} of workflow {name}",
                found=f"versions 1 to {len(found)}",
                remedy=f"`penstock workflow show {name}` lists them",
            )
        return found[version - 1]

    def diff(self, name: str, before: int | None = None, after: int | None = None) -> tuple[Change, ...]:
        """What changed between two versions; by default from the one before the newest to the newest."""
        newer = self.version(name, after)
        older = before if before is not None else newer.version - 1
        return diff(self.version(name, older).spec if older > 0 else None, newer.spec)

    def fact(self, subject: str, kind: str, value: Any, *, position: int | None = None) -> dict[str, Any]:
        """Puts a fact of an outside program on record."""
        return self.ask(FactGiven(subject, kind, value, position=position))


def project_workflows(definitions: Definitions) -> dict[str, tuple[WorkflowSpec, Places]]:
    """The workflows of a project's definitions as specifications, with the places of their parts.

    Raises:
        WorkflowError: an option or a value does not fit.
    """
    return {
        name: to_spec(definition, definitions.root)
        for name, definition in definitions.named.items()
        if isinstance(definition, Workflow)
    }


def surroundings(registry: Registry, definitions: Definitions, workflows: Mapping[str, WorkflowSpec]) -> Surroundings:
    """What workflows may refer to: components, definitions with progress, one another."""
    subjects: dict[str, str] = {}
    for name, definition in definitions.named.items():
        match definition:
            case Stream() | Group() | Joined():
                subjects[name] = "stream"
            case Table():
                subjects[name] = "table"
            case Samples():
                subjects[name] = "samples"
            case Model():
                subjects[name] = "model"
    return Surroundings(
        {name: found.component for name, found in registry.found.items()},
        {broken.name: f"{broken.origin}: {broken.reason}" for broken in registry.broken},
        subjects,
        workflows,
    )


def _version(row: DefinitionRow) -> Version:
    spec = WorkflowSpec.model_validate_json(row.spec)
    return Version(spec, row.version, row.author, row.reason, row.created_us)
