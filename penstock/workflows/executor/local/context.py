"""What a batch component sees while it runs on this machine: the contract's `BatchContext`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from penstock.components.artifacts import content_hash, pack_value, unpack_value
from penstock.components.contract import Artifact, BatchComponent
from penstock.components.values import Dictionary, find_secret
from penstock.errors import WorkflowError, nearest
from penstock.workflows.executor.local.folders import TARGET, safe
from penstock.workflows.executor.local.orders import Job
from penstock.workflows.messages import FactValue

__all__ = ["TaskContext"]


class TaskContext:
    """One attempt of one node of one run.

    Args:
        job: the task and its places.
        component: what runs; only its outputs and facts may be set.
        project: its folder.
        moved: tells progress.
        hide: strikes a text out of the log from now on.
    """

    def __init__(
        self,
        job: Job,
        component: type[BatchComponent],
        project: Path,
        moved: Callable[[float, float | None, str], None],
        hide: Callable[[str], None],
    ) -> None:
        given = job.assignment
        self.run, self.node, self.attempt = given.run, given.node, given.task.attempt
        self.idempotency_key = given.idempotency_key
        self.interval_start_us, self.interval_end_us = given.interval_start_us, given.interval_end_us
        self.inputs: Mapping[str, Any] = unpack_value(given.inputs)
        self.project = project
        self._component = component
        self.state = project / ".penstock"
        self._staged, self._target = Path(job.staged), job.target
        self._files: dict[str, Literal["file", "folder"]] = {}
        self._values: dict[str, Any] = {}
        self._facts: dict[tuple[str, str], FactValue] = {}
        self._moved, self._hide = moved, hide
        self._dictionary: Dictionary | None = None

    def output(self, name: str, kind: Literal["file", "folder"] = "file") -> Path:
        """A staged place to write output `name`."""
        self._check(name)
        if not self._files:
            self._staged.mkdir(parents=True, exist_ok=True)
            (self._staged / TARGET).unlink(missing_ok=True)
            (self._staged / TARGET).symlink_to(self._target)
        self._files[name] = kind
        path = self._staged / safe(name)
        if kind == "folder":
            path.mkdir(exist_ok=True)
        return path

    def put(self, name: str, value: Any) -> None:
        """Sets output `name`: a small JSON value, or an artifact."""
        self._check(name)
        self._values[name] = pack_value(value)

    def fact(self, kind: str, value: Any, *, subject: str = "") -> None:
        """A fact of this node, in effect with this attempt's end."""
        if kind not in self._component.facts:
            raise WorkflowError(
                f"component {self._component.name!r} sets facts of kind {kind!r}",
                found="it does not say so",
                remedy=nearest(kind, self._component.facts),
            )
        self._facts[subject, kind] = FactValue(subject, kind, pack_value(value))

    def dictionary(self, key: str) -> Any:
        """A run-time value, read now."""
        if self._dictionary is None:
            self._dictionary = Dictionary(self.state)
        return self._dictionary[key]

    def secret(self, name: str) -> str:
        """A secret; it is struck out of this task's log."""
        value = find_secret(self.state, name)
        self._hide(value)
        return value

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Tells how far the work is."""
        self._moved(done, total, note)

    def log(self, line: str) -> None:
        """A line for the node's log."""
        sys.stdout.write(line.rstrip("\n") + "\n")
        sys.stdout.flush()

    def outputs(self) -> dict[str, Any]:
        """All outputs that were set, packed; files by their place to be.

        Raises:
            WorkflowError: a file was promised and not written.
        """
        found = {}
        for name, kind in self._files.items():
            path = self._staged / safe(name)
            if not path.exists():
                raise WorkflowError(
                    f"output {name!r} is written", found=f"no {kind} at {path}", remedy="write to what output() gave"
                )
            place = self.state / self._target / safe(name)
            found[name] = pack_value(Artifact(kind=kind, uri=place.as_uri(), version=content_hash(path)))
        return found | self._values

    def facts(self) -> tuple[FactValue, ...]:
        """All facts that were set."""
        return tuple(self._facts.values())

    def _check(self, name: str) -> None:
        declared = self._component.outputs
        if name not in declared and "*" not in declared:
            raise WorkflowError(
                f"component {self._component.name!r} has an output {name!r}",
                found="none of that name",
                remedy=nearest(name, declared),
            )
