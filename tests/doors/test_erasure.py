from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.doors.deployment import Deployment
from penstock.doors.erasure import erase, pending, resume
from penstock.doors.replay_check import replay_check
from penstock.doors.rows import resolver_for
from penstock.engine.history import History
from penstock.engine.online import Online, ReadLog
from penstock.engine.online import replay_check as check_reads
from penstock.errors import DoorError
from penstock.store.lake.sink import LakeSink
from penstock.store.meta import Meta

SECRET, VALUE = "ada-lovelace-1815", "a note that only ada wrote"
DEFINITIONS = """
import penstock as ps
types = {"at": "instant", "who": "text", "shop": "int", "note": "text"}
ev = ps.stream("ev", ps.files("ev.csv"), time="at", schema=types)
by_who = ev.by("who").over("1h").features("by_who", n=ps.count(), notes=ps.last("note"))
by_shop = ev.by("shop").over("1h").features("by_shop", n=ps.count(), who=ps.last("who"), notes=ps.last("note"))
"""
KILLED = """
import os, signal, sys
from penstock.doors.deployment import Deployment
from penstock.doors.erasure import erase
def tell(number, total, name):
    if number == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
with Deployment(sys.argv[1]) as d:
    erase(d, {"who": sys.argv[3]}, reason="asked", author="@dpo", tell=tell)
"""


def holding(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(t.encode() in path.read_bytes() for t in (SECRET, VALUE))]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A log, a lake with all of it, a stopped live job with derived topics, and logged reads."""
    rows = [("bob", "b"), (SECRET, VALUE), ("eve", "e"), (SECRET, VALUE), ("bob", "b2")]
    lines = [f"2026-01-01T00:00:{i:02d}Z,{who},1,{note}" for i, (who, note) in enumerate(rows)]
    (tmp_path / "ev.csv").write_text("\n".join(["at,who,shop,note", *lines]) + "\n")
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    with Deployment(tmp_path) as d:
        for _ in d.replay(["ev"]).steps():
            pass
        job = d.live_job(["by_shop"], memory_dir=tmp_path / ".penstock")
        job.drain()
        job.checkpoint(wait=True)
        job.close()
        reads = ReadLog(d.reads)
        folder = next((d.state / "live").glob("*/arena.json")).parent
        online = Online(d.plan, folder, d.clock, reads=reads)
        q_us = online.moment().known_us + 1
        online.group("by_who", [SECRET, "bob"], q_us=q_us)
        online.group("by_shop", 1, q_us=q_us)
        online.close()
        reads.close()
        for name in d.log.topics():
            LakeSink(d.log, d.log.topic(name), d.lake).drain()
    return tmp_path


def assert_erased(project: Path) -> None:
    state = project / ".penstock"
    assert not [path for folder in ("live", "lake", "reads") for path in holding(state / folder)]
    assert not list(state.glob("penstock-*")) and pending(state) is None
    with Deployment(project) as d:
        for name in d.log.topics():
            rows = d.log.topic(name).read(0, 0).rows
            assert SECRET not in str(rows.to_pylist()) and VALUE not in str(rows.to_pylist())
            table = d.lake.read(d.log.topic(name).lake_table()).read_all()
            assert table.num_rows == rows.num_rows == 3
        compared = replay_check(d, "by_shop")
        assert compared.ok and compared.rows == 3
        found = check_reads(History(d.plan, resolver_for(d), clock=d.clock), d.reads)
        assert (found.reads, found.different, found.other_version) == (2, 0, 0)
        job = d.live_job(["by_shop"], memory_dir=project / ".penstock")
        job.drain()
        online = d.online()
        assert online is not None
        answer = online.group("by_who", SECRET, q_us=online.moment().known_us + 1)
        assert answer.table(statuses=True).to_pylist()[0]["n_1h:status"] == "unseen"
        online.close()
        job.checkpoint(wait=True)
        job.close()
        assert replay_check(d, "by_shop").ok
        with Meta.open(d.state / "meta.db", clock=d.clock) as meta:
            (entry,) = meta.list_audit("erasure")
        assert (entry.reason, entry.author) == ("asked", "@dpo") and SECRET not in entry.details
    assert not holding(state / "live")


def test_a_key_is_erased_everywhere_once(project: Path) -> None:
    assert holding(project / ".penstock" / "live") and holding(project / ".penstock" / "reads")
    with Deployment(project) as d:
        done = erase(d, {"who": SECRET}, reason="asked", author="@dpo")
        assert len(done.topics) == 1 and done.rows >= 4
    assert_erased(project)
    with Deployment(project) as d:
        assert erase(d, {"who": SECRET}, reason="asked again", author="@dpo").rows == 0
        with pytest.raises(DoorError, match="did you mean who"):
            erase(d, {"whoo": "x"}, reason="asked", author="@dpo")
        assert resume(d) is None


@pytest.mark.parametrize("stage", range(5))
def test_an_erasure_that_was_killed_is_taken_up(project: Path, stage: int) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(project), str(stage), SECRET]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    again = [sys.executable, "-c", "from penstock.cli import main; main()", "erase", "--resume", "--json"]
    done = subprocess.run(
        again, cwd=project, env={**os.environ, "PYTHONPATH": str(root)}, check=True, capture_output=True, text=True
    )
    assert len(json.loads(done.stdout.splitlines()[-1])["topics"]) == 1
    assert_erased(project)


def test_a_running_job_of_another_process_is_waited_for(project: Path) -> None:
    root, memory = Path(__file__).parents[2], project / ".penstock"
    command = [sys.executable, "-c", "from penstock.cli import main; main()"]
    live = [*command, "features", "live", "--emit", "by_shop", "--memory-dir", str(memory)]
    with subprocess.Popen(live, cwd=project, env={**os.environ, "PYTHONPATH": str(root)}, text=True) as job:
        try:
            while not list(memory.glob("penstock-*-2")):  # the second epoch: the fixture had the first
                assert job.poll() is None
                time.sleep(0.02)
            with Deployment(project) as d:
                erase(d, {"who": SECRET}, reason="asked", author="@dpo")
                assert job.poll() is None and not holding(memory / "live")
                assert not [path for path in memory.glob("penstock-*") if SECRET.encode() in path.read_bytes()]
                online = d.online()
                assert online is not None
                q_us = online.moment().known_us + 1
                assert (
                    online.group("by_who", SECRET, q_us=q_us).table(statuses=True)["n_1h:status"][0].as_py() == "unseen"
                )
                assert online.group("by_shop", 1, q_us=q_us).columns["n_1h"].to_pylist() == [3]
                online.close()
                assert replay_check(d, "by_shop").ok
        finally:
            job.send_signal(signal.SIGTERM)
    assert job.returncode == 0 and not holding(memory / "live")
