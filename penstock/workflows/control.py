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
from penstock.errors import WorkflowError, nearest
from penstock.store.blob import Blob
from penstock.store.meta import Meta
from penstock.store.meta.rows import DefinitionRow, RowChange, WorkflowRow
from penstock.store.meta.rows_store import RowStore
from penstock.workflows import project
from penstock.workflows.core.requests import Apply, FactGiven, Message
from penstock.workflows.core.turn import Core
from penstock.workflows.dictionary import Dictionary
from penstock.workflows.executor.local.executor import LocalExecutor
from penstock.workflows.hub import Hub
from penstock.workflows.resources import Resources
from penstock.workflows.scheduler import Scheduler
from penstock.workflows.spec.diff import Change, diff
from penstock.workflows.spec.model import WorkflowSpec
from penstock.workflows.spec.text import plain, spec_fingerprint, to_json
from penstock.workflows.supervisor.local import LocalSupervisor
from penstock.workflows.why import Pace

__all__ = ["Control", "Version"]

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
        folder: the project's definitions; state goes to its `.penstock`.
        clock: the deployment's; the wall by default.
    """

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self.project, self.state = folder.resolve(), folder.resolve() / ".penstock"
        self.clock = clock or WallClock()
        self.state.mkdir(parents=True, exist_ok=True)
        self.meta = Meta.open(self.state / "meta.db", clock=self.clock)
        self.rows = RowStore(self.meta.engine)
        self.hub = Hub(self.state / "run")
        self.executor = LocalExecutor(self.hub, self.state)
        self.supervisor = LocalSupervisor(self.project, self.state, self.rows, self.hub)
        self.scheduler = Scheduler(self.rows, self.clock, self.executor, self.supervisor)
        self.dictionary = Dictionary(self.meta, self.state)
        self.resources = Resources(self.meta, Blob.open(self.state / "blobs"), self.state)
        self.pace = Pace()
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
        spec: Mapping[str, Any] | None = None,
        *,
        author: str,
        reason: str,
        expect: int | None = None,
        only: str | None = None,
    ) -> list[dict[str, Any]]:
        """Checks workflows and makes them what runs from now on; the same again adds no version.

        All are checked before any is applied; those of the project that rest on parts that are not built are left
        out, and answered with the reason. The project's code is read in a process of its own.

        Args:
            spec: as plain data; those that the project's definitions hold by default.
            author, reason: on record with the version.
            expect: the version that the change was made from.
            only: the one of the project's that is meant.

        Raises:
            WorkflowError: something does not fit; what runs goes on as it was.
        """
        applied = [plain(version.spec) for version in self.workflows()]
        request = project.Request(self.clock.now_us(), applied, dict(spec) if spec is not None else None, only)
        found = []
        told = project.ask(self.project, request)
        for one in told.checked:
            made = WorkflowSpec.model_validate(self.resources.pinned(one.spec))
            text, name = to_json(made), made.name
            found.append(
                self.ask(
                    Apply(name, text, spec_fingerprint(made), author, reason, one.code, one.components, expect=expect)
                )
            )
        not_built = {"version": None, "changed": False}
        return found + [{"name": name, **not_built, "not_built": why} for name, why in told.not_built.items()]

    def components(self) -> dict[str, Any]:
        """Every component, described, and the broken ones with the reason."""
        told = project.ask(self.project, project.Request(self.clock.now_us(), describe=True))
        return {"components": told.components, "broken": told.broken}

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
        newest = self.rows.read(DefinitionRow, "name = ?", (f"workflow/{name}",), tail="ORDER BY version DESC LIMIT 1")
        if not newest:
            names = [row.name for row in self.rows.read(WorkflowRow)]
            raise WorkflowError(f"workflow {name!r}", found="none", remedy=nearest(name, names))
        if version is None or version == newest[0].version:
            return _version(newest[0])
        wanted = self.rows.read(DefinitionRow, "name = ? AND version = ?", (f"workflow/{name}", version))
        if not wanted:
            raise WorkflowError(
                f"version {version} of workflow {name}",
                found=f"versions 1 to {newest[0].version}",
                remedy=f"`penstock workflow show {name}` lists them",
            )
        return _version(wanted[0])

    def diff(self, name: str, before: int | None = None, after: int | None = None) -> tuple[Change, ...]:
        """What changed between two versions; by default from the one before the newest to the newest."""
        newer = self.version(name, after)
        older = before if before is not None else newer.version - 1
        return diff(self.version(name, older).spec if older > 0 else None, newer.spec)

    def fact(self, subject: str, kind: str, value: Any, *, position: int | None = None) -> dict[str, Any]:
        """Puts a fact of an outside program on record."""
        return self.ask(FactGiven(subject, kind, value, position=position))


def _version(row: DefinitionRow) -> Version:
    spec = WorkflowSpec.model_validate_json(row.spec)
    return Version(spec, row.version, row.author, row.reason, row.created_us)
