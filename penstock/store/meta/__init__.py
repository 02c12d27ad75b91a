"""Metadata of a deployment: definitions in versions, jobs, sinks, the audit. `Meta.open` opens it on SQL."""

from __future__ import annotations

from penstock.store.meta.interface import AuditEntry, Definition, Job, SinkRecord
from penstock.store.meta.sql import SqlMeta as Meta

__all__ = ["AuditEntry", "Definition", "Job", "Meta", "SinkRecord"]
