"""A brute-force statement of `time.md`: obviously right rather than fast. Every engine is tested against it."""

from __future__ import annotations

from penstock.testing.oracle.answers import Answer, Oracle
from penstock.testing.oracle.folds import Cell
from penstock.testing.oracle.labels import Sample, samples
from penstock.testing.oracle.rows import Door, Knowledge, Log, Own, Reached, Row, is_known, visible
from penstock.testing.oracle.windows import calendar_start, hop_us

__all__ = [
    "Answer",
    "Cell",
    "Door",
    "Knowledge",
    "Log",
    "Oracle",
    "Own",
    "Reached",
    "Row",
    "Sample",
    "calendar_start",
    "hop_us",
    "is_known",
    "samples",
    "visible",
]
