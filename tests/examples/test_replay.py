"""`make demo` on a few real days: the world replays, the deployment checks each day as the watermark passes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.doors.deployment import Deployment
from penstock.doors.replay_check import check_reads
from penstock.engine.online import Answers, ReadLog, logged_reads

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "flights"
DAY_US = 86_400_000_000
FIRST_US = 1_362_114_000_000_000  # 2013-03-01 in New York

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data are not at {DATA}")


def command(work: Path, *options: str) -> list[str]:
    script = ROOT / "examples" / "flights" / "replay.py"
    return [sys.executable, str(script), "--data", str(DATA), "--work", str(work), *options]


def living(work: Path) -> dict[int, str]:
    """Command lines that name the project, by process."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if str(work).encode() in words:
            found[int(entry.name)] = words.replace(b"\0", b" ").decode()
    return found


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which three days were replayed."""
    work = tmp_path_factory.mktemp("replay") / "demo"
    report = work.parent / "report.json"
    days = ("--from", "2013-03-01", "--to", "2013-03-04", "--report", str(report))
    done = subprocess.run(command(work, *days), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert living(work) == {}
    return work


def test_every_day_is_checked_once_and_no_value_differs(work: Path) -> None:
    figures = json.loads((work.parent / "report.json").read_text())
    assert (figures["runs"], figures["runs_done"], figures["errors"]) == (3, 3, [])
    assert figures["questions_checked"] == figures["questions"] > 2_000
    assert figures["values_compared"] == 21 * figures["questions"]
    assert figures["values_different"] == 0
    with Deployment(work) as deployment:
        logged = list(logged_reads(deployment.reads))
        assert sum(len(one.q_us) for one in logged) == figures["questions"]


def test_what_is_not_built_is_told_and_left_out(work: Path) -> None:
    said = (work / "up.log").read_text()
    assert "workflow replay, version 1, new" in said
    assert "workflow late_weekly is left out: " in said


def test_one_wrong_answer_among_the_reads_of_a_day_is_found(work: Path) -> None:
    with Deployment(work) as deployment:
        day = next(iter(logged_reads(deployment.reads))).between(FIRST_US, FIRST_US + DAY_US)
        wrong = {name: day.answers[name].slice(0, 1).combine_chunks() for name in day.answers.column_names}
        wrong["hour"] = pa.array([wrong["hour"][0].as_py() + 1], wrong["hour"].type)
        positions = {name: [at] for (name, _), at in day.positions[0].items()}
        answers = Answers(wrong, {}, {}, int(day.q_us[0]), int(day.known_us[0]), 0, positions, day.fingerprint)
        log = ReadLog(deployment.reads, name="wrong")
        log.append("view", day.name, day.requests.slice(0, 1).combine_chunks().to_batches()[0], answers)
        log.close()
        found = check_reads(deployment, since_us=FIRST_US, until_us=FIRST_US + DAY_US)
        assert found is not None
        assert (found.reads, found.different, found.other_version) == (len(day.q_us) + 1, 1, 0)
        assert "rich.hour" in found.examples[0]
        other = check_reads(deployment, since_us=FIRST_US + DAY_US, until_us=FIRST_US + 2 * DAY_US)
        assert other is not None
        assert other.different == 0


def until_asked(work: Path) -> None:
    until_s = time.monotonic() + 60
    while not (work / ".penstock" / "reads").exists() and time.monotonic() < until_s:
        time.sleep(0.02)


def test_a_live_job_that_is_killed_comes_again_and_no_answer_differs(tmp_path: Path) -> None:
    work, report = tmp_path / "demo", tmp_path / "report.json"
    days = ("--from", "2013-03-08", "--to", "2013-03-12", "--report", str(report))  # with a day of 23 hours
    with subprocess.Popen(command(work, *days), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as replay:
        until_asked(work)
        (job,) = [pid for pid, words in living(work).items() if "streams/replay.live" in words]
        os.kill(job, signal.SIGKILL)
        said, _ = replay.communicate(timeout=120)
    assert replay.returncode == 0, said
    figures = json.loads(report.read_text())
    assert (figures["runs_done"], figures["values_different"]) == (4, 0)
    assert figures["questions_checked"] == figures["questions"] > 3_000
    assert len(list((work / ".penstock" / "streams" / "replay.live").glob("*.log"))) == 2
    assert living(work) == {}


def test_ctrl_c_ends_the_deployment_too(tmp_path: Path) -> None:
    work = tmp_path / "demo"
    with subprocess.Popen(command(work), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as replay:
        until_asked(work)
        assert len(living(work)) > 3
        os.kill(replay.pid, signal.SIGINT)
        said, _ = replay.communicate(timeout=60)
    assert replay.returncode == 130, said
    assert living(work) == {}
