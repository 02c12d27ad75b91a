"""Metadata of a deployment: definitions in versions, jobs, sinks, the audit, and the rows of workflows."""

from __future__ import annotations

from penstock.store.meta.interface import AuditEntry, Definition, Job, SinkRecord
from penstock.store.meta.rows import Row, RowChange
from penstock.store.meta.rows_store import ConflictError, RowStore
from penstock.store.meta.sql import SqlMeta as Meta
from penstock.store.meta.workflow_tables import WORKFLOW_TABLES

__all__ = [
    "WORKFLOW_TABLES",
    "AuditEntry",
    "ConflictError",
    "Definition",
    "Job",
    "Meta",
    "Row",
    "RowChange",
    "RowStore",
    "SinkRecord",
]
