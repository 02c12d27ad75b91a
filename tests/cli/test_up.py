"""`penstock up` as a user has it: real processes, real HTTP, real kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.deployment import Deployment

EXAMPLES = Path(__file__).parents[2] / "examples"
SLEEPY = """
import penstock as ps
flow = ps.workflow("sleepy", overlap="parallel", limit=10)
work = "echo $$ >> $PENSTOCK_PROJECT/pids; sleep 1.5; echo done >> $PENSTOCK_PROJECT/done"
first = flow.batch("first", ps.component("shell", command=work))
flow.batch("second", ps.component("shell", command="echo second"), after=first)
held = ps.workflow("held")
wait = "echo $$ >> $PENSTOCK_PROJECT/pids; test -e $PENSTOCK_PROJECT/go || sleep 300"
held.batch("first", ps.component("shell", command=wait))
waits = ps.workflow("waits")
waits.batch("signalled", ps.component("shell", command="echo go"), when="signal(go)")
"""


@pytest.fixture
def hello(tmp_path: Path) -> Iterator[Deployment]:
    project = tmp_path / "hello"
    shutil.copytree(EXAMPLES / "hello", project, ignore=shutil.ignore_patterns(".penstock", "__pycache__"))
    one = Deployment(project)
    yield one
    one.stop()


@pytest.fixture
def sleepy(tmp_path: Path) -> Iterator[Deployment]:
    (tmp_path / "definitions.py").write_text(SLEEPY)
    one = Deployment(tmp_path)
    one.up()
    yield one
    one.stop()


def test_hello_comes_up_runs_and_goes_down(hello: Deployment) -> None:
    hello.up("--run", "hello")
    run = hello.until(lambda: [r for r in hello.json("run", "ls") if r["state"] == "done"])[0]["run"]
    assert "hello world" in hello.run("run", "logs", run)
    assert "is done" in hello.run("why", run, "greet")
    assert (
        hello.run("run", "start", "hello", "--wait", "-p", "who=you").splitlines()[0].split(": ")[1].startswith("done")
    )
    assert "start a deployment once" in hello.run("up", code=1)
    hello.run("down")
    assert hello.process is not None
    assert hello.process.wait(30) == 0
    assert "start it: `penstock up`" in hello.run("run", "ls", code=1)


def test_what_is_wrong_is_refused_and_what_runs_goes_on(hello: Deployment) -> None:
    hello.up()
    assert "did you mean who" in hello.run("run", "start", "hello", "-p", "woh=x", code=1)
    assert "type string" in hello.run("run", "start", "hello", "-p", "who=3", code=1)
    assert "did you mean hello" in hello.run("run", "start", "helo", code=1)
    (hello.project / "definitions.py").write_text("raise ValueError('broken project')")
    assert "broken project" in hello.run("workflow", "apply", code=1)
    (hello.project / "bad.yaml").write_text("name: bad\nnodes:\n- {name: a, kind: batch, component: shel}\n")
    refusal = hello.run("workflow", "apply", "--file", "bad.yaml", code=1)
    assert "did you mean shell" in refusal
    assert [w["version"] for w in hello.json("workflow", "ls")] == [1]


def test_a_change_is_a_version_with_author_reason_and_a_difference(hello: Deployment) -> None:
    hello.up()
    file = hello.project / "definitions.py"
    file.write_text(file.read_text().replace("all is well", "all is better"))
    assert "new version" in hello.run("workflow", "apply", "--reason", "better words")
    assert "unchanged" in hello.run("workflow", "apply")
    assert "~ nodes.cheer.parameters.command" in hello.run("workflow", "diff", "hello")
    shown = hello.run("workflow", "show", "hello")
    assert "better words" in shown
    assert "component: shell" in shown


def test_a_killed_server_comes_back_by_itself_and_no_task_is_done_twice(sleepy: Deployment) -> None:
    sleepy.run("run", "start", "sleepy", "--run", "r1")
    sleepy.until((sleepy.project / "pids").exists)
    server = sleepy.server_pid()
    os.kill(server, signal.SIGKILL)
    sleepy.until(lambda: "server was ended by signal 9" in sleepy.log.read_text())
    sleepy.until(sleepy.answers)
    sleepy.until(lambda: sleepy.state_of("r1") == "done")
    assert (sleepy.project / "done").read_text() == "done\n"
    assert len((sleepy.project / "pids").read_text().split()) == 1


def test_a_killed_worker_comes_back_and_its_task_is_given_out_again(sleepy: Deployment) -> None:
    sleepy.run("run", "start", "sleepy", "--run", "r1")
    sleepy.until((sleepy.project / "pids").exists)
    task = int((sleepy.project / "pids").read_text().split()[0])
    worker = min(sleepy.parts("penstock.workflows.executor.local"))
    os.kill(worker, signal.SIGKILL)
    sleepy.until(lambda: not Path(f"/proc/{task}").exists(), 10)
    sleepy.until(lambda: sleepy.state_of("r1") == "done")
    found = sleepy.json("run", "show", "r1")[0]
    assert found["nodes"][0]["attempt"] == 2
    assert (sleepy.project / "done").read_text() == "done\n"


def test_parts_end_with_a_killed_guardian_and_the_next_up_goes_on(sleepy: Deployment) -> None:
    sleepy.run("run", "start", "sleepy", "--run", "r1")
    sleepy.until((sleepy.project / "pids").exists)
    assert sleepy.process is not None
    sleepy.process.kill()
    sleepy.process.wait()
    sleepy.until(lambda: not sleepy.parts("penstock.server.control.run"), 10)
    sleepy.until(lambda: not sleepy.parts("penstock.workflows.executor.local"), 10)
    sleepy.log.unlink()
    sleepy.up()
    sleepy.until(lambda: sleepy.state_of("r1") == "done")
    assert (sleepy.project / "done").read_text() == "done\n"


def test_a_node_waits_for_its_signal_and_why_says_so(sleepy: Deployment) -> None:
    sleepy.run("run", "start", "waits", "--run", "w1")
    assert "signal(go)" in sleepy.run("why", "w1")
    sleepy.run("signal", "go")
    sleepy.until(lambda: sleepy.state_of("w1") == "done")


def test_a_killed_run_leaves_no_process(sleepy: Deployment) -> None:
    sleepy.run("run", "start", "held", "--run", "r1")
    sleepy.until((sleepy.project / "pids").exists)
    task = int((sleepy.project / "pids").read_text().split()[0])
    sleepy.run("run", "kill", "r1", "--reason", "enough")
    sleepy.until(lambda: sleepy.state_of("r1") == "killed")
    assert not Path(f"/proc/{task}").exists()
    (sleepy.project / "go").touch()
    again = sleepy.json("run", "rerun", "r1", "--only-failed")[0]["run"]
    sleepy.until(lambda: sleepy.state_of(again) == "done")


def test_the_dictionary_reaches_the_next_task_and_shows_who_reads_it(sleepy: Deployment) -> None:
    sleepy.run("dict", "set", "words", "good day", "--reason", "begin")
    node = "{name: one, kind: batch, component: shell, parameters: {command: 'echo {{ dict.words }}'}}"
    spec = f"name: reads\nnodes: [{node}]\n"
    (sleepy.project / "reads.yaml").write_text(spec)
    sleepy.run("workflow", "apply", "-f", "reads.yaml")
    sleepy.run("run", "start", "reads", "--run", "d1", "--wait")
    assert "good day" in sleepy.run("run", "logs", "d1")
    sleepy.run("dict", "set", "words", "good night", "--reason", "later")
    sleepy.run("run", "start", "reads", "--run", "d2", "--wait")
    assert "good night" in sleepy.run("run", "logs", "d2")
    assert sleepy.json("dict", "ls")[0]["readers"] == ["reads.one"]
    assert [v["reason"] for v in sleepy.json("dict", "get", "words")[0]["history"]] == ["begin", "later"]


def test_a_secret_reaches_the_task_and_no_log_record_or_answer(sleepy: Deployment) -> None:
    command = (
        "echo {{ secret.key }}; cat resource://words; python3 -c 'import sys; sys.exit(sys.argv[1])' {{ secret.key }}"
    )
    node = {"name": "one", "kind": "batch", "component": "shell", "parameters": {"command": command}}
    (sleepy.project / "reads.json").write_text(json.dumps({"name": "reads", "nodes": [node]}))
    sleepy.run("secret", "set", "key", text="hush-hush-4711\n")
    (sleepy.project / "words.txt").write_text("good words\n")
    sleepy.run("resource", "put", "words", "words.txt")
    sleepy.run("workflow", "apply", "-f", "reads.json")
    shown = sleepy.run("run", "start", "reads", "--run", "s1", "--wait", code=1)
    log = sleepy.run("run", "logs", "s1")
    assert log.splitlines()[:2] == ["***", "good words"]
    assert "resource://words@1" in sleepy.run("workflow", "show", "reads")
    assert "hush" not in shown + log + sleepy.run("secret", "ls") + sleepy.run("why", "s1", "one")
    kept = [file for file in sleepy.project.rglob("*") if file.is_file() and b"hush-hush" in file.read_bytes()]
    assert kept == [sleepy.project / ".penstock" / "secrets" / "key"]
    assert kept[0].stat().st_mode & 0o077 == 0
