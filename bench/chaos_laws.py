"""What must hold after `bench.chaos`: read from the database and from what tasks and streams themselves wrote."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.chaos_project import CAPS, POOL, TRIGGERED

__all__ = ["Asked", "left_behind", "violations"]

REFUSAL_NS = 3_000_000_000
"""For so long a stream process that was given up may go on writing before it hears so."""
BEGUN_US = 500_000
"""A body that began so shortly after its node was done elsewhere had been let go before."""


class Asked(NamedTuple):
    """What was asked of the deployment, and answered: runs by id, ids of signals, runs that were to be killed."""

    runs: set[str]
    signals: set[str]
    kills: set[str]


class _Body(NamedTuple):
    run: str
    node: str
    attempt: int
    began_us: int
    ended_us: int | None


def violations(project: Path, asked: Asked) -> list[str]:
    """Every law that does not hold, in words; empty when all do."""
    database = sqlite3.connect(project / ".penstock" / "meta.db")
    database.row_factory = sqlite3.Row
    tables = {name: [dict(row) for row in database.execute(f"SELECT * FROM {name}")] for name in _TABLES}
    database.close()
    bodies = list(_bodies(project / "said"))
    return [
        *_runs_end(tables, asked),
        *_triggers(tables, asked),
        *_caps(tables, bodies),
        *_finished_once(project, tables, bodies),
        *_streams(project, tables),
        *left_behind(project),
    ]


_TABLES = ("runs", "node_runs", "attempts", "consumptions", "intervals", "streams", "outbox", "workflows")
_Rows = dict[str, list[dict[str, Any]]]


def _bodies(folder: Path) -> Iterator[_Body]:
    for file in folder.iterdir():
        run, node, attempt, _ = file.name.split("~")
        begun: dict[str, int] = {}
        for line in file.read_text().splitlines():
            word, of, at = line.split()
            if word == "begin":
                begun[of] = int(at)
            elif word == "end":
                yield _Body(run, node, int(attempt), begun.pop(of), int(at))
        for at_us in begun.values():
            yield _Body(run, node, int(attempt), at_us, None)


def _runs_end(tables: _Rows, asked: Asked) -> Iterator[str]:
    there = {row["run"]: row for row in tables["runs"]}
    yield from (f"run {run} was asked for and is not there" for run in sorted(asked.runs - there.keys()))
    ended = ("done", "failed", "killed", "superseded")
    yield from (f"run {r['run']} is {r['state']}" for r in there.values() if r["state"] not in ended)
    for row in tables["node_runs"]:
        if row["state"] not in ("done", "failed", "killed", "skipped"):
            yield f"node {row['run']}/{row['node']} is {row['state']}"
    yield from (f"run {run} was to be killed and is {there[run]['state']}" for run in sorted(asked.kills & there.keys())
                if there[run]["workflow"] == "slow" and there[run]["state"] != "killed")  # fmt: skip
    for run in there.values():
        losses = "it was lost" in run["error"]  # its workers died more often than a task is given out again
        if run["state"] == "failed" and not losses:
            yield f"run {run['run']} failed: {run['error']}"
    yield from (f"outbox row {row['id']} was never answered" for row in tables["outbox"])


def _triggers(tables: _Rows, asked: Asked) -> Iterator[str]:
    consumed = defaultdict(list)
    for row in tables["consumptions"]:
        consumed[row["workflow"]].append(row)
        if row["state"] != "consumed":
            yield f"a value of {row['workflow']} is {row['state']}"
    for workflow, rows in consumed.items():
        named = [row["run"] for row in rows]
        made = [r["run"] for r in tables["runs"] if r["workflow"] == workflow and r["trigger"] not in _ASKED]
        if len(set(named)) != len(named) or set(named) != set(made):
            yield f"{workflow}: {len(named)} values, {len(set(named))} runs named, {len(made)} runs made"
    if (found := len(consumed["signalled"])) != len(asked.signals):
        yield f"{len(asked.signals)} signals, {found} consumed"
    told = sum(r["workflow"] == "every" and r["state"] == "done" for r in tables["node_runs"])
    if (found := len(consumed["counted"])) != told:
        yield f"{told} done nodes told rows, {found} consumed"
    for workflow, step_us in (("every", 2_000_000), ("ticks", 4_000_000)):
        ends = sorted(row["revision"] for row in consumed[workflow])
        if ends and ends != list(range(ends[0], ends[-1] + 1, step_us)):
            yield f"{workflow}: its intervals have a gap: {ends}"
        cursor = next(row["cursor_us"] for row in tables["workflows"] if row["name"] == workflow)
        if ends and ends[-1] != cursor:
            yield f"{workflow} stands at {cursor}, its last run is for {ends[-1]}"
    assert set(TRIGGERED) <= CAPS.keys()


_ASKED = ("manual", "rerun")


def _most(spans: Iterable[tuple[int, int]]) -> int:
    """The most spans that overlap; one that ends where another begins does not."""
    steps = sorted([(high, -1) for _, high in spans] + [(low, 1) for low, _ in spans])
    most = now = 0
    for _, change in steps:
        now += change
        most = max(most, now)
    return most


def _caps(tables: _Rows, bodies: list[_Body]) -> Iterator[str]:
    for workflow, cap in CAPS.items():
        spans = [
            (row["started_us"], row["ended_us"])
            for row in tables["runs"]
            if row["workflow"] == workflow and row["started_us"] is not None and row["ended_us"] is not None
        ]
        if (most := _most(spans)) > cap:
            yield f"{most} runs of {workflow} went on together, {cap} may"
    spans = [
        (b.began_us, b.ended_us)
        for b in bodies
        if b.ended_us is not None and b.run.startswith("fan.") and b.node != "end"
    ]
    if (most := _most(spans)) > POOL[1]:
        yield f"{most} bodies of pool {POOL[0]} ran together, {POOL[1]} may"


def _finished_once(project: Path, tables: _Rows, bodies: list[_Body]) -> Iterator[str]:
    of = defaultdict(list)
    for body in bodies:
        of[body.run, body.node].append(body)
    for row in tables["node_runs"]:
        name, mine = f"{row['run']}/{row['node']}", of.pop((row["run"], row["node"]), [])
        outputs = project / ".penstock" / "outputs" / row["run"] / row["node"]
        found = sorted(path.name for path in outputs.iterdir()) if outputs.exists() else []
        if row["state"] != "done":
            if found:
                yield f"{name} is {row['state']} and has outputs {found}"
            continue
        if row["workflow"] == "slow":
            continue
        made = outputs / str(row["attempt"]) / "made"
        if found != [str(row["attempt"])] or made.read_text().split() != [row["run"], row["node"], str(row["attempt"])]:
            yield f"{name} is done in attempt {row['attempt']} and has outputs {found}"
        if not any(b.attempt == row["attempt"] and b.ended_us is not None for b in mine):
            yield f"{name} is done in attempt {row['attempt']}, which no body says it ended"
        late = [b.attempt for b in mine if b.began_us > row["ended_us"] + BEGUN_US or b.attempt > row["attempt"]]
        if late:
            yield f"{name} was done in attempt {row['attempt']}, and began again in {late}"
    yield from (f"bodies of {run}/{node}, which is not on record" for run, node in of)


def _streams(project: Path, tables: _Rows) -> Iterator[str]:
    for row in tables["streams"]:
        journal = project / ".penstock" / "streams" / row["job"] / "journal"
        lines = [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []
        began: dict[int, int] = {}
        process: dict[int, str] = {}
        position = 0
        for epoch, pid, second, at, _ in ((int(a), b, int(c), int(d), e) for a, b, c, d, e in lines):
            began.setdefault(epoch, at)
            newest = max(began)
            if epoch < newest and at > began[newest] + REFUSAL_NS:
                yield f"{row['job']}: epoch {epoch} wrote {(at - began[newest]) / 1e9:.1f} s after {newest} began"
            if process.setdefault(epoch, pid) != pid:
                yield f"{row['job']}: two processes of epoch {epoch} wrote"
            if epoch == newest and second < position:
                yield f"{row['job']}: epoch {epoch} went back from {position} to {second}"
            position = max(position, second)
        if began and max(began) > row["epoch"]:
            yield f"{row['job']}: epoch {max(began)} wrote, {row['epoch']} is the newest on record"


def left_behind(project: Path) -> Iterator[str]:
    """Processes and folders of tasks that have ended; to be asked when nothing runs."""
    staged = project / ".penstock" / "staged"
    if staged.exists():
        yield from (f"staged {path.relative_to(staged)}" for path in staged.glob("*/*"))
    for file in project.glob("pids.*"):
        pid = int(file.read_text() or "0")
        if pid and Path(f"/proc/{pid}").exists() and f"{project}".encode() in _environment(pid):
            yield f"process {pid} of {file.name} lives"


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes() if pid != os.getpid() else b""
    except OSError:
        return b""
