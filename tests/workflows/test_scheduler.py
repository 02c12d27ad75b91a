from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.clock import WallClock
from penstock.errors import StoreError, WorkflowError
from penstock.names import fingerprint
from penstock.store.meta import Meta, RowChange, RowStore
from penstock.store.meta.rows import DefinitionRow, FactRow, NodeRow, RunRow
from penstock.workflows.core.requests import Apply, FactGiven, StartRun
from penstock.workflows.messages import Ended, Started, TaskRef
from penstock.workflows.scheduler import Scheduler
from penstock.workflows.spec.model import WorkflowSpec
from tests.workflows.core.world import after, node
from tests.workflows.hand import Hand, Keeper


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RowStore]:
    with Meta.open(tmp_path / "meta.db", clock=WallClock()) as meta:
        rows = RowStore(meta.engine)
        yield rows
        rows.close()


def apply(spec: WorkflowSpec) -> Apply:
    text = spec.model_dump_json()
    return Apply(spec.name, text, fingerprint(text), "ada", "test")


def chain(length: int) -> WorkflowSpec:
    nodes = [node("n0"), *(node(f"n{i}", *after(f"n{i - 1}")) for i in range(1, length))]
    return WorkflowSpec(name="w", nodes=tuple(nodes))


class Ends:
    """Waits for runs to end, as a subscriber."""

    def __init__(self, scheduler: Scheduler, count: int = 1) -> None:
        self.left, self.event = count, threading.Event()
        scheduler.subscribe(self)

    def __call__(self, changes: list[RowChange]) -> None:
        for _, row in changes:
            if isinstance(row, RunRow) and row.ended_us is not None:
                self.left -= 1
                if self.left <= 0:
                    self.event.set()


def test_a_run_goes_to_its_end_and_is_on_record(store: RowStore) -> None:
    hand = Hand()
    scheduler = Scheduler(store, WallClock(), hand, Keeper())
    scheduler.start()
    ends = Ends(scheduler)
    assert scheduler.post(apply(chain(20))).result(5)["version"] == 1
    assert scheduler.post(StartRun("r", "w")).result(5)["run"] == "r"
    assert ends.event.wait(20)
    scheduler.close()
    assert [row.state for row in store.read(RunRow)] == ["done"]
    assert {row.state for row in store.read(NodeRow)} == {"done"}
    assert len(hand.bodies) == 20 and all(hand.acknowledged.values())
    hand.close()


def test_a_task_that_runs_is_on_record_before_its_end_comes(store: RowStore) -> None:
    hand = Hand(silent=True)
    scheduler = Scheduler(store, WallClock(), hand, Keeper())
    scheduler.start()
    seen, ends = threading.Event(), Ends(scheduler)
    scheduler.subscribe(lambda changes: seen.set() if any(_runs(row) for _, row in changes) else None)
    scheduler.post(apply(chain(1)))
    scheduler.post(StartRun("r", "w")).result(5)
    (row,) = store.read(NodeRow)
    task = TaskRef("r/n0", row.attempt, row.epoch)
    scheduler.tell(Started("hand", task, 1))
    assert seen.wait(20)
    scheduler.tell(Ended("hand", task, "done"))
    assert ends.event.wait(20)
    scheduler.close()
    hand.close()


def _runs(row: object) -> bool:
    return isinstance(row, NodeRow) and row.state == "running"


def test_what_cannot_be_is_refused_and_the_rest_goes_on(store: RowStore) -> None:
    hand = Hand()
    scheduler = Scheduler(store, WallClock(), hand, Keeper())
    scheduler.start()
    with pytest.raises(WorkflowError, match="no such workflow"):
        scheduler.post(StartRun("r", "w")).result(5)
    broken = Apply("w", "{}", "f", "ada", "test")
    with pytest.raises(ValueError, match="validation error"):
        scheduler.post(broken).result(5)
    assert scheduler.post(FactGiven("x", "watermark", 5)).result(5)["new"]
    scheduler.close()
    hand.close()


def test_another_scheduler_goes_on_where_the_first_was(store: RowStore) -> None:
    hand = Hand(silent=True)
    first = Scheduler(store, WallClock(), hand, Keeper())
    first.start()
    first.post(apply(chain(3))).result(5)
    first.post(StartRun("r", "w")).result(5)
    first.close()
    hand.close()
    other = Hand()
    second = Scheduler(store, WallClock(), other, Keeper())
    ends = Ends(second)
    second.start()
    assert ends.event.wait(20)
    second.close()
    other.close()


def test_a_change_made_by_somebody_else_is_seen_before_it_is_written_over(store: RowStore) -> None:
    hand, keeper = Hand(silent=True), Keeper()
    one, two = Scheduler(store, WallClock(), hand, keeper), Scheduler(store, WallClock(), hand, keeper)
    one.open()
    answer = one.post(apply(chain(1)))
    one.make_pass()
    two.open()
    run = one.post(StartRun("r", "w"))
    one.make_pass()
    again = two.post(StartRun("r", "w"))
    while two.make_pass():
        pass
    assert answer.result(0) and run.result(0)["run"] == again.result(0)["run"] == "r"
    assert len(store.read(RunRow)) == 1
    hand.close()


def test_what_cannot_be_written_is_found_and_the_rest_is_written(store: RowStore) -> None:
    hand = Hand(silent=True)
    scheduler = Scheduler(store, WallClock(), hand, Keeper())
    scheduler.open()
    scheduler.post(apply(chain(1)))
    for number in range(3):
        scheduler.post(StartRun(f"r{number}", "w"))
    scheduler.make_pass()
    (task,) = {f"{row.run}/{row.node}": TaskRef(f"{row.run}/{row.node}", row.attempt, row.epoch)
               for row in store.read(NodeRow)}.values()  # fmt: skip
    good = [scheduler.post(FactGiven("x", "rows", number)) for number in range(3)]
    scheduler.tell(Ended("hand", task, "done", {"text": "\ud800"}))
    huge = scheduler.post(FactGiven("y", "rows", 1, position=1 << 70))
    late = scheduler.post(FactGiven("z", "rows", 1))
    bad = scheduler.post(FactGiven("z", "watermark", "noon"))
    while scheduler.make_pass():
        pass
    assert all(answer.result(0)["new"] for answer in [*good, late])
    with pytest.raises(OverflowError):
        huge.result(0)
    with pytest.raises(WorkflowError, match="whole number"):
        bad.result(0)
    (node_row,) = store.read(NodeRow, "run = 'r0'")
    assert node_row.state == "failed" and "could not be taken in" in node_row.error
    assert {row.state for row in store.read(RunRow, "run <> 'r0'")} == {"running", "waiting"}
    waiting = scheduler.post(StartRun("r9", "w"))
    scheduler.close()
    with pytest.raises(WorkflowError, match="closed"):
        waiting.result(0)
    hand.close()


class FullDisk(RowStore):
    """Writes nothing while it is full."""

    full = False

    def commit(self, changes: Iterable[RowChange]) -> int:
        if self.full and (changes := list(changes)):
            raise StoreError("write", found="no space left", remedy="free some")
        return super().commit(changes)


def test_workers_and_what_they_said_are_known_after_a_commit_that_failed(tmp_path: Path) -> None:
    with Meta.open(tmp_path / "meta.db", clock=WallClock()) as meta:
        store, hand = FullDisk(meta.engine), Hand(slots=7)
        scheduler = Scheduler(store, WallClock(), hand, Keeper())
        scheduler.open()
        applied = scheduler.post(apply(chain(1)))
        scheduler.make_pass()
        assert applied.result(0)
        store.full = True
        scheduler.tell(FactGiven("x", "watermark", 5))
        with pytest.raises(StoreError, match="no space left"):
            scheduler.make_pass()
        store.full = False
        run = scheduler.post(StartRun("r", "w"))
        while scheduler.make_pass():
            pass
        assert run.result(0)["state"] in ("running", "waiting")
        slots = scheduler.look(lambda core, _: core.state.workers["hand"].slots)
        scheduler.make_pass()
        assert slots.result(0) == 7
        assert [fact.value for fact in store.read(FactRow, "subject = 'x'")] == ["5"]
        store.close()
        hand.close()


def test_a_workflow_that_cannot_be_read_keeps_the_others_from_nothing(store: RowStore) -> None:
    hand = Hand(silent=True)
    first = Scheduler(store, WallClock(), hand, Keeper())
    first.open()
    first.post(apply(chain(2)))
    other = WorkflowSpec(name="v", nodes=(node("a"), node("s", kind="stream")))
    first.post(apply(other))
    for workflow in ("w", "v"):
        first.post(StartRun(f"{workflow}1", workflow))
    first.make_pass()
    hand.close()
    (known,) = store.read(DefinitionRow, "name = 'workflow/v'")
    store.commit([RowChange(known, None)])
    newer = known.spec.replace('"notes"', '"what_a_later_one_knows":1,"notes"')
    store.commit([RowChange(None, msgspec.structs.replace(known, spec=newer))])
    well = Hand()
    second = Scheduler(store, WallClock(), well, Keeper())
    ends = Ends(second)
    second.start()
    assert ends.event.wait(20)
    with pytest.raises(WorkflowError, match="no such workflow"):
        second.post(StartRun("v2", "v")).result(5)
    second.close()
    well.close()
    assert {row.run: row.state for row in store.read(RunRow)} == {"w1": "done", "v1": "running"}
