"""Rows of the workflow tables as frozen data: what the scheduler thinks in is what is stored.

A row's class says which table it lies in, its key, the columns that never change, and the columns that a change
compares first. Texts named `parameters`, `outputs`, `value` and the like hold JSON. Instants are UTC microseconds.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple

import msgspec

__all__ = [
    "ROWS",
    "AttemptRow",
    "ConsumptionRow",
    "CoverageRow",
    "DefinitionRow",
    "FactRow",
    "IntervalRow",
    "LeaseRow",
    "NodeRow",
    "OutboxRow",
    "PoolRow",
    "Row",
    "RowChange",
    "RunRow",
    "StreamRow",
    "WorkflowRow",
    "key_of",
]


class Row(msgspec.Struct, frozen=True):
    """A row; its fields are the columns, in order."""

    TABLE: ClassVar[str] = ""
    KEY: ClassVar[tuple[str, ...]] = ()
    FIXED: ClassVar[tuple[str, ...]] = ()
    """Columns, besides the key, that never change after the row was made."""
    EXPECT: ClassVar[tuple[str, ...]] = ()
    """Columns that must still be as they were when the change was decided."""


class RowChange(NamedTuple):
    """A row as it was and as it shall be: None before makes it, None after removes it."""

    before: Row | None
    after: Row | None


class DefinitionRow(Row, frozen=True):
    """A version of a definition; a workflow's is stored under `workflow/NAME`."""

    TABLE = "definitions"
    KEY = ("name", "version")
    FIXED = ("fingerprint", "spec", "author", "reason", "created_us")

    name: str
    version: int
    fingerprint: str
    spec: str
    author: str
    reason: str
    created_us: int


class WorkflowRow(Row, frozen=True):
    """A workflow: its newest version, and how far its schedule has fired."""

    TABLE = "workflows"
    KEY = ("name",)
    EXPECT = ("revision",)

    name: str
    state: str
    """`active`, `paused` or `retired`."""
    version: int
    revision: int
    cursor_us: int
    """The schedule has fired up to here."""
    code: str
    components: str
    """Versions of the components by name, as of the last apply."""
    applied_us: int
    truths: str
    """Truth of each condition that makes runs, when it was last looked at."""


class RunRow(Row, frozen=True):
    """A run: frozen definition, parameters, code and component versions."""

    TABLE = "runs"
    KEY = ("run",)
    FIXED = (
        "workflow", "version", "trigger", "overlap_key", "priority", "seq", "interval_start_us", "interval_end_us",
        "parameters", "code", "components", "origin", "author", "reason", "created_us",
    )  # fmt: skip
    EXPECT = ("state", "epoch")

    run: str
    workflow: str
    version: int
    trigger: str
    """What made it: the name of a trigger, `schedule`, `manual` or `rerun`."""
    overlap_key: str
    priority: int
    seq: int
    """Grows with every run of the deployment."""
    interval_start_us: int | None
    interval_end_us: int | None
    parameters: str
    code: str
    components: str
    origin: str
    """The run that this one runs again."""
    author: str
    reason: str
    created_us: int
    state: str
    epoch: int
    started_us: int | None
    ended_us: int | None
    error: str


class NodeRow(Row, frozen=True):
    """A node of a run, with its present attempt."""

    TABLE = "node_runs"
    KEY = ("run", "node")
    FIXED = ("workflow", "created_us")
    EXPECT = ("state", "epoch")

    run: str
    node: str
    workflow: str
    created_us: int
    state: str
    epoch: int
    attempt: int
    failures: int
    """Attempts that failed; the others were lost with their worker."""
    worker: str
    ready_us: int | None
    started_us: int | None
    ended_us: int | None
    retry_us: int | None
    late_us: int | None
    """When its deadline passed."""
    outputs: str
    facts: str
    """What it told with its end, by kind, for predicates of the same run."""
    error: str
    origin: str
    """The run whose result it took over."""


class AttemptRow(Row, frozen=True):
    """An attempt that did not end well and was followed by another; the last one stands in the node's row."""

    TABLE = "attempts"
    KEY = ("run", "node", "attempt")
    FIXED = ("epoch", "outcome", "worker", "started_us", "ended_us", "error")

    run: str
    node: str
    attempt: int
    epoch: int
    outcome: str
    worker: str
    started_us: int | None
    ended_us: int
    error: str


class FactRow(Row, frozen=True):
    """The newest value of a fact."""

    TABLE = "facts"
    KEY = ("subject", "kind", "scope")
    EXPECT = ("seq",)

    subject: str
    kind: str
    scope: str
    seq: int
    value: str
    epoch: int
    """Of its maker, with `position`: a report that is not newer changes nothing."""
    position: int
    at_us: int


class IntervalRow(Row, frozen=True):
    """A partition of event time that a batch node has done; done again, it has a row with a larger seq."""

    TABLE = "intervals"
    KEY = ("subject", "start_us", "end_us", "seq")
    FIXED = ("zone", "run", "at_us")

    subject: str
    start_us: int
    end_us: int
    seq: int
    zone: str
    run: str
    at_us: int


class CoverageRow(Row, frozen=True):
    """A range of event time that a batch node has done without a gap: the union of its intervals, kept small."""

    TABLE = "coverage"
    KEY = ("subject", "start_us")
    EXPECT = ("end_us",)

    subject: str
    start_us: int
    end_us: int


class ConsumptionRow(Row, frozen=True):
    """A value that a trigger has seen, and what became of it: `waiting`, `consumed`, `superseded` or `skipped`."""

    TABLE = "consumptions"
    KEY = ("workflow", "trigger", "scope", "revision")
    FIXED = ("value", "at_us")
    EXPECT = ("state",)

    workflow: str
    trigger: str
    scope: str
    revision: int
    """The seq of the fact, or the instant of a schedule."""
    value: str
    at_us: int
    state: str
    run: str


class StreamRow(Row, frozen=True):
    """A stream node: what is wanted of it, and what was last seen of it. Its job is named `workflow.node`."""

    TABLE = "streams"
    KEY = ("job",)
    FIXED = ("workflow", "node")
    EXPECT = ("revision",)

    job: str
    workflow: str
    node: str
    version: int
    desired: str
    """`running` or `stopped`."""
    gate: str
    """`open`, or `held` while an edge of action gate is not true."""
    generation: int
    """Grows when a process started before must give way to a new one."""
    number: int
    """Of the last command."""
    edges: str
    """Truth of each edge when it was last looked at, and up to which seq."""
    epoch: int
    state: str
    error: str
    revision: int
    updated_us: int


class LeaseRow(Row, frozen=True):
    """Who holds what, fenced by an epoch: a job's process, its restarts, what is needed to find it again."""

    TABLE = "leases"
    KEY = ("name",)
    EXPECT = ("epoch", "revision")

    name: str
    epoch: int
    revision: int
    holder: str
    until_us: int
    details: str


class OutboxRow(Row, frozen=True):
    """An effect decided with the changes of its transaction, kept until it is answered."""

    TABLE = "outbox"
    KEY = ("id",)
    FIXED = ("kind", "body", "created_us")

    id: str
    kind: str
    body: str
    created_us: int


class PoolRow(Row, frozen=True):
    """How many tasks of a pool may be out together."""

    TABLE = "pools"
    KEY = ("name",)
    EXPECT = ("slots",)

    name: str
    slots: int


ROWS: Final[tuple[type[Row], ...]] = (
    DefinitionRow, WorkflowRow, RunRow, NodeRow, AttemptRow, FactRow, IntervalRow, ConsumptionRow, StreamRow, LeaseRow,
    OutboxRow, PoolRow, CoverageRow,
)  # fmt: skip


def key_of(row: Row) -> tuple[Any, ...]:
    """The table and primary key of a row."""
    return (type(row).TABLE, *(getattr(row, name) for name in type(row).KEY))
