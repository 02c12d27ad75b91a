"""The replay's workflow: each day of questions to live state is asked again of history, once the day's events are in.

import replay_workflow
replay = replay_workflow.replay(start="2013-03-01")
"""

from __future__ import annotations

from typing import Any

import penstock as ps


def replay(start: str) -> Any:
    """A run for each local day of events, from the first: the live job's watermark tells the time, not the clock."""
    flow = ps.workflow(
        "replay",
        every="1d",
        zone="America/New_York",
        by="watermark(live)",
        start=start,
        overlap="parallel",
        limit=2,
        owner="@ops-ml",
    )
    flow.stream("live", ps.component("feature_live", serve=["rich"]))
    # stream -> batch: an hour beyond the day, none of its questions is still on its way
    check = flow.batch("check", ps.component("feature_check"), when="watermark(live) >= end + 1h")
    # batch -> batch
    parts = {name: check[name] for name in ("reads", "values", "different", "examples")}
    flow.batch("verdict", verdict, after=check, inputs=parts)
    return flow


def verdict(reads: int, values: int, different: int, examples: list[str]) -> str:
    """A line for the day; fails with the first differences if there are any."""
    line = f"{reads} reads, {values} values, {different} different"
    if different:
        raise ValueError("\n".join([line, *examples]))
    return line
