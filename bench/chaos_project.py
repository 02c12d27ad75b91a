"""The project that `bench.chaos` kills: tasks and streams that write down what they did, each to a file of its own."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CAPS", "POOL", "TRIGGERED", "write_project"]

CAPS = {"fan": 2, "chain": 3, "retries": 2, "every": 2, "signalled": 3, "counted": 2, "ticks": 3, "slow": 4}
"""Runs of each workflow that may go on together."""
POOL = ("narrow", 2)
"""The pool of the fan's nodes, and its slots."""
TRIGGERED = ("signalled", "counted")
"""Workflows that facts start, a run for each value."""

_TASKS = '''
"""What the nodes do: work a little, and say when, so that a death in the middle leaves its beginning."""

import hashlib
import os
import time

import penstock as ps
from penstock.clock import WallClock


def said(context, word, of):
    folder = context.project / "said"
    name = f"{context.run}~{context.node}~{context.attempt}~{os.getpid()}"
    out = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(out, f"{word} {of} {WallClock().now_us()}\\n".encode())
    os.close(out)


def body(context, most_s):
    of = time.monotonic_ns()
    said(context, "begin", of)
    part = hashlib.blake2b(f"{context.run}/{context.node}".encode(), digest_size=2).digest()
    time.sleep(most_s * (int.from_bytes(part, "big") % 100) / 100)
    context.output("made").write_text(f"{context.run} {context.node} {context.attempt}")
    said(context, "end", of)
    return context.attempt


def work(context, most_s=0.3):
    return body(context, most_s)


def hand_on(context, before=0):
    body(context, 0.1)
    return before + 1


def sometimes(context):
    """Fails twice."""
    found = list((context.project / "said").glob(f"{context.run}~{context.node}~*"))
    if sum("fail" in file.read_text() for file in found) < 2:
        said(context, "fail", time.monotonic_ns())
        raise RuntimeError("not yet")
    return body(context, 0.1)


def count(context):
    context.fact("rows", context.interval_end_us // 1_000_000)
    return body(context, 0.2)
'''

_TICKER = '''
"""A stream that goes on where its last process was, and writes down each step with its epoch."""

import os
import time

from penstock.components.contract import Parameters, StreamComponent


class Ticker(StreamComponent):
    """Ticks."""

    name = "ticker"
    parameters = Parameters

    def run(self, context, parameters):
        journal = os.open(context.folder / "journal", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        lines = os.pread(journal, 1 << 26, 0).decode().splitlines()
        second = int(lines[-1].split()[2]) if lines else 1_000_000_000
        while True:
            for command in context.commands():
                os.write(journal, f"{context.epoch} {os.getpid()} {second} {time.monotonic_ns()} {command}\\n".encode())
                if command in ("stop", "drain"):
                    return
            second += 1
            os.write(journal, f"{context.epoch} {os.getpid()} {second} {time.monotonic_ns()} tick\\n".encode())
            context.report("watermark", second * 1_000_000)
            context.wait(400_000)
'''

_DEFINITIONS = '''
"""Every kind of run, edge and trigger, under load."""

import tasks

import penstock as ps

tries = {"retries": 20, "retry_wait": "50ms"}

fan = ps.workflow("fan", overlap="parallel", limit=2)
parts = [fan.batch(f"n{i}", tasks.work, pool="narrow", **tries) for i in range(12)]
fan.batch("end", tasks.work, after=parts, **tries)

chain = ps.workflow("chain", overlap="parallel", limit=3)
last = chain.batch("n0", tasks.hand_on, **tries)
for i in range(1, 8):
    last = chain.batch(f"n{i}", tasks.hand_on, after=last, inputs={"before": last["result"]}, **tries)

retries = ps.workflow("retries", overlap="parallel", limit=2)
retries.batch("stubborn", tasks.sometimes, **tries)

slow = ps.workflow("slow", overlap="parallel", limit=4)
slow.batch("long", ps.component("shell", command="echo $$ > $PENSTOCK_PROJECT/pids.$PENSTOCK_RUN; sleep 60"), **tries)

every = ps.workflow("every", every="2s", overlap="parallel", limit=2)
every.batch("count", tasks.count, **tries)

signalled = ps.workflow("signalled", on="signal(go)", overlap="parallel", limit=3)
signalled.batch("n0", tasks.work, **tries)

counted = ps.workflow("counted", on="rows(every.count)", overlap="parallel", limit=2)
counted.batch("n0", tasks.work, **tries)

ticks = ps.workflow("ticks", every="4s", by="watermark(ticker)", overlap="parallel", limit=3)
ticks.stream("ticker", ps.component("ticker"))
done = ticks.batch("n0", tasks.work, when="watermark(ticker) >= end", **tries)
ticks.stream("board", ps.component("ticker"), reload=done)
'''


def write_project(folder: Path) -> None:
    """Writes the project."""
    (folder / "components").mkdir(parents=True)
    (folder / "said").mkdir()
    (folder / "tasks.py").write_text(_TASKS)
    (folder / "components" / "ticker.py").write_text(_TICKER)
    (folder / "definitions.py").write_text(_DEFINITIONS)
