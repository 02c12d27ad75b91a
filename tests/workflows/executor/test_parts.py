from __future__ import annotations

import random
from pathlib import Path

from penstock.components.code import CodeIdentity
from penstock.workflows.executor.local.ends import Ends
from penstock.workflows.executor.local.folders import TARGET, Folders
from penstock.workflows.messages import Acknowledged, Ended, TaskRef


def end(n: int) -> Ended:
    return Ended("w", TaskRef(f"r/{n}", 1, n), "done", {"n": n, "text": "x" * (n % 50)})


def test_ends_are_kept_until_they_are_acknowledged(tmp_path: Path) -> None:
    random.seed(1)
    kept: dict[TaskRef, Ended] = {}
    ends = Ends(tmp_path / "ends")
    for n in range(300):
        ends.add([end(n)])
        kept[end(n).task] = end(n)
        if random.random() < 0.6:
            gone = random.choice(list(kept))
            ends.drop([Acknowledged(gone, True), Acknowledged(TaskRef("r/none", 1, 1), True)])
            del kept[gone]
        if n % 37 == 0:
            ends.close()
            ends = Ends(tmp_path / "ends")
        assert {e.task: e for e in ends} == kept
    ends.close()


def test_a_torn_file_of_ends_keeps_what_is_whole(tmp_path: Path) -> None:
    ends = Ends(tmp_path / "ends")
    ends.add([end(1), end(2)])
    ends.close()
    whole = (tmp_path / "ends").read_bytes()
    for cut in range(len(whole)):
        (tmp_path / "torn").write_bytes(whole[:cut])
        torn = Ends(tmp_path / "torn")
        found = list(torn)
        torn.close()
        assert found == [end(1), end(2)][: len(found)]
        assert len(found) == (cut >= len(whole) // 2)


def test_outputs_are_published_once_however_often_it_is_asked(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    task, other = TaskRef("r/n", 1, 1), TaskRef("r/n", 1, 2)
    for one in (task, other):
        staged = folders.staged(one)
        staged.mkdir(parents=True)
        (staged / "a").write_text(str(one.epoch))
        (staged / TARGET).symlink_to("outputs/r/n/1")
    folders.publish(task, False)
    for _ in range(3):
        folders.publish(other, True)
        folders.publish(task, True)
    assert (folders.outputs("r", "n", 1) / "a").read_text() == "2"
    assert not (tmp_path / "staged" / "r%2Fn").exists()


def test_code_is_named_by_what_it_says(tmp_path: Path) -> None:
    identity = CodeIdentity(tmp_path)
    empty = identity.now()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.py").write_text("A = 1\n")
    first = identity.now()
    assert first not in ("", empty)
    for path in ("data/x.py", ".hidden/x.py", "venv/lib/x.py", "jobs/__pycache__/a.py", "notes.txt"):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("B = 2\n")
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    assert identity.now() == first
    (tmp_path / "jobs" / "a.py").write_text("A = 2\n")
    assert identity.now() != first
    (tmp_path / "jobs" / "a.py").write_text("A = 1\n")
    assert identity.now() == first == CodeIdentity(tmp_path).now()
    (tmp_path / "jobs" / "a.py").rename(tmp_path / "jobs" / "b.py")
    assert identity.now() != first
