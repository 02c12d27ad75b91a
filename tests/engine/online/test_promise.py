from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from penstock.clock import WallClock
from penstock.doors.topics import topic_config
from penstock.engine.history import History, LogRows
from penstock.engine.online import Online, ReadLog, replay_check
from penstock.plan.ir import SourcePlan
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import Append
from tests.engine.online.worker import definitions

ROOT = Path(__file__).resolve().parents[3]
KEYS = 40
TABLE_KEYS = 50


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A live job in a process of its own, killed at the end."""
    places = [str(folder / name) for name in ("log", "state", "memory")]
    command = [sys.executable, "-m", "tests.engine.online.worker", *places]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as job:
        try:
            assert job.stdout is not None and job.stdout.readline() == "running\n"
            yield job
        finally:
            job.send_signal(signal.SIGKILL)


def events(rng: random.Random, n: int, first: int, now_us: int) -> pa.RecordBatch:
    rows = []
    for number in range(first, first + n):
        corrects = number > 50 and rng.random() < 0.2
        rows.append(
            {
                "_event_time": now_us - rng.choice((0, 0, 0, 1_000, 1_500_000, 30_000_000)),
                "_id": f"e{rng.randrange(number) if corrects else number}",
                "_op": rng.choice((1, 2)) if corrects else 0,
                "a": rng.randrange(KEYS),
                "x": rng.choice((None, 0.5, 1e16, 3.25)),
                "w": rng.choice(("a", "b", "ünï", None)),
            }
        )
    schema = [("_event_time", pa.int64()), ("_id", pa.string()), ("_op", pa.int8()), ("a", pa.int64())]
    batch = pa.RecordBatch.from_pylist(rows, pa.schema([*schema, ("x", pa.float64()), ("w", pa.string())]))
    at = batch.column("_event_time").cast(pa.timestamp("us", tz="UTC"))
    money = pa.array([None if i % 7 == 0 else Decimal(i) / 100 for i in range(n)], pa.decimal128(12, 2))
    ids = batch.column("_id")
    return batch.append_column("m", money).append_column("at", at).append_column("id", ids)


def snapshot(grade: int, now_us: int) -> pa.RecordBatch:
    """All grades of the table, anew."""
    n = TABLE_KEYS
    at = pa.array([now_us] * n, pa.timestamp("us", tz="UTC"))
    return pa.record_batch(
        {"_event_time": pa.array([now_us] * n), "g": list(range(n)), "grade": pa.array([grade] * n), "at": at}
    )


def follow_ups(rng: random.Random, n: int, now_us: int) -> pa.RecordBatch:
    """Something that happened to some keys since."""
    t = pa.array([now_us - rng.choice((0, 1_000, 20_000)) for _ in range(n)])
    a, y = [rng.randrange(KEYS) for _ in range(n)], [rng.randrange(9) for _ in range(n)]
    return pa.record_batch({"_event_time": t, "a": a, "y": y, "at": t.cast(pa.timestamp("us", tz="UTC"))})


def write(log: EmbeddedLog, stopping: threading.Event) -> None:
    rng, clock, first, grade = random.Random(5), WallClock(), 1, 0
    sources = {s.name.name: s for s in definitions().relations.values() if isinstance(s, SourcePlan)}
    ev, tab, after = sources["ev"], sources["tab"], sources["after"]
    while not stopping.is_set():
        n, grade = rng.randrange(1, 60), grade + 1
        log.append_all([Append(str(ev.name), _whole(ev, events(rng, n, first, clock.now_us())))])
        log.append_all([Append(str(tab.name), snapshot(grade, clock.now_us()))])
        log.append_all([Append(str(after.name), follow_ups(rng, n, clock.now_us()))])
        first += n
        stopping.wait(0.01)


def _whole(source: SourcePlan, batch: pa.RecordBatch) -> pa.RecordBatch:
    for column in source.schema.columns:
        if column.name not in batch.schema.names:
            batch = batch.append_column(column.name, pa.nulls(batch.num_rows, column.type.arrow))
    return batch


def ask(online: Online, rng: random.Random) -> tuple[set[int | None], int]:
    """Reads of the views, for one key or many, and of a group; the grades and the joined rows that it saw."""
    n = rng.choice((1, TABLE_KEYS))
    requests = [{"a": rng.randrange(KEYS + 2), "w": rng.choice(("a", "ünï", "none", None)), "g": g} for g in range(n)]
    answers = online.view("v", requests)
    ids = [rng.choice((None, f"e{rng.randrange(2_000)}")) for _ in range(n)]
    money = Decimal(rng.randrange(100)) / 100
    online.view("asking", [{"a": rng.randrange(KEYS), "m": money, "id": id} for id in ids])
    online.group("g", [rng.randrange(KEYS), None, 10**6])
    return set(answers.columns["grade"].to_pylist()), sum(answers.columns["hits.n_1min"].to_pylist())


def test_every_answer_is_history_at_its_positions_through_kills(tmp_path: Path) -> None:
    planned, rng, clock = definitions(), random.Random(3), WallClock()
    (tmp_path / "memory").mkdir()
    reads = ReadLog(tmp_path / "reads", max_bytes=200_000)
    stopping = threading.Event()
    with EmbeddedLog.open(tmp_path / "log", clock=clock, durability="process") as log:
        sources = [s for s in planned.relations.values() if isinstance(s, SourcePlan)]
        topics = {s.name.name: log.create_topic(s.name, s.schema.arrow, topic_config(s)) for s in sources}
        writer = threading.Thread(target=write, args=(log, stopping))
        writer.start()
        online, batches, torn, joined = None, set[int](), 0, 0
        try:
            for turn in (1, 2):
                with running(tmp_path):
                    online = online or Online(planned, tmp_path / "state", clock, reads=reads)
                    asked, until_s = 0, time.monotonic() + 20
                    while asked < 30 or (
                        time.monotonic() < until_s and (len(batches) <= 5 * turn or joined <= 10 * turn)
                    ):
                        grades, found = ask(online, rng)
                        asked, torn, joined = asked + 1, torn + (len(grades) > 1), joined + found
                        batches.add(online.moment().batch)
                for _ in range(5):  # the job is dead: what it committed last is still answered
                    torn += len(ask(online, rng)[0]) > 1
        finally:
            stopping.set()
            writer.join()
            if online is not None:
                online.close()
            reads.close()
        compared = replay_check(
            History(planned, {name: LogRows(topic) for name, topic in topics.items()}), reads.directory
        )
    assert joined > 10, "no joined rows were read"
    assert torn == 0, "a snapshot of a table was seen in part"
    assert len(batches) > 5
    assert compared.other_version == 0 and compared.reads > 500
    assert not compared.different, compared.examples
