"""The specification of a workflow: plain data with a published JSON Schema. Python and YAML are faces of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PlainSerializer, WithJsonSchema

from penstock.define.values import duration_us, format_duration
from penstock.errors import DefinitionError

__all__ = [
    "SPEC_FORMAT",
    "Consume",
    "Duration",
    "Edge",
    "Isolation",
    "Node",
    "Overlap",
    "Parameter",
    "Retry",
    "Schedule",
    "Trigger",
    "WorkflowSpec",
]

SPEC_FORMAT = 1


def _duration(value: str | int) -> int:
    try:
        found = duration_us(value)
    except DefinitionError as error:
        raise ValueError(f"{error.asked}; {error.remedy}") from error
    if found < 0:
        raise ValueError("a duration here is not negative")
    return found


Duration = Annotated[
    int,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["90s", "10min", "3h"], "title": "Duration"}),
]
"""Microseconds in Python; text such as "10min" in JSON and YAML."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Data):
    """A parameter of a run, with a type and, unless it must be given, a default."""

    name: str
    type: Literal["integer", "number", "string", "boolean", "date", "instant", "duration", "json"]
    default: JsonValue = None
    required: bool = False
    description: str = ""


class Schedule(_Data):
    """When runs are made by the clock: `every` for intervals of event time, or `cron` for instants."""

    every: str | None = None
    """A length ("15min", "1h") or a local calendar step ("1d", "1w", "1mo"); a run is made as its interval ends."""
    cron: str | None = None
    zone: str = "UTC"
    skipped: Literal["refuse", "after"] = "refuse"
    """A cron at a fixed time that a clock change skips is refused, or fires right after the change."""
    by: str | None = None
    """A fact, `watermark(x)` or `frontier(x)`, that tells the time instead of the clock: progress makes the runs."""
    start: str | None = None
    """The first instant, ISO 8601 with a zone; none is made before it. Default: when the workflow was applied."""


class Consume(_Data):
    """What one run takes of the values that wait: `each`, `coalesce`, `latest`, or a `window` of count or deadline."""

    how: Literal["each", "coalesce", "latest", "window"] = "each"
    count: int | None = Field(default=None, ge=1)
    deadline: Duration | None = None
    redone: bool = False
    """Fire also for a revision of something already consumed."""


class Trigger(_Data):
    """Makes runs out of facts: a new value of a fact (`snapshot(items)`), or a condition that comes true."""

    name: str
    on: str
    consume: Consume = Consume()


class Overlap(_Data):
    """What happens to a run that is made while others of the same workflow and key go on."""

    how: Literal["parallel", "queue", "priority", "skip_new", "replace_running", "keep_newest"] = "queue"
    limit: int = Field(default=1, ge=1)
    """How many runs of one key may go on together."""
    key: str | None = None
    """Name of a run parameter; each of its values has its own limit."""


class Retry(_Data):
    """Attempts after a failure, and the wait before each: `wait * factor ** (n - 1)`, at most `most`."""

    times: int = Field(default=0, ge=0)
    wait: Duration = 200_000
    factor: float = Field(default=2.0, ge=1.0)
    most: Duration = 600_000_000


class Isolation(_Data):
    """How a task is kept apart.

    By default a process serves one task after another, but never after one that left a trace in it. Each of these but
    `preload` gives the task a process that has served no other.
    """

    fresh: bool = False
    preload: tuple[str, ...] = ()
    """Modules loaded once, before processes are forked for such tasks; they must start no threads."""
    requirements: tuple[str, ...] = ()
    """Makes an own environment of these packages, kept by its lock hash."""
    memory_mb: int | None = Field(default=None, ge=1)
    cpu_s: int | None = Field(default=None, ge=1)


class Edge(_Data):
    """A predicate over facts and what it does to the node it stands on (`docs/design/workflow.md`, predicates).

    `start` lets a batch node begin in its run, or starts a stream; `gate` holds a stream (or a batch node) while it is
    false; `stop`, `restart`, `reload` act on a stream each time the predicate comes true anew.
    """

    action: Literal["start", "stop", "restart", "reload", "gate"] = "start"
    when: str


class Node(_Data):
    """A node: a component with its parameters, its inputs, and the edges into it."""

    name: str
    kind: Literal["batch", "stream"]
    component: str
    parameters: dict[str, JsonValue] = {}
    inputs: dict[str, str] = {}
    """Input name -> `node.output` of this workflow."""
    edges: tuple[Edge, ...] = ()
    retry: Retry = Retry()
    timeout: Duration | None = None
    deadline: Duration | None = None
    """Counted from the making of the run; passing it is a fact (`status` `late`) and an alert, not a kill."""
    priority: int = 0
    pool: str = "default"
    isolation: Isolation = Isolation()
    on_failure: Literal["fail", "continue"] = "fail"
    """`fail`: what comes after it does not run; `continue`: it does."""


class WorkflowSpec(_Data):
    """A workflow, whole."""

    format: Literal[1] = 1
    name: str
    owner: str | None = None
    purpose: str = ""
    runbook: str = ""
    schedule: Schedule | None = None
    triggers: tuple[Trigger, ...] = ()
    overlap: Overlap = Overlap()
    parameters: tuple[Parameter, ...] = ()
    nodes: tuple[Node, ...] = ()
    failure: Literal["stop", "finish"] = "finish"
    """After a node has failed: `finish` what does not depend on it, or `stop` all."""
    priority: int = 0
    timeout: Duration | None = None
    notes: dict[str, Any] = {}
    """Positions on a canvas and the like; not part of the fingerprint."""
