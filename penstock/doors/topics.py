"""How a stream or table of the plan stands in the log."""

from __future__ import annotations

from typing import Final, Literal

from penstock.plan.ir import SourcePlan
from penstock.store.log import TopicConfig

__all__ = ["known_clock", "replayed", "topic_config"]

_ANY_US: Final = 2**62
"""Ahead of its known time by anything: where the definition says that the future is known."""


def replayed(source: SourcePlan) -> bool:
    """Whether rows happened before they are read, so that they are appended in the order of their known time."""
    return source.source.kind in ("files", "hive") and source.source.option("arrivals") != "watch"


def known_clock(source: SourcePlan) -> Literal["live", "source"]:
    """Whether known times come with the rows or from the log's clock.

    They come with the rows of files, of streams declared so, and of whatever is read with a declared known time;
    events sent by HTTP are known when the log takes them, unless the stream says clock="source".
    """
    if source.clock == "source" or source.source.kind in ("files", "hive"):
        return "source"
    return "source" if source.known is not None and source.source.kind != "http" else "live"


def topic_config(source: SourcePlan) -> TopicConfig:
    """The configuration of its topic. Rows of a table are versions by their key: its `op` is a column like others."""
    corrected = source.id is not None and source.op is not None
    return TopicConfig(
        clock=known_clock(source),
        ids=source.id is not None,
        dedup_us=source.dedup_us if source.id is not None else 0,
        corrected=corrected,
        corrected_us=source.corrected_us if corrected else None,
        max_ahead_us=_ANY_US if source.max_ahead_us is None else source.max_ahead_us,
    )
