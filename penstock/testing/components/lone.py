"""A context without a scheduler, for tests of components: it keeps what a component says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any, Literal

from penstock.components.artifacts import content_hash, pack_value
from penstock.components.contract import Artifact, BatchComponent
from penstock.components.values import Dictionary, find_secret
from penstock.errors import WorkflowError

__all__ = ["LoneContext"]


class LoneContext:
    """Keeps the contract's `BatchContext` in this process.

    Args:
        folder: for outputs and work; made when missing.
        project: the project's folder, `folder` by default.
        inputs: values and artifacts by name.
        interval: start and end, microseconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        project: Path | None = None,
        inputs: Mapping[str, Any] | None = None,
        interval: tuple[int, int] | None = None,
        key: str = "run/node",
    ) -> None:
        self.run, self.node, self.attempt, self.idempotency_key = "run", "node", 1, key
        self.interval_start_us: int | None = None if interval is None else interval[0]
        self.interval_end_us: int | None = None if interval is None else interval[1]
        self.inputs: Mapping[str, Any] = dict(inputs or {})
        self.project = project or folder
        self.folder = folder
        self.values: dict[str, Any] = {}
        self.facts: dict[tuple[str, str], Any] = {}
        self.lines: list[str] = []
        self.told: list[tuple[float, float | None, str]] = []
        self.hidden: list[str] = []
        self._component: type[BatchComponent] | None = None
        self._files: dict[str, Literal["file", "folder"]] = {}

    def do(self, component: type[BatchComponent], **parameters: Any) -> dict[str, Any]:
        """Runs a component in a folder of its own; its outputs."""
        self._component = component
        checked = component.parameters.model_validate(parameters)
        work = self.folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        with chdir(work):
            component().run(self, checked)
        return dict(self._outputs())

    def output(self, name: str, kind: Literal["file", "folder"] = "file") -> Path:
        """A place for an output."""
        self._check(name)
        self._files[name] = kind
        path = self.folder / "outputs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "folder":
            path.mkdir(exist_ok=True)
        return path

    def put(self, name: str, value: Any) -> None:
        """Keeps an output."""
        self._check(name)
        pack_value(value)
        self.values[name] = value

    def fact(self, kind: str, value: Any, *, subject: str = "") -> None:
        """Keeps a fact, if the component may set it."""
        if self._component is not None and kind not in self._component.facts:
            raise WorkflowError(f"{self._component.name} sets facts of kind {kind!r}", found="it does not say so")
        self.facts[subject, kind] = value

    def dictionary(self, key: str) -> Any:
        """A value of the project's dictionary."""
        return Dictionary(self.project / ".penstock")[key]

    def secret(self, name: str) -> str:
        """A secret, kept among the `hidden`."""
        value = find_secret(self.project / ".penstock", name)
        self.hidden.append(value)
        return value

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Keeps progress."""
        self.told.append((done, total, note))

    def log(self, line: str) -> None:
        """Keeps a line."""
        self.lines.append(line)

    def _outputs(self) -> Iterator[tuple[str, Any]]:
        for name, kind in self._files.items():
            path = self.folder / "outputs" / name
            if not path.exists():
                raise WorkflowError(f"output {name!r} is written", found="nothing there")
            yield name, Artifact(kind=kind, uri=path.as_uri(), version=content_hash(path))
        yield from self.values.items()

    def _check(self, name: str) -> None:
        if self._component is not None and not {name, "*"} & self._component.outputs.keys():
            raise WorkflowError(f"{self._component.name} has an output {name!r}", found="none of that name")
