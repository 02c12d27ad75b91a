"""Logs: topics of rows in the order in which they became known. `Log.open` opens the embedded one."""

from __future__ import annotations

from penstock.store.log.embedded.log import EmbeddedLog as Log
from penstock.store.log.embedded.topic import EmbeddedTopic as Topic
from penstock.store.log.interface import (
    Append,
    AppendResult,
    Confirmation,
    DeadLetter,
    Erasure,
    LogBatch,
    Position,
    ProducerId,
    Refused,
    Retention,
    TopicConfig,
    TopicCounts,
)

__all__ = [
    "Append",
    "AppendResult",
    "Confirmation",
    "DeadLetter",
    "Erasure",
    "Log",
    "LogBatch",
    "Position",
    "ProducerId",
    "Refused",
    "Retention",
    "Topic",
    "TopicConfig",
    "TopicCounts",
]
