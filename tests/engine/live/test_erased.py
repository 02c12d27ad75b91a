from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import penstock.define as ps
from penstock.clock import WallClock
from penstock.define.project import Definitions
from penstock.engine.live.erased import is_clean, state_directories
from penstock.engine.live.job import LiveJob, Options
from penstock.engine.online import Online
from penstock.errors import StoreError
from penstock.plan import plan
from penstock.plan.ir import Plan
from penstock.semantics.columns import EVENT_TIME
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.store.log.interface import Topic

SECRET, VALUE = "ada-lovelace-1815", "a note that only ada wrote"


def notes() -> Plan:
    """Under the person's own key, under a key that others share, joined, and chained."""
    schema = {"who": "text", "shop": "int", "note": "text", "at": "instant"}
    ev = ps.stream("ev", time="at", schema=schema)
    by_who = ev.by("who").features("by_who", n=ps.count(), notes=ps.last_n(3, "note"))
    by_shop = ev.by("shop").features("by_shop", n=ps.count(), who=ps.last("who"), notes=ps.last_n(3, "note"))
    seen = ev.join(ev, on="who", within="1h", name="seen", others=ps.count())
    chained = seen.by("shop").features("chained", n=ps.count(), last=ps.last("note"))
    return plan(Definitions.of(by_who, by_shop, chained))


def append(topic: Topic, clock: WallClock, who: str, note: str, *, n: int = 1) -> None:
    t = pa.array([clock.now_us()] * n)
    columns = {"who": [who] * n, "shop": [1] * n, "note": [note] * n, "at": t.cast(pa.timestamp("us", tz="UTC"))}
    topic.append(pa.table({**columns, EVENT_TIME: t}))


def holding(folder: Path, *texts: str) -> list[str]:
    """The files at or below a folder that hold one of the texts as bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(text.encode() in path.read_bytes() for text in texts)]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    with EmbeddedLog.open(tmp_path / "log", clock=WallClock(), durability="process") as opened:
        yield opened


def a_job(planned: Plan, log: EmbeddedLog, folder: Path) -> LiveJob:
    """With its memory in the state directory, so that one search finds it."""
    options = Options(memory_dir=folder / "state", reserve_bytes=1 << 28, poll_s=0.01)
    (folder / "state").mkdir(exist_ok=True)
    return LiveJob(planned, log, folder / "state", WallClock(), emit=("seen", "chained"), options=options)


def filled(planned: Plan, log: EmbeddedLog) -> Topic:
    clock, source = WallClock(), planned.relations["ev"]
    topic = log.create_topic(source.name, source.schema.arrow)  # type: ignore[union-attr]
    append(topic, clock, "bob", "bob's")
    append(topic, clock, SECRET, VALUE, n=3)
    append(topic, clock, "bob", "bob's again")
    return topic


def test_a_stopped_job_holds_nothing_of_an_erased_key_and_begins_anew(tmp_path: Path, log: EmbeddedLog) -> None:
    planned, state = notes(), tmp_path / "state"
    topic = filled(planned, log)
    job = a_job(planned, log, tmp_path)
    job.drain()
    job.checkpoint(wait=True)
    append(topic, WallClock(), SECRET, VALUE)
    job.drain()  # in the journal, behind the checkpoint
    job.close()
    assert any(name.startswith("image") for name in holding(state, SECRET)) and holding(state, VALUE)
    assert is_clean(state, [topic]), "nothing was erased yet"
    topic.erase({"who": SECRET}, reason="asked", author="@dpo")
    assert state_directories(tmp_path) == [state]
    assert is_clean(state, [topic]) and not holding(state, SECRET, VALUE)
    with pytest.raises(StoreError, match="start it"):
        Online(planned, state, WallClock())
    again = a_job(planned, log, tmp_path)
    again.drain()
    again.checkpoint(wait=True)
    online = Online(planned, state, WallClock())
    assert online.group("by_who", SECRET).table(statuses=True).to_pylist()[0]["n:status"] == "unseen"
    assert online.group("by_shop", 1).columns["n"].to_pylist() == [2]
    online.close()
    again.close()
    assert is_clean(state, [topic]) and not holding(state, SECRET, VALUE)


def test_a_job_that_was_killed_begins_anew_though_nobody_threw_its_state_away(tmp_path: Path, log: EmbeddedLog) -> None:
    planned, state = notes(), tmp_path / "state"
    topic = filled(planned, log)
    job = a_job(planned, log, tmp_path)
    job.drain()
    job.close()  # a journal, and no checkpoint
    topic.erase({"who": SECRET}, reason="asked", author="@dpo")
    again = a_job(planned, log, tmp_path)
    again.drain()
    again.checkpoint(wait=True)
    assert again.metrics.replayed == 0
    again.close()
    assert not holding(state, SECRET, VALUE)
    third = a_job(planned, log, tmp_path)
    third.drain()
    assert third.metrics.rows_in == 0, "the state of after the erasure is gone on with"
    third.close()


def test_a_running_job_makes_its_state_again_while_readers_go_on(tmp_path: Path, log: EmbeddedLog) -> None:
    planned, state = notes(), tmp_path / "state"
    topic = filled(planned, log)
    job = a_job(planned, log, tmp_path)
    runner = threading.Thread(target=job.run)
    runner.start()
    try:
        while job.metrics.rows_in < 5:
            time.sleep(0.01)
        online = Online(planned, state, WallClock())
        assert online.group("by_who", SECRET).columns["n"].to_pylist() == [3]
        assert holding(state, SECRET)
        topic.erase({"who": SECRET}, reason="asked", author="@dpo")
        while not is_clean(state, [topic]):
            assert online.group("by_shop", 1).columns["n"].to_pylist()[0] in (5, 2)
            time.sleep(0.01)
        assert not holding(state, SECRET, VALUE)
        assert online.group("by_who", SECRET).table(statuses=True).to_pylist()[0]["n:status"] == "unseen"
        assert online.group("by_shop", 1).columns["n"].to_pylist() == [2]
        append(topic, WallClock(), "bob", "after", n=2)
        while online.group("by_shop", 1).columns["n"].to_pylist() != [4]:
            time.sleep(0.01)
        online.close()
    finally:
        job.stop()
        runner.join()
    assert job.metrics.begun_anew == 1
    assert not holding(state, SECRET, VALUE)
