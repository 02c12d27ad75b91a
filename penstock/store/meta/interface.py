"""What a metadata store promises: definitions in versions, jobs, sinks, an audit; changes compare first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from penstock.names import Fingerprint

__all__ = ["AuditEntry", "Definition", "Job", "Meta", "SinkRecord"]


@dataclass(frozen=True, slots=True)
class Definition:
    """A version of a definition: what it was, who changed it, why and when."""

    name: str
    version: int
    fingerprint: Fingerprint
    spec: str
    author: str
    reason: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Job:
    """A running or finished job: the plan it runs, and its state; `revision` counts its changes from 1."""

    job: str
    plan: Fingerprint
    state: str
    revision: int
    updated_us: int


@dataclass(frozen=True, slots=True)
class SinkRecord:
    """How far a lake table follows its topic; a copy of the log's own note, to list all of them."""

    table: str
    topic: str
    position: str
    version: int
    updated_us: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that must stay on record: an erasure, a leak allowed, a promotion."""

    number: int
    kind: str
    subject: str
    details: str
    author: str
    reason: str
    at_us: int


@runtime_checkable
class Meta(Protocol):
    """Metadata of a deployment."""

    def put_definition(
        self, name: str, fingerprint: Fingerprint, spec: str, *, author: str, reason: str, expect: int
    ) -> Definition:
        """Adds a version after version `expect`, 0 for the first; the same fingerprint again adds none."""
        ...

    def get_definition(self, name: str, version: int | None = None) -> Definition | None:
        """A version, the newest by default; None if there is none."""
        ...

    def list_definitions(self, name: str | None = None) -> list[Definition]:
        """All versions of a name in order, or the newest version of every name."""
        ...

    def put_job(self, job: str, plan: Fingerprint, state: str, *, expect: int) -> Job:
        """Sets a job's plan and state if its revision is `expect`, 0 for a new one."""
        ...

    def get_job(self, job: str) -> Job | None:
        """A job, or None."""
        ...

    def list_jobs(self, state: str | None = None) -> list[Job]:
        """All jobs by name, or those in a state."""
        ...

    def put_sink(self, table: str, topic: str, position: str, version: int) -> SinkRecord:
        """Notes how far a table follows its topic; it never goes back to an older version."""
        ...

    def list_sinks(self) -> list[SinkRecord]:
        """All tables that follow a topic."""
        ...

    def add_audit(self, kind: str, subject: str, details: str, *, author: str, reason: str) -> AuditEntry:
        """Puts something on record."""
        ...

    def list_audit(self, kind: str | None = None, subject: str | None = None) -> list[AuditEntry]:
        """What is on record, oldest first."""
        ...

    def close(self) -> None:
        """Lets go."""
        ...
