"""Replays flights under `penstock up`: live state and history are asked the same questions, and must agree.

This process is the world: it brings the rows of the files into the log in the order in which they became known, and
asks the view `rich` online for every flight due within the hour. The deployment does the rest, by the workflow in
`replay_workflow.py`: it keeps the live job, and as the watermark passes each day it asks history all of the day's
questions again, by the positions that the live answers came from.

    python examples/flights/replay.py [--from 2013-03-01] [--to 2013-04-01] [--data DIR] [--work DIR] [--report FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from penstock.cli.remote import Remote
from penstock.clock import ReplayClock
from penstock.doors.deployment import Deployment
from penstock.engine.online import Online, ReadLog
from penstock.errors import PenstockError
from penstock.store.log import Topic

HERE = Path(__file__).parent
ZONE = ZoneInfo("America/New_York")
HOUR_US = 3_600_000_000
BEYOND = timedelta(hours=12)  # rows after the last day, so that the watermark passes its end
VIEW = "rich"
TIMES = {"schedule": "scheduled_at", "departures": "departed_at", "weather": "observed_at"}
STEP_ROWS = 512
PATIENCE_S = 60.0
ENDED = ("done", "failed", "killed", "superseded")


@dataclass(frozen=True)
class Span:
    """Days in New York, the last one excluded."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days

    @property
    def ends(self) -> list[datetime]:
        """Where the first and the last day begin, in UTC."""
        return [datetime.combine(day, datetime.min.time(), ZONE).astimezone(UTC) for day in (self.first, self.last)]


@dataclass
class Seen:
    """What the world saw: rows brought in, flights asked for, how long each took."""

    rows: int = 0
    questions: int = 0
    took_s: float = 0.0
    read_ms: list[float] = field(default_factory=list)
    fresh_ms: list[float] = field(default_factory=list)


def penstock(*arguments: str, work: Path) -> list[str]:
    """A command of Penstock on the project."""
    return [sys.executable, "-m", "penstock.cli", *arguments, "--project", str(work)]


def prepare(data: Path, work: Path, span: Span) -> None:
    """A project of its own: these definitions with the replay's workflow, and the span's rows of the three logs."""
    if work.exists() and not (work / "replay_workflow.py").exists():
        sys.exit(f"{work} is not a replay's folder, and would be made anew: name another")
    if (work / ".penstock" / "run" / "up.json").exists():  # a replay that was killed has left it
        subprocess.run(penstock("down", work=work), capture_output=True, check=False)
    shutil.rmtree(work, ignore_errors=True)
    (work / "data").mkdir(parents=True)
    for name in ("replay_workflow.py", "penstock.lock"):
        shutil.copy(HERE / name, work / name)
    workflow = f'\nimport replay_workflow\n\nreplay = replay_workflow.replay(start="{span.first}")\n'
    (work / "definitions.py").write_text((HERE / "definitions.py").read_text() + workflow)
    first, last = span.ends
    for name, column in TIMES.items():
        table = pq.read_table(data / f"{name}.parquet")
        inside = pc.and_(pc.greater_equal(table[column], first), pc.less(table[column], last + BEYOND))
        pq.write_table(table.filter(inside), work / "data" / f"{name}.parquet")


def until(holds: Callable[[], Any], what: str) -> Any:
    """What holds, as soon as it does."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        try:
            if found := holds():
                return found
        except PenstockError:  # not there yet
            pass
        time.sleep(0.02)
    sys.exit(f"{what} does not come within {PATIENCE_S:.0f} s: see up.log and .penstock in the replay's folder")


@contextmanager
def deployed(work: Path) -> Iterator[Remote]:
    """The deployment, up with its live job running; ended in any case."""
    with (work / "up.log").open("wb") as log:
        up = subprocess.Popen(
            penstock("up", "--port", "0", "--ingest-port", "0", work=work),
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this process, which ends the deployment then
        )
    try:
        until(
            lambda: up.poll() is not None or any(j["state"] == "running" for j in Remote(work).get("jobs")),
            "the live job",
        )
        if up.poll() is not None:
            sys.exit(f"penstock up: {(work / 'up.log').read_text()}")
        yield Remote(work)
    finally:
        if up.poll() is None:
            subprocess.run(penstock("down", work=work), stdout=subprocess.DEVNULL, check=False)
            up.terminate()
        up.wait()


def due(schedule: pa.Table, after_us: int, until_us: int) -> pa.Table:
    """Flights whose hour before departure began in (after, until]."""
    asking = pc.subtract(schedule["scheduled_at"].cast(pa.int64()), HOUR_US)
    return schedule.filter(pc.and_(pc.greater(asking, after_us), pc.less_equal(asking, until_us)))


def ask(online: Online, flights: pa.Table, now_us: int, seen: Seen) -> None:
    """Asks live state for all of these flights at once."""
    began_s = time.perf_counter()
    online.view(VIEW, flights.drop_columns(["flight_id", "flight"]), q_us=now_us)
    seen.read_ms.append((time.perf_counter() - began_s) * 1e3)
    seen.questions += flights.num_rows


def wait_for(online: Online, topics: Mapping[str, Topic]) -> float:
    """Until live state has taken every row that is in the log now; the milliseconds it took."""
    began_s = time.perf_counter()
    ends = {name: topic.end().offsets for name, topic in topics.items()}
    while any(list(online.moment().positions.get(name, [0] * len(end))) < list(end) for name, end in ends.items()):
        if time.perf_counter() - began_s > PATIENCE_S:
            sys.exit("the live job does not come on: see `streams` in .penstock in the replay's folder")
        time.sleep(0.0005)
    return (time.perf_counter() - began_s) * 1e3


def ended(remote: Remote) -> list[dict[str, Any]]:
    """The runs that have ended."""
    return [run for run in remote.get("runs", workflow="replay", limit=1000) if run["state"] in ENDED]


class Shown:
    """The progress bars: rows brought in, and days checked."""

    def __init__(self, console: Console, remote: Remote, rows: int, days: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} {task.fields[of]}"))
        self.bars = Progress(*columns, TimeElapsedColumn(), console=console)
        self._remote, self._next_s = remote, 0.0
        self._rows: TaskID = self.bars.add_task("replaying", total=rows, of="rows")
        self._days: TaskID = self.bars.add_task("history asked again", total=days, of="days")

    def replayed(self, rows: int, now_us: int) -> None:
        at = datetime.fromtimestamp(now_us / 1e6, UTC)
        self.bars.update(self._rows, completed=rows, description=f"replaying {at:%Y-%m-%d %H:%M}")
        if time.monotonic() >= self._next_s:
            self.checked()

    def checked(self) -> int:
        self._next_s = time.monotonic() + 0.5
        n = len(ended(self._remote))
        self.bars.update(self._days, completed=n)
        return n


def replay(deployment: Deployment, clock: ReplayClock, span: Span, shown: Shown) -> Seen:
    """Replays everything and asks for every flight of the span."""
    schedule = pq.read_table(deployment.root / "data" / "schedule.parquet")
    topics = {name: deployment.topic(name) for name in ("departures", "weather")}
    first_us, last_us = (round(end.timestamp()) * 1_000_000 for end in span.ends)
    reads, seen = ReadLog(deployment.reads), Seen()
    online: Online = until(lambda: deployment.online(reads), "the live job's state")
    former_us, began_s = 0, time.perf_counter()
    for step in deployment.replay(list(TIMES), clock=clock, step_rows=STEP_ROWS).steps():
        seen.rows += step.rows
        fresh_ms = wait_for(online, topics)
        if step.results["departures"].accepted:
            seen.fresh_ms.append(fresh_ms)
        flights = due(schedule, former_us, step.known_us)
        if flights.num_rows and first_us <= step.known_us < last_us:
            ask(online, flights, step.known_us, seen)
        former_us = step.known_us
        shown.replayed(seen.rows, step.known_us)
    seen.took_s = time.perf_counter() - began_s
    online.close()
    reads.close()
    return seen


def wait_for_days(remote: Remote, days: int, shown: Shown) -> list[dict[str, Any]]:
    """Until every day has been checked; the runs with their nodes, oldest first."""
    n, since_s = -1, time.monotonic()
    while (now := shown.checked()) < days:
        if now != n:
            n, since_s = now, time.monotonic()
        if time.monotonic() - since_s > PATIENCE_S:
            sys.exit(f"{now} of {days} days are checked, and no more come: penstock why RUN, in the replay's folder")
        time.sleep(0.1)
    runs = [remote.get(f"runs/{run['run']}") for run in ended(remote)]
    return sorted(runs, key=lambda run: int(run["interval_end_us"]))


def quantiles(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def run(work: Path, span: Span, console: Console) -> dict[str, Any]:
    """The whole demonstration; its figures."""
    clock = ReplayClock(0)
    with deployed(work) as remote, Deployment(work, clock) as deployment:
        rows = sum(pq.read_metadata(work / "data" / f"{name}.parquet").num_rows for name in TIMES)
        shown = Shown(console, remote, rows, span.days)
        with shown.bars:
            seen = replay(deployment, clock, span, shown)
            began_s = time.perf_counter()
            runs = wait_for_days(remote, span.days, shown)
    checks = [node for one in runs for node in one["nodes"] if node["node"] == "check"]
    told = [node["outputs"] for node in checks if node["state"] == "done"]
    fresh, read = quantiles(seen.fresh_ms), quantiles(seen.read_ms)
    return {
        "rows_replayed": seen.rows,
        "replay_s": round(seen.took_s, 2),
        "rows_per_s": round(seen.rows / seen.took_s),
        "questions": seen.questions,
        "questions_per_read": round(seen.questions / max(1, len(seen.read_ms)), 1),
        "read_ms_p50": round(read[0], 2),
        "read_ms_p99": round(read[1], 2),
        "fresh_ms_p50": round(fresh[0], 1),
        "fresh_ms_p99": round(fresh[1], 1),
        "runs": len(runs),
        "runs_done": sum(one["state"] == "done" for one in runs),
        "last_run_s": round(time.perf_counter() - began_s, 2),
        "check_s": round(sum(node["ended_us"] - node["started_us"] for node in checks) / 1e6, 2),
        "questions_checked": sum(one["reads"] for one in told),
        "values_compared": sum(one["values"] for one in told),
        "values_different": sum(one["different"] for one in told),
        "errors": [node["error"] for one in runs for node in one["nodes"] if node["error"]],
    }


def show(figures: Mapping[str, Any], console: Console) -> bool:
    """The figures in words; whether all is well."""
    f = figures
    console.print(f"replayed   {f['rows_replayed']:,} rows in {f['replay_s']} s, {f['rows_per_s']:,} rows/s")
    console.print(f"freshness  {f['fresh_ms_p50']} ms median, {f['fresh_ms_p99']} ms p99, append to readable")
    console.print(
        f"online     {f['questions']:,} flights, {f['questions_per_read']} a read: "
        f"{f['read_ms_p50']} ms median, {f['read_ms_p99']} ms p99"
    )
    console.print(
        f"workflow   {f['runs']} runs, {f['runs_done']} done; the last {f['last_run_s']} s after the last row"
    )
    well = f["runs_done"] == f["runs"] and not f["values_different"] and f["questions_checked"] == f["questions"]
    for error in f["errors"][:5]:
        console.print(error, style="red", markup=False)
    console.print(
        f"compared   {f['questions_checked']:,} of {f['questions']:,} answers, {f['values_compared']:,} values: "
        f"{f['values_different']} differ from history",
        style="green" if well else "red",
    )
    return well


def span_of(options: argparse.Namespace) -> Span:
    """The days that were asked for; the rows of 2013 must reach beyond the last."""
    span = Span(options.first, options.last or options.first + timedelta(days=31))
    if not date(2013, 1, 1) <= span.first < span.last <= date(2013, 12, 31):
        sys.exit(f"the days to replay lie between 2013-01-01 and 2013-12-31: found {span.first} to {span.last}")
    return span


def main() -> int:
    """Exit code 0 when no value differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2013, 3, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=None)
    parser.add_argument("--data", type=Path, default=HERE / "data")
    parser.add_argument("--work", type=Path, default=HERE / ".demo", help="made anew, and left with all that was done")
    parser.add_argument("--report", type=Path, default=None)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the deployment is ended
    console, span = Console(), span_of(options)
    try:
        work = options.work.resolve()
        prepare(options.data, work, span)
        figures = run(work, span, console)
    except KeyboardInterrupt:
        return 130
    well = show(figures, console)
    if options.report:
        options.report.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
