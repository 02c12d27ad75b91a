"""The project that `bench.workflow` runs: no-op tasks that say when they began and ended, and a stream that ticks."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_project"]

_TASKS = '''
"""What the nodes do: nothing, and say when."""

import time


def nothing():
    began = time.monotonic_ns()
    return [began, time.monotonic_ns()]
'''

_TICKER = '''
"""A stream whose watermark grows by a second at each tick; it says when it told each."""

import time

from penstock.components.contract import Parameters, StreamComponent


class Ticker(StreamComponent):
    """Ticks."""

    name = "ticker"
    parameters = Parameters

    def run(self, context, parameters):
        with open(context.folder / "ticks", "a", buffering=1) as ticks:
            for second in range(1_000_000_000, 1_000_100_000):
                for command in context.commands():
                    if command in ("stop", "drain"):
                        return
                print(second, time.monotonic_ns(), file=ticks)
                context.report("watermark", second * 1_000_000)
                context.wait(100_000)
'''

_DEFINITIONS = '''
"""Shapes of workflows."""

import tasks

import penstock as ps

noop = ps.component("python", call="tasks:nothing")

fan = ps.workflow("fan", parameters={{}})
for i in range({fan}):
    fan.batch(f"n{{i}}", noop)

chain = ps.workflow("chain")
last = None
for i in range({chain}):
    last = chain.batch(f"n{{i}}", noop, **({{"after": last}} if last else {{}}))

many = ps.workflow("many", overlap="parallel", limit={runs})
root = many.batch("root", noop)
parts = [many.batch(f"p{{i}}", noop, after=root) for i in range(8)]
many.batch("end", noop, after=parts)

isolated = ps.workflow("isolated", overlap="parallel", limit=2)
for i in range({isolated}):
    isolated.batch(f"n{{i}}", noop, memory_mb=2048)

isolated_chain = ps.workflow("isolated_chain")
last = None
for i in range(20):
    last = isolated_chain.batch(f"n{{i}}", noop, memory_mb=2048, **({{"after": last}} if last else {{}}))

trigger = ps.workflow("trigger")
trigger.batch("n0", noop)
'''

_WATERMARK = """
ticks = ps.workflow("ticks", every="1s", by="watermark(ticker)", overlap="parallel", limit=10)
ticks.stream("ticker", ps.component("ticker"))
ticks.batch("n0", noop, when="watermark(ticker) >= end")
"""

_DAY = """
for i in range({workflows}):
    one = ps.workflow(f"w{{i}}", cron="{cron}", overlap="parallel", limit=100)
    for j in range({each}):
        one.batch(f"n{{j}}", noop)
"""


def write_project(
    folder: Path,
    *,
    fan: int = 1000,
    chain: int = 100,
    runs: int = 100,
    isolated: int = 60,
    watermark: bool = False,
    day: tuple[int, int, str] | None = None,
) -> None:
    """Writes the project.

    Args:
        fan, chain, isolated: nodes of these workflows.
        runs: of `many` that may go on together.
        watermark: with the stream that ticks.
        day: workflows, tasks of each run, and their cron.
    """
    (folder / "components").mkdir(parents=True)
    (folder / "tasks.py").write_text(_TASKS)
    (folder / "components" / "ticker.py").write_text(_TICKER)
    text = _DEFINITIONS.format(fan=fan, chain=chain, runs=runs, isolated=isolated)
    if watermark:
        text += _WATERMARK
    if day is not None:
        workflows, each, cron = day
        text += _DAY.format(workflows=workflows, each=each, cron=cron)
    (folder / "definitions.py").write_text(text)
