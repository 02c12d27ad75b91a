"""The live process is killed at any moment, with and without its unsynced writes: nothing is lost, nothing doubled."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from penstock.clock import WallClock
from penstock.semantics.columns import KNOWN_TIME, OFFSET, PARTITION
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.testing.conformance import END_US, Case, RowsQuery, differences
from penstock.testing.conformance.cases import answer
from penstock.testing.faults import Recording, build_recorder, recorded_environment
from penstock.testing.oracle import Row
from tests.engine.live.tempo import feed, rows_of
from tests.engine.live.worker import EMIT, definitions, finish, memory, named

ROOT = Path(__file__).parents[3]
START_US = 1_767_225_600_000_000
KILLS = int(os.environ.get("PENSTOCK_KILLS", "200"))


def arrivals(n: int, seed: int) -> dict[str, list[Row]]:
    """Shows and clicks, some late, some corrected, some moved to another user, some deleted."""
    rng = random.Random(seed)
    found: dict[str, list[Row]] = {"show": [], "click": []}
    k = START_US
    for number in range(n):
        k += rng.choice((0, 100_000, 400_000))
        late = rng.choice((0, 0, 0, 3_000_000))
        imp = f"i{number}"
        show = {"id": imp, "imp": imp, "user": rng.choice((1, 2, 3, None)), "item": rng.choice(("a", "b", "")),
                "price": rng.choice((None, Decimal("1.25"), Decimal("-3.10")))}  # fmt: skip
        _add(found["show"], k, k - late, show, "insert")
        if rng.random() < 0.3:
            _add(found["click"], k, k - late + 1_000_000, {"id": f"c{number}", "imp": imp, "user": 1}, "insert")
        if number > 5 and rng.random() < 0.1:
            other = f"i{number - rng.randrange(1, 5)}"
            changed = {**show, "id": other, "imp": other, "user": rng.choice((1, 2))}
            _add(found["show"], k, k - 2_000_000, changed, rng.choice(("upsert", "delete")))
    return found


def _add(rows: list[Row], k: int, t: int, values: dict[str, Any], op: str) -> None:
    values = {**values, "at": t, "op": op}
    rows.append(Row(t, k, values, id=values["id"], op=op, offset=len(rows)))


def fed(folder: Path, n: int, seed: int = 7) -> Case:
    rows = arrivals(n, seed)
    with EmbeddedLog.open(folder / "log", clock=WallClock()) as log:
        feed(log, definitions(), rows)
    return Case(named(), rows, [RowsQuery(name, END_US) for name in EMIT])


def put_out(folder: Path) -> dict[str, list[Row]]:
    with EmbeddedLog.open(folder / "log", clock=WallClock()) as log:
        return {name: rows_of(log, definitions(), name) for name in EMIT}


def assert_is_oracle(folder: Path, case: Case) -> None:
    found = put_out(folder)
    for query in case.queries:
        assert isinstance(query, RowsQuery)
        words = differences(answer(case, query), found[query.relation])
        assert not words, "\n".join(words[:10])
    with EmbeddedLog.open(folder / "log", clock=WallClock()) as log:
        for name in EMIT:
            rows = log.topic(f"dev/default/main/{name}@1").read(0, 0, max_rows=1 << 20).rows
            columns = (KNOWN_TIME, PARTITION, OFFSET)
            places = list(zip(*(rows.column(column).to_pylist() for column in columns), strict=True))
            assert places == sorted(set(places)), f"{name} holds a row twice"


def test_killed_at_any_moment(tmp_path: Path) -> None:
    case = fed(tmp_path, 250)
    rng = random.Random(11)
    command = [sys.executable, "-m", "tests.engine.live.worker", str(tmp_path), "--fork"]
    kills = finished = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as zygote:
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        while kills < KILLS:
            zygote.stdin.write(f"{rng.uniform(1, 300)}\n")
            zygote.stdin.flush()
            answered = zygote.stdout.readline().strip()
            assert answered in ("killed", "done")
            kills += answered == "killed"
            if answered == "done":
                finished += 1
                if finished == 1:
                    assert_is_oracle(tmp_path, case)
                shutil.rmtree(tmp_path / "state")  # from the beginning again: the log drops every row it has
        zygote.stdin.write("-1\n")
        zygote.stdin.flush()
        assert zygote.stdout.readline().strip() == "done"
        zygote.stdin.close()
    assert_is_oracle(tmp_path, case)
    shutil.rmtree(memory(tmp_path))


def test_a_power_cut_takes_what_was_not_synced(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    recorder, journal = build_recorder(tmp_path), tmp_path / "recording"
    environment = {**os.environ, **recorded_environment(recorder, disk, journal)}
    command = [sys.executable, "-m", "tests.engine.live.test_kills", str(disk)]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)
    recording, rng = Recording.read(journal, disk), random.Random(5)
    began = next(at for at, event in enumerate(recording.events) if "/state/" in event.path)
    case = Case(named(), arrivals(120, 3), [RowsQuery(name, END_US) for name in EMIT])
    for number in range(8):
        image = tmp_path / f"image-{number}"
        recording.image(rng.randrange(began, len(recording.events)), image, rng)
        finish(image)
        assert_is_oracle(image, case)
        shutil.rmtree(memory(image))
    shutil.rmtree(memory(disk))


def test_a_full_disk_ends_the_job_with_a_clear_error_and_leaves_what_was_whole(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    case = fed(disk, 120, seed=3)
    recorder = build_recorder(tmp_path)
    command = [sys.executable, "-m", "tests.engine.live.worker", str(disk)]
    for room in (100_000, 2_500_000):
        limits = recorded_environment(recorder, disk / "state", tmp_path / f"recording-{room}", disk_bytes=room)
        environment = {**os.environ, **limits}
        ended = subprocess.run(command, env=environment, cwd=ROOT, check=False, capture_output=True, text=True)
        assert ended.returncode != 0
        assert "PS500" in ended.stderr
        assert "free space" in ended.stderr
    finish(disk)
    assert_is_oracle(disk, case)
    shutil.rmtree(memory(disk))


if __name__ == "__main__":
    fed(Path(sys.argv[1]), 120, seed=3)
    finish(Path(sys.argv[1]))
