"""The contract of executors as tests. Inherit from `ExecutorSuite` and give a fixture `place`."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from penstock.components.artifacts import artifacts_in, local_path
from penstock.components.contract import Artifact
from penstock.testing.executors.place import Place, alive
from penstock.workflows.messages import Acknowledged, Hello, Kill, Progress

__all__ = ["ExecutorSuite"]


class ExecutorSuite:
    """Tests of an executor with real processes."""

    def test_a_task_runs_and_its_end_is_told(self, place: Place) -> None:
        """Value, log and process."""
        task = place.task("add", {"a": 1, "b": 2})
        (end,) = place.run(task)
        assert (end.outcome, end.outputs, end.error) == ("done", {"result": 3}, "")
        assert place.log(task) == "adding 1 2\n"
        assert place.started[task.task].pid > 0

    def test_a_failure_is_told_with_its_reason(self, place: Place) -> None:
        """The reason in short, and whole in the log."""
        task = place.task("fail")
        (end,) = place.run(task)
        assert (end.outcome, end.error) == ("failed", "ValueError: on purpose")
        assert "Traceback" in place.log(task)
        assert "on purpose" in place.log(task)

    def test_a_second_start_starts_nothing(self, place: Place, tmp_path: Path) -> None:
        """While it runs and when it has ended."""
        task = place.task("sleep", {"seconds": 0.3, "mark": str(tmp_path / "mark")})
        place.executor.start([task, task])
        place.wait(lambda: task.task in place.started)
        place.executor.start([task])
        place.wait_for_ends(task)
        place.ends.clear()
        place.executor.start([task])
        place.wait_for_ends(task)
        assert len((tmp_path / "mark").read_text().split()) == 1

    def test_outputs_are_seen_when_the_end_is_accepted(self, place: Place) -> None:
        """And with them facts and progress."""
        task = place.task("write")
        place.executor.start([task])
        (end,) = place.wait_for_ends(task)
        assert end.outcome == "done", end.error
        files = artifacts_in(end.outputs)
        assert [f.kind for f in files] == ["file", "folder"]
        assert end.outputs["n"] == 3
        assert [(f.kind, f.value) for f in end.facts] == [("rows", 7)]
        assert any(isinstance(m, Progress) and m.note == "half" for m in place.told)
        assert not any(local_path(f).exists() for f in files)
        place.executor.acknowledge([Acknowledged(task.task, True)])
        assert [local_path(files[0]).read_text(), (local_path(files[1]) / "c").read_text()] == ["hello", "hello"]

    def test_outputs_of_a_fenced_end_are_never_seen(self, place: Place) -> None:
        """They are removed."""
        task = place.task("write")
        (end,) = place.run(task, accept=False)
        assert not any(local_path(f).exists() for f in artifacts_in(end.outputs))
        assert not place.folders.staged(task.task).exists()

    def test_inputs_come_with_their_types(self, place: Place) -> None:
        """Values by name, artifacts as artifacts."""
        made = place.task("write")
        (end,) = place.run(made)
        task = place.task("kinds", inputs={"a": end.outputs["a"], "n": end.outputs["n"]})
        with (place.project / "jobs.py").open("a") as jobs:
            jobs.write("\ndef kinds(a, n):\n    return [type(a).__name__, a.uri, n]\n")
        (end_2,) = place.run(task)
        assert end_2.outputs["result"] == [Artifact.__name__, artifacts_in(end.outputs)[0].uri, 3], end_2.error

    @pytest.mark.parametrize("grace_us", [0, 200_000, 5_000_000])
    def test_a_kill_ends_a_task(self, place: Place, tmp_path: Path, grace_us: int) -> None:
        """Kindly, when there is time."""
        task = place.task("tidy", {"mark": str(tmp_path / "mark")})
        place.executor.start([task])
        place.wait(lambda: "begun" in place.log(task))
        for _ in range(2):
            place.executor.kill(Kill(task.task, "no longer wanted", grace_us))
        (end,) = place.wait_for_ends(task)
        assert (end.outcome, end.error) == ("killed", "no longer wanted")
        assert (tmp_path / "mark").exists() == (grace_us > 0)

    def test_a_deaf_task_is_killed_for_certain(self, place: Place) -> None:
        """After the grace."""
        task = place.task("deaf", {"seconds": 60})
        place.executor.start([task])
        place.wait(lambda: "deaf" in place.log(task))
        place.executor.kill(Kill(task.task, "x", 100_000))
        assert place.wait_for_ends(task, timeout_s=10)[0].outcome == "killed"

    def test_a_kill_before_the_start_is_kept(self, place: Place) -> None:
        """A task that waits for a slot never starts; one that nobody has is told as lost."""
        place.run(place.task("nothing"))
        busy = [place.task("sleep", {"seconds": 60}) for _ in range(place.executor.slots())]
        task, strange = place.task("nothing"), place.task("nothing")
        place.executor.start([*busy, task])
        place.executor.kill(Kill(task.task, "x"))
        place.executor.kill(Kill(strange.task, "x"))
        assert place.wait_for_ends(task, timeout_s=10)[0].outcome == "killed"
        assert place.wait_for_ends(strange, timeout_s=10)[0].outcome == "lost"
        assert task.task not in place.started
        for one in busy:
            place.executor.kill(Kill(one.task, "x", 0))
        place.wait_for_ends(*busy)

    def test_a_task_past_its_time_is_ended(self, place: Place) -> None:
        """It is told as timed out."""
        (end,) = place.run(place.task("sleep", {"seconds": 60}, timeout_us=200_000), timeout_s=10)
        assert end.outcome == "timed_out"

    def test_descendants_end_with_their_task(self, place: Place, tmp_path: Path) -> None:
        """Whatever session they are in; when it is killed, and when it ends by itself."""
        for function in ("family", "family_and_wait"):
            mark = tmp_path / function
            task = place.task(function, {"mark": str(mark)})
            place.executor.start([task])
            place.wait(lambda task=task: "family" in place.log(task))  # type: ignore[misc]
            if function != "family":
                place.executor.kill(Kill(task.task, "x"))
            place.wait_for_ends(task, timeout_s=20)
            pids = list(map(int, mark.read_text().split()))
            assert len(pids) == 2
            place.wait(lambda pids=pids: not alive(pids), 5)  # type: ignore[misc]

    def test_a_task_that_dies_is_told_at_once(self, place: Place) -> None:
        """As a failure of its own."""
        (end,) = place.run(place.task("die"), timeout_s=20)
        assert end.outcome == "failed"
        assert "SIGKILL" in end.error

    def test_tasks_outlive_the_scheduler(self, place: Place) -> None:
        """Their ends are told to the next one, again and again, until it acknowledges them."""
        quick, slow = place.task("sleep", {"seconds": 0.3}), place.task("sleep", {"seconds": 1.5})
        place.executor.start([quick, slow])
        place.wait(lambda: quick.task in place.started and slow.task in place.started)
        place.stop_scheduler()
        place.told.clear()
        place.start_scheduler()
        assert [e.outcome for e in place.wait_for_ends(quick, slow)] == ["done", "done"]
        hello = next(m for m in place.told if isinstance(m, Hello))
        assert {quick.task, slow.task} <= set(hello.running)
        place.stop_scheduler()
        place.ends.clear()
        place.start_scheduler()
        place.wait_for_ends(quick, slow)
        place.executor.acknowledge([Acknowledged(t.task, True) for t in (quick, slow)])
        place.wait(lambda: not place.executor.running())

    def test_ends_outlive_the_worker_and_its_tasks_do_not(self, place: Place, tmp_path: Path) -> None:
        """A worker that comes back tells what had ended, and does not have what was running."""
        done, running = (
            place.task("add", {"a": 1, "b": 1}),
            place.task("family_and_wait", {"mark": str(tmp_path / "m")}),
        )
        place.executor.start([done, running])
        place.wait_for_ends(done)
        place.wait(lambda: "family" in place.log(running))
        pids = [place.started[running.task].pid, *map(int, (tmp_path / "m").read_text().split())]
        place.stop_worker(signal.SIGKILL)
        place.wait(lambda: not alive(pids), 5)
        place.ends.clear()
        place.told.clear()
        place.start_worker()
        assert place.wait_for_ends(done)[0].outputs == {"result": 2}
        hello = next(m for m in place.told if isinstance(m, Hello))
        assert done.task in hello.running
        assert running.task not in hello.running

    def test_a_worker_alone_for_the_lease_ends_its_tasks(self, place: Place) -> None:
        """So that two never run for long."""
        task = place.task("sleep", {"seconds": 60}, lease_us=1_000_000)
        place.executor.start([task])
        place.wait(lambda: task.task in place.started)
        place.stop_scheduler()
        pid = place.started[task.task].pid
        place.wait(lambda: not alive([pid]), 10)
        place.start_scheduler()
        assert place.wait_for_ends(task)[0].outcome == "lost"
