"""Replays flights through the live engine, and asks live state and history the same questions.

Three parts at once: this process replays the files into the log in the order in which the rows became known, and asks
the view `rich` for every flight due within the hour; a process of its own runs the live job; at the end the history
engine answers all the questions again, from the log, by the positions that the live answers came from.

    python examples/flights/replay.py [--from 2013-03-01] [--to 2013-04-01] [--data DIR] [--report FILE.json]
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from penstock.clock import ReplayClock
from penstock.doors.deployment import Deployment
from penstock.engine.history import History, LogRows
from penstock.engine.live.job import LiveJob
from penstock.engine.online import Online
from penstock.plan.ir import SourcePlan
from penstock.store.log import Topic

HERE = Path(__file__).parent
WORK = HERE / ".demo"
HOUR_US = 3_600_000_000
VIEW = "rich"
TIMES = {"schedule": "scheduled_at", "departures": "departed_at", "weather": "observed_at"}
FLOAT_BOUND = 1e-9


@dataclass
class Asked:
    """The questions put to live state, and what it said.

    Attributes:
        requests: what was asked, with `q` in microseconds; vectors: the positions of each answer.
    """

    requests: list[pa.Table] = field(default_factory=list)
    answers: list[pa.Table] = field(default_factory=list)
    vectors: list[Mapping[tuple[str, int], int]] = field(default_factory=list)
    read_ms: list[float] = field(default_factory=list)
    fresh_ms: list[float] = field(default_factory=list)


def prepare(data: Path, first: date, last: date) -> None:
    """A project of its own under `.demo`: these definitions, and the span's rows of the three logs."""
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "data").mkdir(parents=True)
    for name in ("definitions.py", "penstock.lock"):
        shutil.copy(HERE / name, WORK / name)
    since, until = (datetime.combine(day, datetime.min.time(), UTC) for day in (first, last))
    for name, column in TIMES.items():
        table = pq.read_table(data / f"{name}.parquet")
        inside = pc.and_(pc.greater_equal(table[column], since), pc.less(table[column], until))
        pq.write_table(table.filter(inside), WORK / "data" / f"{name}.parquet")


def live() -> None:
    """The live job, until it is told to stop."""
    with Deployment(WORK) as deployment:
        job = LiveJob(deployment.plan, deployment.log, deployment.state / "live", deployment.clock, serve=[VIEW])
        signal.signal(signal.SIGTERM, lambda *_: job.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("ready", flush=True)
        job.run()


def due(schedule: pa.Table, after_us: int, until_us: int) -> pa.Table:
    """Flights whose hour before departure began in (after, until]."""
    asking = pc.subtract(schedule["scheduled_at"].cast(pa.int64()), HOUR_US)
    return schedule.filter(pc.and_(pc.greater(asking, after_us), pc.less_equal(asking, until_us)))


def ask(online: Online, flights: pa.Table, now_us: int, asked: Asked) -> None:
    """Asks live state for all of these flights at once."""
    began_s = time.perf_counter()
    found = online.view(VIEW, flights.drop_columns(["flight_id", "flight"]), q_us=now_us)
    asked.read_ms.append((time.perf_counter() - began_s) * 1e3)
    q = pa.repeat(pa.scalar(found.q_us, pa.int64()), flights.num_rows)
    asked.requests.append(flights.append_column("q", q))
    asked.answers.append(pa.table(dict(found.columns)))
    vector = {(name, partition): at for name, ends in found.positions.items() for partition, at in enumerate(ends)}
    asked.vectors += [vector] * flights.num_rows


def wait_for(online: Online, topics: Mapping[str, Topic]) -> float:
    """Until live state has taken every row that is in the log now; the milliseconds it took."""
    began_s = time.perf_counter()
    ends = {name: topic.end().offsets for name, topic in topics.items()}
    while any(list(online.moment().positions.get(name, [0] * len(end))) < list(end) for name, end in ends.items()):
        if time.perf_counter() - began_s > 30:
            sys.exit("the live job does not come on: see its output above")
        time.sleep(0.0005)
    return (time.perf_counter() - began_s) * 1e3


def replay(deployment: Deployment, clock: ReplayClock, console: Console) -> tuple[Asked, int, float]:
    """Replays everything; the questions asked, the rows replayed and the seconds it took."""
    asked, rows, began_s = Asked(), 0, time.perf_counter()
    schedule = pq.read_table(WORK / "data" / "schedule.parquet")
    topics = {name: deployment.topic(name) for name in ("departures", "weather")}
    online: Online | None = None
    n_rows = sum(pq.read_metadata(WORK / "data" / f"{name}.parquet").num_rows for name in TIMES)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("replaying", total=n_rows)
        former_us = 0
        for step in deployment.replay(["schedule", "departures", "weather"], clock=clock, step_rows=1_024).steps():
            rows += step.rows
            if online is None:
                online = Online(deployment.plan, deployment.state / "live", clock)
            fresh_ms = wait_for(online, topics)
            if step.results["departures"].accepted:
                asked.fresh_ms.append(fresh_ms)
            flights = due(schedule, former_us, step.known_us)
            if flights.num_rows:
                ask(online, flights, step.known_us, asked)
            former_us = step.known_us
            at = datetime.fromtimestamp(step.known_us / 1e6, UTC)
            progress.update(task, completed=rows, description=f"replaying  {at:%Y-%m-%d %H:%M}")
    assert online is not None, "the logs of this span hold no rows"
    online.close()
    return asked, rows, time.perf_counter() - began_s


def differences(live_says: pa.ChunkedArray, history_says: pa.ChunkedArray) -> Iterator[int]:
    """Places where two columns differ; floats within 1e-9 are equal (docs/design/time.md, Values)."""
    for i, (mine, theirs) in enumerate(zip(live_says.to_pylist(), history_says.to_pylist(), strict=True)):
        if isinstance(mine, float) and isinstance(theirs, float):
            if abs(mine - theirs) > FLOAT_BOUND * max(1.0, abs(theirs)):
                yield i
        elif mine != theirs:
            yield i


def compare(deployment: Deployment, asked: Asked, console: Console) -> tuple[int, int, float]:
    """Asks history everything again; how many values were compared, how many differ, and the seconds it took."""
    sources = [r for r in deployment.plan.relations.values() if isinstance(r, SourcePlan)]
    history = History(deployment.plan, {s.name.name: LogRows(deployment.log.topic(s.name)) for s in sources})
    requests, answers = pa.concat_tables(asked.requests), pa.concat_tables(asked.answers)
    began_s = time.perf_counter()
    again = history.view(VIEW, requests, a=asked.vectors).table()
    took_s = time.perf_counter() - began_s
    different = 0
    for name in answers.column_names:
        for i in differences(answers[name], again[name]):
            different += 1
            if different <= 5:
                flight, mine, theirs = requests["flight_id"][i], answers[name][i], again[name][i]
                console.print(f"[red]different: flight {flight} {name}: live {mine}, history {theirs}")
    return answers.num_rows * answers.num_columns, different, took_s


def quantiles(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def run(console: Console) -> dict[str, Any]:
    """The whole demonstration; its figures."""
    clock = ReplayClock(0)
    with Deployment(WORK, clock) as deployment:
        for name in TIMES:
            deployment.topic(name)
        command = [sys.executable, __file__, "--live"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
            assert job.stdout is not None
            if job.stdout.readline().strip() != "ready":
                sys.exit("the live job did not start: see its output above")
            try:
                asked, rows, took_s = replay(deployment, clock, console)
            finally:
                job.send_signal(signal.SIGTERM)
        compared, different, history_s = compare(deployment, asked, console)
    fresh, read = quantiles(asked.fresh_ms), quantiles(asked.read_ms)
    questions = len(asked.vectors)
    return {
        "rows_replayed": rows,
        "replay_s": round(took_s, 2),
        "rows_per_s": round(rows / took_s),
        "questions": questions,
        "questions_per_read": round(questions / max(1, len(asked.read_ms)), 1),
        "read_ms_p50": round(read[0], 2),
        "read_ms_p99": round(read[1], 2),
        "fresh_ms_p50": round(fresh[0], 1),
        "fresh_ms_p99": round(fresh[1], 1),
        "history_s": round(history_s, 2),
        "values_compared": compared,
        "values_different": different,
    }


def show(figures: Mapping[str, Any], console: Console) -> None:
    """The figures in words."""
    f = figures
    console.print(f"replayed   {f['rows_replayed']:,} rows in {f['replay_s']} s, {f['rows_per_s']:,} rows/s")
    console.print(f"freshness  {f['fresh_ms_p50']} ms median, {f['fresh_ms_p99']} ms p99, append to readable")
    console.print(
        f"online     {f['questions']:,} flights, {f['questions_per_read']} a read: "
        f"{f['read_ms_p50']} ms median, {f['read_ms_p99']} ms p99"
    )
    console.print(f"history    the same questions by the positions of the answers, in {f['history_s']} s")
    colour = "green" if not f["values_different"] else "red"
    console.print(f"[{colour}]compared   {f['values_compared']:,} values, {f['values_different']} different")


def main() -> int:
    """Exit code 0 when no value differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2013, 3, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=None)
    parser.add_argument("--data", type=Path, default=HERE / "data")
    parser.add_argument("--report", type=Path, default=None)
    parser.add_argument("--live", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.live:
        live()
        return 0
    console = Console()
    prepare(options.data, options.first, options.last or options.first + timedelta(days=31))
    figures = run(console)
    show(figures, console)
    if options.report:
        options.report.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if figures["values_different"] else 0


if __name__ == "__main__":
    sys.exit(main())
