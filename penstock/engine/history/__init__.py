"""The plan at the tempo of history: point in time for any table of (keys, q, a)."""

from __future__ import annotations

from penstock.engine.history.answers import Status
from penstock.engine.history.explain import Explanation, Reason
from penstock.engine.history.history import History, Places
from penstock.engine.history.results import Result
from penstock.engine.history.run import Progress
from penstock.engine.history.sources import (
    ArrowRows,
    BatchRows,
    LakeRows,
    LogRows,
    ParquetRows,
    Resolver,
    Rows,
    resolver_of,
)

__all__ = [
    "ArrowRows",
    "BatchRows",
    "Explanation",
    "History",
    "LakeRows",
    "LogRows",
    "ParquetRows",
    "Places",
    "Progress",
    "Reason",
    "Resolver",
    "Result",
    "Rows",
    "Status",
    "resolver_of",
]
