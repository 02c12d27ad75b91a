"""Bad input to a deployment that runs: refused before anything runs, with place and remedy; what runs goes on."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.deployment import Deployment

GOOD = """
import penstock as ps
good = ps.workflow("good", parameters={"n": 1})
good.batch("one", ps.component("shell", command="echo one"))
"""
HEAD = "import penstock as ps\nflow = ps.workflow('flow')\necho = ps.component('shell', command='echo')\n"
ONE = HEAD + "flow.batch('a', echo)\n"
REFUSED = {
    "cycle": (
        HEAD + "flow.batch('a', echo, when='status(b) == \"done\"')\nflow.batch('b', echo, after=flow.nodes[0])\n",
        "a -> b -> a",
    ),
    "unknown node": (ONE + "flow.batch('b', echo, when='status(aa) == \"done\"')\n", "mean a"),
    "impossible fact": (
        ONE + "flow.batch('b', echo, when='watermark(a) >= now')\n",
        "has no fact 'watermark'",
    ),
    "cron that never fires": (
        ONE + "never = ps.workflow('never', cron='0 0 30 2 *')\nnever.batch('a', echo)\n",
        "Bad day-of-month",
    ),
    "cron in a skipped hour": (
        ONE + "hour = ps.workflow('hour', cron='30 2 * * *', zone='Europe/Berlin')\nhour.batch('a', echo)\n",
        "a time that Europe/Berlin does not have",
    ),
    "missing component": (HEAD + "flow.batch('a', ps.component('shel', command='x'))\n", "did you mean shell"),
    "broken component": (HEAD + "flow.batch('a', ps.component('broken'))\n", "no such thing at all"),
    "wrong type": (HEAD + "flow.batch('a', ps.component('shell', command=3))\n", "valid string"),
    "raises": ("\nraise ValueError('on the second line')\n", "on the second line"),
    "exits": ("import sys\nsys.exit(3)\n", "definitions.py"),
    "no Python": ("def\n", "definitions.py:1"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    project = tmp_path_factory.mktemp("good")
    (project / "definitions.py").write_text(GOOD)
    (project / "components").mkdir()
    (project / "components" / "broken.py").write_text("raise ImportError('no such thing at all')\n")
    one = Deployment(project)
    one.up()
    yield one
    one.stop()


@pytest.mark.parametrize("what", REFUSED)
def test_a_definition_that_does_not_fit_is_refused_with_its_place(good: Deployment, what: str) -> None:
    text, words = REFUSED[what]
    file = good.project / "definitions.py"
    file.write_text(text)
    told = good.run("workflow", "apply", code=1)
    file.write_text(GOOD)
    assert words in told
    assert "definitions.py" in told
    assert "Traceback" not in told
    assert [w["name"] for w in good.json("workflow", "ls")] == ["good"]


def test_a_broken_component_is_shown_as_broken_and_breaks_nothing(good: Deployment) -> None:
    told = good.run("components")
    assert "no such thing at all" in told
    assert "done" in good.run("run", "start", "good", "--wait")


def test_wrong_parameters_of_a_run_are_refused(good: Deployment) -> None:
    assert "type integer" in good.run("run", "start", "good", "-p", "n=many", code=1)
    assert "valid names: n" in good.run("run", "start", "good", "-p", "m=1", code=1)


def test_a_newer_format_is_refused(good: Deployment) -> None:
    (good.project / "newer.yaml").write_text("format: 99\nname: newer\nnodes: []\n")
    told = good.run("workflow", "apply", "-f", "newer.yaml", code=1)
    assert "newer" in told
    assert "upgrade" in told


def test_a_second_deployment_and_a_taken_port_are_refused(good: Deployment, tmp_path: Path) -> None:
    assert "penstock down" in good.run("up", code=1)
    (tmp_path / "definitions.py").write_text(GOOD)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "penstock.cli", "up", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "choose another --port" in done.stdout + done.stderr


def test_a_project_that_exits_on_import_is_told_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text("import sys\nsys.exit(3)\n")
    one = Deployment(tmp_path)
    with one.log.open("wb") as log:
        command = [sys.executable, "-m", "penstock.cli", "up", "--port", "0"]
        one.process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    one.until(lambda: "definitions.py" in one.log.read_text())
    assert one.process.poll() is None, "it is up, and takes the mended file"
    (tmp_path / "definitions.py").write_text(GOOD)
    assert "new version" in one.run("workflow", "apply")
    one.stop()
    assert not one.parts("penstock")
