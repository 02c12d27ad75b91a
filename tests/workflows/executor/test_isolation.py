from __future__ import annotations

import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.components.code import CodeIdentity
from penstock.testing.executors import Place
from penstock.testing.executors.place import alive

TASKS = int(os.environ.get("PENSTOCK_TASKS", "1500"))
"""Of the test of memory; 10,000 in the thorough run."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("place") / "project", slots=1) as opened:
        yield opened


def look(place: Place) -> tuple[dict[str, Any], int]:
    task = place.task("look")
    (end,) = place.run(task)
    assert end.outcome == "done", end.error
    return end.outputs["result"], place.started[task.task].pid


def test_clean_tasks_share_a_process(place: Place) -> None:
    first, pid = look(place)
    assert [look(place) for _ in range(3)] == [(first, pid)] * 3
    assert (first["directory"], first["count"]) == (True, 1)


CHANGES = "directory variable module signal thread patch umask precision path filters files child"


@pytest.mark.parametrize("what", CHANGES.split())
def test_what_a_task_changes_does_not_reach_the_next(place: Place, what: str) -> None:
    before, pid = look(place)
    (end,) = place.run(place.task("change", {"what": what}))
    assert end.outcome == "done", end.error
    after, pid_after = look(place)
    assert after == before
    assert (pid_after == pid) == (what in ("directory", "precision"))  # set anew for every task


def test_a_fresh_task_gets_a_process_that_served_no_other(place: Place) -> None:
    _, pid = look(place)
    fresh = place.task("look", isolation={"fresh": True})
    (end,) = place.run(fresh)
    assert end.outcome == "done"
    assert place.started[fresh.task].pid != pid
    assert look(place)[1] not in (place.started[fresh.task].pid,)


def test_modules_of_a_node_are_loaded_before_its_processes(place: Place) -> None:
    (place.project / "slow.py").write_text("import sys\n\ndef has():\n    return 'wave' in sys.modules\n")
    code = CodeIdentity(place.project).now()
    given: dict[str, Any] = {"parameters": {"call": "slow:has"}, "isolation": {"preload": ["wave"]}, "code": code}
    tasks = [place.task("x", **given) for _ in range(3)]
    assert [e.outputs for e in place.run(*tasks)] == [{"result": True}] * 3
    assert len({place.started[t.task].pid for t in tasks}) == 1


def test_limits_of_memory_and_processor_hold(place: Place) -> None:
    (fits,) = place.run(place.task("memory", {"mb": 20}, isolation={"memory_mb": 200}))
    assert (fits.outcome, fits.outputs) == ("done", {"result": 20 << 20})
    (big,) = place.run(place.task("memory", {"mb": 400}, isolation={"memory_mb": 200}))
    assert (big.outcome, big.error.partition(":")[0]) == ("failed", "MemoryError")
    (busy,) = place.run(place.task("burn", isolation={"cpu_s": 1}))
    assert busy.outcome == "failed"
    assert "1 s of processor time" in busy.error


def test_many_tasks_leave_memory_flat(place: Place) -> None:
    def resident_kb() -> int:
        """Of the worker and its templates; task processes come and go."""
        assert place.worker is not None
        templates = [p for p in place.processes("template import main") if _parent(p) == place.worker.pid]
        pids = [place.worker.pid, *templates]
        return sum(int(Path(f"/proc/{p}/status").read_text().split("VmRSS:")[1].split()[0]) for p in pids)

    def many(n: int) -> None:
        tasks = [place.task("nothing") for _ in range(n)]
        assert {e.outcome for e in place.run(*tasks, timeout_s=300)} == {"done"}

    many(1000)
    before_kb = resident_kb()
    for _ in range(TASKS // 500):
        many(500)
    assert resident_kb() - before_kb < 6_000
    assert not any((place.state / "staged").glob("*/*"))
    place.wait(lambda: all(alive([int(f.name)]) for f in (place.state / "work" / "local").iterdir()), 5)


def test_a_template_that_dies_is_made_again(place: Place) -> None:
    running = place.task("sleep", {"seconds": 60})
    place.executor.start([running])
    place.wait(lambda: running.task in place.started)
    pid = place.started[running.task].pid
    os.kill(_parent(pid), signal.SIGKILL)
    (end,) = place.wait_for_ends(running, timeout_s=10)
    assert (end.outcome, alive([pid])) == ("lost", [])
    assert place.run(place.task("add", {"a": 1, "b": 1}))[0].outputs == {"result": 2}


def test_logs_are_followed_while_they_grow(place: Place) -> None:
    (place.project / "talks.py").write_text(
        "import time, sys\ndef talk():\n    print('one')\n    print('two', file=sys.stderr)\n    time.sleep(60)\n"
    )
    task = place.task("x", parameters={"call": "talks:talk"})
    place.executor.start([task])
    place.wait(lambda: place.log(task) == "one\ntwo\n", 10)
    assert task.task not in place.ends
    os.kill(place.started[task.task].pid, signal.SIGKILL)
    place.wait_for_ends(task, timeout_s=10)
    assert place.log(task).startswith("one\ntwo\npenstock: failed: ")


def test_code_that_changed_is_taken_or_refused(place: Place) -> None:
    file = place.project / "changing.py"
    file.write_text("def value():\n    return 1\n")
    call = {"call": "changing:value"}
    identity = CodeIdentity(place.project)
    old = identity.now()
    assert place.run(place.task("x", parameters=call, code=old))[0].outputs == {"result": 1}
    file.write_text("def value():\n    return 22\n")
    new = identity.now()
    assert new != old
    assert place.run(place.task("x", parameters=call, code=new))[0].outputs == {"result": 22}
    (refused,) = place.run(place.task("x", parameters=call, code=old))
    assert refused.outcome == "failed"
    assert old in refused.error


def test_a_projects_component_is_loaded_and_a_missing_one_is_told(place: Place) -> None:
    folder = place.project / "components"
    folder.mkdir()
    (folder / "twice.py").write_text(
        "from penstock.components.contract import BatchComponent\n"
        "class Twice(BatchComponent):\n    name = 'twice'\n    outputs = {'n': 'integer'}\n"
        "    preload = ('this_starts_threads', 'wave')\n"
        "    def run(self, context, parameters):\n        import sys\n"
        "        context.put('n', 2 * context.inputs['n'] + 100 * ('wave' in sys.modules))\n"
    )
    (place.project / "this_starts_threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    (folder / "bad.py").write_text("raise ValueError('broken on purpose')\n")
    code = CodeIdentity(place.project).now()
    task = place.task("x", component="twice", parameters={}, inputs={"n": 21}, code=code)
    (end,) = place.run(task)
    assert end.outputs == {"n": 142}, end.error
    (bad,) = place.run(place.task("x", component="bad", parameters={}))
    assert (bad.outcome, "broken on purpose" in bad.error) == ("failed", True)
    (gone,) = place.run(place.task("x", component="twic", parameters={}))
    assert "did you mean twice" in gone.error
    (older,) = place.run(place.task("x", component="twice", component_version="9", parameters={}))
    assert "version 9" in older.error


def test_an_own_environment_is_made_once(place: Place, tmp_path: Path) -> None:
    wheel = tmp_path / "own_thing-1-py3-none-any.whl"
    _wheel(wheel, {"own_thing.py": "VALUE = 5\n"})
    (place.project / "uses.py").write_text("import sys\ndef use():\n    import own_thing\n    return own_thing.VALUE\n")
    isolation = {"requirements": [str(wheel)]}
    tasks = [place.task("x", parameters={"call": "uses:use"}, isolation=isolation) for _ in range(2)]
    ends = place.run(*tasks, timeout_s=120)
    assert [(e.outputs, e.error) for e in ends] == [({"result": 5}, "")] * 2
    assert len(list((place.state / "environments").glob("*/requirements.lock"))) == 1
    (without,) = place.run(place.task("x", parameters={"call": "uses:use"}))
    assert "own_thing" in without.error
    (bad,) = place.run(place.task("x", isolation={"requirements": [str(tmp_path / "none.whl")]}), timeout_s=120)
    assert bad.outcome == "failed"
    assert "environment" in bad.error


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _wheel(path: Path, files: dict[str, str]) -> None:
    info = "own_thing-1.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: own-thing\nVersion: 1\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
