"""Where rows are read from: sources as plug-ins."""

from __future__ import annotations

from penstock.doors.sources.interface import Options, SourcePlugin, SourcePosition, check_options
from penstock.doors.sources.registry import GROUP, BrokenSource, find_source, open_source, sources

__all__ = [
    "GROUP",
    "BrokenSource",
    "Options",
    "SourcePlugin",
    "SourcePosition",
    "check_options",
    "find_source",
    "open_source",
    "sources",
]
