from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.testing.faults import build_recorder, recorded_environment

PENSTOCK = [sys.executable, "-c", "from penstock.cli import main; main()"]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def penstock(*arguments: str, cwd: Path, code: int = 0, text: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PENSTOCK, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, input=text, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    rows = [f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}Z,e{i},{i % 7},{i / 4}" for i in range(300)]
    (tmp_path / "data/clicks.csv").write_text("\n".join(["at,event_id,user_id,price", *rows]) + "\n")
    penstock("add", "data/clicks.csv", cwd=tmp_path)
    return tmp_path


def test_a_new_project_plans_and_is_never_overwritten(tmp_path: Path) -> None:
    penstock("new", "shop", cwd=tmp_path)
    assert "by_user.n_1h" in penstock("plan", cwd=tmp_path / "shop").stdout
    refused = penstock("new", "shop", cwd=tmp_path, code=1)
    assert "new folder" in refused.stderr and not list(tmp_path.glob(".shop*"))


def test_add_writes_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text("at,user_id\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:01Z,1\n")
    shown = lines(penstock("add", "clicks.csv", "--dry-run", "--json", cwd=tmp_path))
    assert shown[0]["arguments"] == {"time": "at"} and not (tmp_path / "definitions.py").exists()
    said = penstock("add", "clicks.csv", cwd=tmp_path)
    assert shown[1]["text"].strip() in said.stdout
    assert (tmp_path / "definitions.py").read_text().strip() == shown[1]["text"].strip()
    again = penstock("add", "clicks.csv", cwd=tmp_path)
    assert "stands in" in again.stdout


def test_errors_are_one_line_with_a_remedy_and_a_code(tmp_path: Path) -> None:
    missing = penstock("add", "nothing.csv", cwd=tmp_path, code=1)
    assert missing.stderr.startswith("error: nothing.csv: PS700") and not missing.stdout
    as_json = penstock("plan", "--json", cwd=tmp_path, code=1)
    assert json.loads(as_json.stderr)["error"]["code"] == "PS100" and not as_json.stdout
    assert "No such command" in penstock("bogus", cwd=tmp_path, code=2).stderr
    assert penstock("add", "x", "--rows", "zero", cwd=tmp_path, code=2).stderr
    bad_zone = penstock("add", "x", "--zone", "Mars", cwd=tmp_path, code=1)
    assert "tz database" in bad_zone.stderr


def test_a_full_memory_directory_under_a_live_job_is_named(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    (tmp_path / "definitions.py").write_text(
        "import penstock as ps\n"
        "notes = ps.stream('notes', ps.files('notes.csv'), time='at', "
        "schema={'at': 'instant', 'n': 'int', 'x': 'text'})\n"
        "g = notes.by('n').features('g', last=ps.last('x'))\n"
    )
    rows = (f"2026-01-01T00:00:00Z,{i % 9},{i:0400d}" for i in range(45_000))
    (tmp_path / "notes.csv").write_text("\n".join(["at,n,x", *rows]) + "\n")
    penstock("log", "load", cwd=tmp_path)
    live = [*PENSTOCK, "features", "live", "--once", "--memory-dir", str(memory)]
    for room, asked in ((1 << 20, "open an arena"), (20 << 20, "live state grows with its rows")):
        limits = recorded_environment(build_recorder(tmp_path), memory, tmp_path / "recording", disk_bytes=room)
        found = subprocess.run(
            live, cwd=tmp_path, env=ENVIRONMENT | limits, capture_output=True, text=True, check=False
        )
        assert found.returncode == 1 and "Traceback" not in found.stderr
        assert asked in found.stderr and "No space left" in found.stderr
        assert f"free space in {memory}" in found.stderr and "--memory-dir" in found.stderr
    penstock("features", "live", "--once", "--memory-dir", str(memory), cwd=tmp_path)
    (row,) = lines(penstock("features", "get", "g", "n=3", "--json", cwd=tmp_path))
    assert int(row["last"]) == 44_994


def test_a_disk_that_takes_nothing_more_is_an_error_with_a_place(tmp_path: Path) -> None:
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    full += (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); from penstock.cli.app import main; main(['new', 'shop'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", full], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1 and found.stderr.startswith("error: ")
    assert str(tmp_path) in found.stderr and "free space" in found.stderr
    assert not list(tmp_path.iterdir())


def test_plan_against_a_former_one_says_what_changes(project: Path) -> None:
    former = penstock("plan", "--json", cwd=project).stdout
    (project / "former.json").write_text(former)
    (same,) = lines(penstock("plan", "--against", "former.json", "--json", cwd=project))
    assert same["state"] == "unchanged"
    with (project / "definitions.py").open("a") as file:
        file.write('n = clicks.by(user_id).over("1h").features("n", n=ps.count())\n')
    changes = {
        c["name"]: c["state"] for c in lines(penstock("plan", "--against", "former.json", "--json", cwd=project))
    }
    assert changes["clicks"] == "unchanged" and changes["n"] != "unchanged"
    (project / "former.json").write_text("{")
    penstock("plan", "--against", "former.json", cwd=project, code=1)


def test_files_go_into_the_log_and_the_lake(project: Path) -> None:
    assert "none yet" in penstock("log", "topics", cwd=project, code=1).stderr
    (loaded,) = lines(penstock("log", "load", "--json", cwd=project))
    assert loaded == {"topic": "clicks", "rows": 300, "duplicates": 0, "dead": 0}
    (again,) = lines(penstock("log", "load", "--json", cwd=project))
    assert again["rows"] == 0
    (topic,) = lines(penstock("log", "topics", "--json", cwd=project))
    assert (topic["rows"], topic["known until"]) == (300, "2026-01-01T00:04:59Z")
    tail = lines(penstock("log", "tail", "clicks", "-n", "2", "--json", cwd=project))
    assert [r["event_id"] for r in tail] == ["e298", "e299"]
    assert "e299" in penstock("log", "tail", "clicks", "-n", "1", cwd=project).stdout
    penstock("lake", "sink", cwd=project)
    (table,) = lines(penstock("lake", "ls", "--json", cwd=project))
    assert table["table"] == "clicks"
    query = "select c.user_id, count(*) as n from clicks c group by 1 order by 1 limit 1"
    assert lines(penstock("lake", "sql", query, "--json", cwd=project)) == [{"user_id": 0, "n": 43}]
    part = "select _event_time, _offset from clicks order by _offset desc limit 1"
    assert "299" in penstock("lake", "sql", part, cwd=project).stdout
    assert "did you mean clicks?" in penstock("lake", "sql", "select * from clics", cwd=project, code=1).stderr
    assert "found" in penstock("lake", "sql", "selec 1 from", cwd=project, code=1).stderr


def test_rows_are_appended_by_hand_once_per_producer(tmp_path: Path) -> None:
    penstock("new", ".", cwd=tmp_path)
    event = (
        '{"at": "2026-11-23T10:00:00Z", "event_id": "a", "user_id": 1}\n{"at": null, "event_id": "b", "user_id": 1}\n'
    )
    first = lines(penstock("log", "append", "events", "-", "--producer", "me", "--json", cwd=tmp_path, text=event))
    assert first == [{"topic": "events", "accepted": 1, "duplicates": 0, "dead": 1, "repeated": 0}]
    again = lines(penstock("log", "append", "events", "-", "--producer", "me", "--json", cwd=tmp_path, text=event))
    assert again[0]["repeated"] == 1 and again[0]["accepted"] == 0
    (dead,) = lines(penstock("log", "tail", "events", "--dead", "--json", cwd=tmp_path))
    assert "null" in dead["reason"] and dead["event_id"] == "b"
    (tmp_path / "more.csv").write_text("at,event_id,user_id\n2026-11-23T10:00:01Z,c,2\n")
    penstock("log", "append", "events", "more.csv", cwd=tmp_path)
    assert lines(penstock("log", "topics", "--json", cwd=tmp_path))[0]["rows"] == 2
    (tmp_path / "odd.csv").write_text("at,event,user_id\n2026-11-23T10:00:01Z,c,2\n")
    assert "did you mean event_id" in penstock("log", "append", "events", "odd.csv", cwd=tmp_path, code=1).stderr


AGGREGATES = """
import penstock as ps
s = ps.stream("s", time="t", schema={"t": "instant", "k": "int", "x": "text"})

class Kinds(ps.Aggregate):
    def lift(self, x): return {x: 1}
    def merge(self, p, q): return {k: p.get(k, 0) + q.get(k, 0) for k in p | q}
    def finalize(self, s) -> int: return len(s)

class Latest(ps.Aggregate):
    def lift(self, x): return x
    def merge(self, p, q): return q
    def finalize(self, s) -> str: return s

class Pile(ps.Aggregate):
    def lift(self, x): return [x]
    def merge(self, p, q):
        p.extend(q)
        return p
    def finalize(self, s) -> int: return len(s)

g = s.by("k").over("1h").features("g", kinds=Kinds.of("x"), latest=Latest.of("x"), pile=Pile.of("x"))
"""


def test_check_finds_aggregates_that_break_their_laws(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(AGGREGATES)
    found = lines(penstock("check", "--json", cwd=tmp_path, code=1))
    broken = {(f["subject"].split("(")[0], f["law"]) for f in found if f["result"] == "FAILS"}
    assert broken == {
        ("Latest", "merge is commutative"),
        ("Latest", "any order and any batches give one result"),
        ("Pile", "lift and merge leave their arguments alone"),
    }
    assert any("us a row" in f["detail"] for f in found if f["law"] == "cost")


def test_check_finds_sources_that_left_their_schema(project: Path) -> None:
    penstock("check", "--sources", cwd=project)
    (project / "data/clicks.csv").write_text("at,event_id,price\n2026-01-01T00:00:00Z,a,1\n")
    found = lines(penstock("check", "--sources", "--json", cwd=project, code=1))
    assert "missing: user_id" in [f["detail"] for f in found]


def test_a_reader_that_has_enough_ends_the_output_quietly(project: Path) -> None:
    penstock("log", "load", cwd=project)
    command = " ".join(f"'{part}'" for part in [*PENSTOCK, "log", "tail", "clicks", "-n", "300"])
    done = subprocess.run(
        f"{command} | head -1", check=False, shell=True, cwd=project, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout.count("\n") == 1 and not done.stderr


def test_ctrl_c_ends_cleanly(project: Path) -> None:
    penstock("log", "load", cwd=project)
    following = subprocess.Popen(
        [*PENSTOCK, "log", "tail", "clicks", "-f", "-n", "1"],
        cwd=project,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    assert "e299" in following.stdout.readline()
    time.sleep(0.2)
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=10)
    assert following.returncode == 130 and "Traceback" not in errors


def test_help_costs_little() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*PENSTOCK, "--help"], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "features" in done.stdout
    # A generous bound for a busy machine; the budget of 0.3 s is measured by the benchmark.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


def test_features_are_asked_explained_and_backfilled(project: Path) -> None:
    with (project / "definitions.py").open("a") as file:
        file.write('by_user = clicks.by(user_id).over("1min").features("by_user", n=ps.count(), m=ps.mean("price"))\n')
    at = ("--at", "2026-01-01T00:03:00Z")
    (one,) = lines(penstock("features", "get", "by_user", "user_id=3", *at, "--json", cwd=project))
    shown = penstock("features", "get", "by_user", "user_id=3", *at, cwd=project).stdout
    assert str(one["n_1min"]) in shown
    every = lines(penstock("features", "get", "by_user", *at, "--json", cwd=project))
    assert [r["user_id"] for r in every] == list(range(7)) and every[3]["n_1min"] == one["n_1min"]
    found = lines(penstock("features", "explain", "by_user.n_1min", "user_id=3", *at, "--json", cwd=project))
    assert found[0]["value"] == found[0]["rows"]["counted"] == one["n_1min"]
    assert sum(r["counted"] for r in found[1:]) == one["n_1min"]
    text = penstock("features", "explain", "by_user.n_1min", "user_id=3", *at, cwd=project).stdout
    assert "before the left edge" in text and "after the right edge" in text
    penstock("features", "backfill", "by_user", *at, "-o", "out.parquet", cwd=project)
    assert "7 rows" in penstock("features", "backfill", "by_user", *at, "-o", "again.parquet", cwd=project).stdout
    assert "did you mean by_user" in penstock("features", "get", "by_usr", *at, cwd=project, code=1).stderr
    assert "user_id is int" in penstock("features", "get", "by_user", "user_id=x", *at, cwd=project, code=1).stderr
    assert "either" in penstock("features", "backfill", "by_user", "-o", "x", cwd=project, code=1).stderr
    assert not (project / ".penstock").exists()


def test_live_puts_out_what_history_computes(project: Path) -> None:
    with (project / "definitions.py").open("a") as file:
        file.write('by_user = clicks.by(user_id).over("1min").features("by_user", n=ps.count(), m=ps.mean("price"))\n')
    assert "nothing" in penstock("features", "replay-check", cwd=project, code=1).stderr
    penstock("log", "load", cwd=project)
    (done,) = lines(penstock("features", "live", "--emit", "by_user", "--once", "--json", cwd=project))
    assert done["rows in"] == 300 and done["rows out"] == 300
    (again,) = lines(penstock("features", "live", "--emit", "by_user", "--once", "--json", cwd=project))
    assert again["rows in"] == 0
    (now,) = lines(penstock("features", "get", "by_user", "user_id=3", "--json", cwd=project))
    assert now["n_1min"] == 0 and "n_1min:status" in now
    assert "knowing what came until 2026" in penstock("features", "get", "by_user", "user_id=3", cwd=project).stdout
    (compared,) = lines(penstock("features", "replay-check", "--json", cwd=project))
    assert compared["rows"] == 300 and not (compared["missing"] or compared["extra"] or compared["different"])
    assert "did you mean by_user" in penstock("features", "live", "--emit", "by_usr", cwd=project, code=1).stderr


def test_live_ends_cleanly_when_told(project: Path) -> None:
    with (project / "definitions.py").open("a") as file:
        file.write('by_user = clicks.by(user_id).over("1min").features("by_user", n=ps.count())\n')
    penstock("log", "load", cwd=project)
    running = subprocess.Popen(
        [*PENSTOCK, "features", "live", "--json"],
        cwd=project,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert json.loads(running.stdout.readline())["rows_in"] == 300
    running.send_signal(signal.SIGINT)
    out, errors = running.communicate(timeout=20)
    assert running.returncode == 0 and not errors and json.loads(out.splitlines()[-1])["rows in"] == 300


def test_plan_shows_workflows_and_refuses_what_cannot_run(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "examples" / "hello" / "definitions.py", tmp_path)
    assert "start when status(greet)" in penstock("plan", cwd=tmp_path).stdout
    file = tmp_path / "definitions.py"
    file.write_text(file.read_text().replace("after=greet", "when=\"status(greeet) == 'done'\""))
    found = penstock("plan", cwd=tmp_path, code=1)
    assert "did you mean greet" in found.stderr
    assert "definitions.py:7" in found.stderr


def test_logged_reads_are_checked_and_a_difference_is_told(project: Path) -> None:
    with (project / "definitions.py").open("a") as file:
        file.write("import penstock as ps\ng = clicks.by('user_id').over('1h').features('g', n=ps.count())\n")
    penstock("log", "load", cwd=project)
    assert "are logged" in penstock("features", "get", "g", "user_id=3", "--log", cwd=project, code=1).stderr
    penstock("features", "live", "--once", cwd=project)
    for user in (3, 4, 99):
        penstock("features", "get", "g", f"user_id={user}", "--log", cwd=project)
    (found,) = lines(penstock("features", "replay-check", "--json", cwd=project))
    assert found == {"reads": 3, "values": 3, "different": 0, "other_version": 0}
    for path in (project / ".penstock" / "reads").glob("*.arrows"):  # as if live had counted one more
        with pa.ipc.open_stream(path.read_bytes()) as reader:
            table = reader.read_all()
        n = table.schema.get_field_index("answer.n_1h")
        table = table.set_column(n, table.schema.field(n), pa.array([1 + table.column(n)[0].as_py()]))
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    told = lines(penstock("features", "replay-check", "--json", cwd=project, code=1))
    assert told[0]["different"] == 3 and "history says" in told[1]["different"]
