from __future__ import annotations

import random
import resource
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.clock import WallClock
from penstock.errors import StoreError
from penstock.store.log import Log, ProducerId, Topic
from penstock.testing import faults, log_writer

WRITER = [sys.executable, "-m", "penstock.testing.log_writer"]
N_ROWS = 10


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faults.build_recorder(tmp_path_factory.mktemp("recorder"))


def check(topic: Topic, acknowledged: dict[str, list[str]], slack: int) -> None:
    """Every acknowledged append is there once, at its offset, whole; at most `slack` others; known times rise."""
    start = topic.start().offsets[0]
    batch = topic.read(0, start, max_rows=1_000_000).rows
    stored = Counter(zip(batch["producer"].to_pylist(), batch["sequence"].to_pylist(), strict=True))
    assert set(stored.values()) <= {N_ROWS}
    assert len(set(batch["_id"].to_pylist())) == len(batch)
    offsets = {
        (p, s): o for p, s, o in zip(*(batch[c].to_pylist() for c in ("producer", "sequence", "_offset")), strict=True)
    }
    known = batch["_known_time"].to_pylist()
    assert known == sorted(known)
    assert len(set(known)) == len(stored)
    for producer, lines in acknowledged.items():
        for line in lines:
            sequence, first, _ = (int(word) for word in line.split())
            if first < start:
                continue
            assert stored[producer, sequence] == N_ROWS
            assert offsets[producer, sequence] == first + N_ROWS - 1
    n_appends = sum(topic.last_sequence(ProducerId(producer)) + 1 for producer in acknowledged)
    assert topic.end().offsets == (n_appends * N_ROWS,)
    n_acknowledged = sum(map(len, acknowledged.values()))
    assert n_acknowledged <= n_appends <= n_acknowledged + slack


def test_killed_writers_lose_and_double_nothing(tmp_path: Path) -> None:
    """Three processes append to one topic, one also trims it; each is killed at random, three times over."""
    path, rng = tmp_path / "log", random.Random(7)
    Log.open(path, clock=WallClock()).close()
    acknowledged: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    kills = 0
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            runs = {
                name: pool.submit(
                    faults.kill_at_line,
                    [*WRITER, str(path), name, "100000", str(N_ROWS), *(["20000"] if name == "c" else [])],
                    rng.randint(1, 25),
                )
                for name in acknowledged
            }
        kills += len(runs)
        for name, run in runs.items():
            lines = run.result().lines
            assert lines
            acknowledged[name] += lines
        with Log.open(path, clock=WallClock()) as log:
            check(log.topic(log_writer.TOPIC), acknowledged, slack=kills)


def test_a_power_cut_loses_nothing_acknowledged(tmp_path: Path, recorder: Path) -> None:
    """Unsynced writes dropped, torn and reordered at any moment: the log opens, with all that was acknowledged."""
    root, rng = tmp_path / "disk", random.Random(3)
    root.mkdir()
    environment = faults.recorded_environment(recorder, root, tmp_path / "journal")
    environment["PENSTOCK_ACKNOWLEDGED"] = str(root / "acknowledged")
    subprocess.run([*WRITER, str(root / "log"), "a", "25"], env=environment, check=True, stdout=subprocess.DEVNULL)
    recording = faults.Recording.read(tmp_path / "journal", root)
    ours = [i for i, event in enumerate(recording.events) if event.path.endswith("data.mdb")]
    assert len(ours) > 50
    for number, at in enumerate(sorted(rng.sample(ours, 25))):
        image = tmp_path / f"image-{number}"
        recording.image(at, image, rng)
        lines = recording.written(root / "acknowledged", at).decode().splitlines()
        if not lines:
            continue
        with Log.open(image / "log", clock=WallClock(), create=False) as log:
            topic = log.topic(log_writer.TOPIC)
            check(topic, {"a": lines}, slack=1)
            topic.append(log_writer.batch("b", 0, N_ROWS), producer=ProducerId("b"))


@pytest.mark.parametrize("disk_bytes", [20_000, 150_000, 400_000])
def test_a_full_disk_is_said_and_half_writes_nothing(tmp_path: Path, recorder: Path, disk_bytes: int) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    environment = faults.recorded_environment(recorder, root, tmp_path / "journal", disk_bytes=disk_bytes)
    run = subprocess.run(
        [*WRITER, str(root / "log"), "a", "1000"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "PS500" in run.stderr and "free space on the disk" in run.stderr
    lines = run.stdout.splitlines()
    with Log.open(root / "log", clock=WallClock()) as log:
        if lines:
            check(log.topic(log_writer.TOPIC), {"a": lines}, slack=0)
        else:
            assert log.topics() in ([], [f"dev/default/main/{log_writer.TOPIC}@1"])


def test_after_a_full_disk_the_same_process_goes_on(tmp_path: Path) -> None:
    """The limit on file size stands in for a disk that fills and is cleared while the log is open."""
    with Log.open(tmp_path / "log", clock=WallClock()) as log:
        topic = log.create_topic(log_writer.TOPIC, log_writer.SCHEMA)
        rows = log_writer.batch("a", 0, 20_000).drop_columns(["_id"])
        topic.append(rows, producer=ProducerId("a"), sequence=0)
        size = (tmp_path / "log" / "group-0" / "data.mdb").stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, hard))
        try:
            with pytest.raises(StoreError, match="nothing was half written"):
                for sequence in range(1, 5):
                    topic.append(rows, producer=ProducerId("a"), sequence=sequence)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        stored = topic.last_sequence(ProducerId("a")) + 1
        assert topic.end().offsets == (20_000 * stored,)
        assert topic.append(rows, producer=ProducerId("a"), sequence=stored).first_offset == 20_000 * stored
