"""What a component is: one class with a name, parameters that are a form, and `run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

__all__ = ["Artifact", "BatchComponent", "BatchContext", "Parameters", "StreamComponent", "StreamContext"]


class Parameters(BaseModel):
    """Parameters of a component; the JSON Schema of the subclass is the node's form."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Artifact(BaseModel):
    """A typed reference to something a node made: a table, a file, a model, a sample set.

    `kind` is one of `file`, `folder`, `table`, `model`, `samples`; `uri` says where it lies; `version` is the table's
    or model's, or a content hash.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["file", "folder", "table", "model", "samples"]
    uri: str
    version: str = ""


class BatchContext(Protocol):
    """What a batch component may see and do while it runs. One attempt of one node of one run."""

    run: str
    node: str
    attempt: int
    idempotency_key: str
    """The same for every attempt of this node in this run; external effects receive it."""
    interval_start_us: int | None
    interval_end_us: int | None
    inputs: Mapping[str, Any]
    """Values and artifacts by input name, of nodes that are done."""
    project: Path
    """The project's folder; a task starts in a private folder of its own."""

    def output(self, name: str, kind: Literal["file", "folder"] = "file") -> Path:
        """A staged place to write output `name`; it becomes visible if and only if this attempt's end is accepted."""
        ...

    def put(self, name: str, value: Any) -> None:
        """Sets output `name`: a small JSON value, or an `Artifact`. The last one set counts."""
        ...

    def fact(self, kind: str, value: Any, *, subject: str = "") -> None:
        """A fact (`rows`, `quality`, `snapshot`, `model`) of this node, in effect with this attempt's end."""
        ...

    def dictionary(self, key: str) -> Any:
        """A run-time value, read now.

        Raises:
            WorkflowError: there is no such key.
        """
        ...

    def secret(self, name: str) -> str:
        """A secret; it is struck out of this task's log.

        Raises:
            WorkflowError: there is no such secret.
        """
        ...

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Tells how far the work is; shown, not stored for ever."""
        ...

    def log(self, line: str) -> None:
        """A line for the node's log; standard output and error go there as well."""
        ...


class BatchComponent:
    """A node that runs to an end. Subclass it, name it, offer it by the entry-point group `penstock.components`."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    kind: ClassVar[Literal["batch"]] = "batch"
    parameters: ClassVar[type[Parameters]] = Parameters
    outputs: ClassVar[Mapping[str, str]] = {}
    """Output name -> kind of artifact, or a JSON type (`integer`, `number`, `string`, `boolean`, `object`, `array`)."""
    facts: ClassVar[tuple[str, ...]] = ()
    """Kinds of facts the node may set, besides `status` and `interval`, which every batch node has."""
    preload: ClassVar[tuple[str, ...]] = ()
    """Modules a warm worker may import once, before it forks for this component; they must start no threads."""
    example: ClassVar[Mapping[str, Any] | None] = None
    """Parameters that work in any project: shown where the component is chosen, and run by its conformance suite."""

    def run(self, context: BatchContext, parameters: Any) -> None:
        """Does the work; an exception is a failure of this attempt. May run more than once, takes effect once."""
        raise NotImplementedError


class StreamContext(Protocol):
    """What a stream component may see and do. It holds the lease (job, epoch) for as long as it runs."""

    job: str
    epoch: int
    project: Path
    folder: Path
    """Kept from start to start of the same job: the place for state."""

    def report(self, kind: str, value: Any, *, subject: str = "") -> None:
        """Tells progress: `watermark`, `frontier`, `offset`, `rows`, `lag`.

        Cheap to call for every batch: it is sent on at once when a threshold that somebody waits for is crossed, and
        otherwise once a second.
        """
        ...

    def commands(self) -> list[str]:
        """What is asked of it now, oldest first: `stop`, `drain`, `reload`, `pause`, `resume`; mostly nothing."""
        ...

    def wait(self, timeout_us: int) -> None:
        """Sleeps until something is asked, or for so long."""
        ...


class StreamComponent:
    """A node that runs on until it is told to stop."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    kind: ClassVar[Literal["stream"]] = "stream"
    parameters: ClassVar[type[Parameters]] = Parameters
    facts: ClassVar[tuple[str, ...]] = ("watermark", "frontier", "offset", "rows", "lag")

    def run(self, context: StreamContext, parameters: Any) -> None:
        """Runs until `stop` or `drain` is asked; returns then. An exception is a crash: restarted within its budget."""
        raise NotImplementedError
