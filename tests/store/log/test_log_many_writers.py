from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.clock import WallClock
from penstock.errors import StoreError
from penstock.store.log import Log, ProducerId, TopicConfig
from penstock.testing import log_writer

SCHEMA = pa.schema([("thread", pa.int64()), ("n", pa.int64())])
WRITER = [sys.executable, "-m", "penstock.testing.log_writer"]


def test_threads_share_commits_and_keep_their_order(tmp_path: Path) -> None:
    with Log.open(tmp_path / "log", clock=WallClock()) as log:
        topic = log.create_topic("t", SCHEMA, TopicConfig(partitions=2))

        def produce(thread: int) -> None:
            for n in range(40):
                batch = pa.record_batch({"_event_time": [1], "thread": [thread], "n": [n]})
                topic.append(batch, producer=ProducerId(f"p{thread}"), sequence=n, partition=thread % 2)

        threads = [threading.Thread(target=produce, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for partition in (0, 1):
            rows = topic.read(partition, 0).rows
            assert len(rows) == 240
            known = rows["_known_time"].to_pylist()
            assert known == sorted(known) and len(set(known)) == topic.heads()[partition].n_records < 240
            for number in range(partition, 12, 2):
                mine = rows.filter(pa.compute.equal(rows["thread"], number))
                assert mine["n"].to_pylist() == list(range(40))


def test_a_promised_frontier_holds_against_writers_in_other_processes(tmp_path: Path) -> None:
    """While three processes append, the frontier is asked again and again: no row known at or before it comes after."""
    path = tmp_path / "log"
    with Log.open(path, clock=WallClock()) as log:
        topic = log.create_topic(log_writer.TOPIC, log_writer.SCHEMA, TopicConfig(ids=True, dedup_us=60_000_000))
        writers = [subprocess.Popen([*WRITER, str(path), name, "60", "3"], stdout=subprocess.DEVNULL) for name in "abc"]
        promises: list[tuple[int, int]] = []
        position, n_rows = topic.start(), 0
        while any(writer.poll() is None for writer in writers) or topic.is_beyond(position):
            for batch in topic.tail(position, timeout_s=0):
                n_rows += len(batch.rows)
                if promises:
                    assert min(batch.rows["_known_time"].to_pylist()) > max(us for _, us in promises[-3:])
                position = position.moved(0, batch.next_offset)
            promises.append((position.offsets[0], topic.frontier(position)[0]))
        assert [writer.wait() for writer in writers] == [0, 0, 0]
        assert n_rows == 3 * 60 * 3
        rows = topic.read(0, 0, max_rows=10_000).rows
        known = dict(zip(rows["_offset"].to_pylist(), rows["_known_time"].to_pylist(), strict=True))
        assert len(promises) > 5
        assert all(known[offset] > us for offset, us in promises if offset in known)


def test_a_waiting_reader_is_woken_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Log.open(path, clock=WallClock()) as log:
        topic = log.create_topic(log_writer.TOPIC, log_writer.SCHEMA, TopicConfig(ids=True, dedup_us=60_000_000))
        writer = subprocess.Popen([*WRITER, str(path), "a", "1"], stdout=subprocess.DEVNULL)
        assert topic.wait(topic.start(), timeout_s=60)
        assert writer.wait() == 0
        assert not topic.wait(topic.end(), timeout_s=0.01)


def test_a_reader_that_died_is_not_rung_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Log.open(path, clock=WallClock()) as log:
        topic = log.create_topic("t", SCHEMA)
        program = (
            "import sys; from penstock.clock import WallClock; from penstock.store.log import Log\n"
            "log = Log.open(sys.argv[1], clock=WallClock()); topic = log.topic('t')\n"
            "print('waiting', flush=True); topic.wait(topic.end(), 60)"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None and reader.stdout.readline() == "waiting\n"
            deadline = time.monotonic() + 30
            while not list((path / "wake").iterdir()) and time.monotonic() < deadline:
                time.sleep(0.01)
            reader.kill()
        topic.append(pa.record_batch({"_event_time": [1], "thread": [1], "n": [1]}))
        assert not list((path / "wake").iterdir())


def test_the_map_grows_while_others_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log whose map starts tiny takes rows beyond it, with a second process and a reading thread attached."""
    monkeypatch.setattr("penstock.store.log.embedded.environment._FIRST_MAP_BYTES", 1 << 20)
    path = tmp_path / "log"
    with Log.open(path, clock=WallClock()) as log:
        topic = log.create_topic("t", SCHEMA)
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                topic.read(0, 0, max_rows=10)

        reader = threading.Thread(target=read)
        reader.start()
        batch = pa.record_batch({"_event_time": [1] * 5_000, "thread": [1] * 5_000, "n": [1] * 5_000})
        for _ in range(30):
            topic.append(batch)
        other = subprocess.run([*WRITER, str(path), "a", "5"], capture_output=True, check=False)
        assert other.returncode == 0, other.stderr
        stop.set()
        reader.join()
        assert topic.end().offsets == (150_000,)
        assert log.env.map_bytes >= 4 << 20


def test_one_durability_within_a_process(tmp_path: Path) -> None:
    with (
        Log.open(tmp_path / "log", clock=WallClock(), durability="process") as first,
        Log.open(tmp_path / "log", clock=WallClock(), durability="process") as second,
    ):
        first.create_topic("t", SCHEMA)
        assert second.topics() == first.topics() and second.log_id == first.log_id
        with pytest.raises(StoreError, match="one durability"):
            Log.open(tmp_path / "log", clock=WallClock())


def test_a_missing_or_newer_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no log in"):
        Log.open(tmp_path / "none", clock=WallClock(), create=False)
    assert not (tmp_path / "none").exists()
    with Log.open(tmp_path / "log", clock=WallClock()) as log:

        def newer(txn: object) -> None:
            about = bytes(txn.get(b"about", db=log.env.db["about"]))  # type: ignore[attr-defined]
            txn.put(b"about", about.replace(b'"format":1', b'"format":2'), db=log.env.db["about"])  # type: ignore[attr-defined]

        log.env.update(newer)
        with pytest.raises(StoreError, match="found format 2"):
            Log.open(tmp_path / "log", clock=WallClock())
    (tmp_path / "log" / "group-0" / "data.mdb").write_bytes(b"not a log" * 1000)
    with pytest.raises(StoreError, match="damaged or of another program"):
        Log.open(tmp_path / "log", clock=WallClock())
