"""`docs/workflow-truth.md` is made by running it: what becomes of a burst of values under every rule.

To write the page anew: `python -m tests.workflows.core.test_truth_table > docs/workflow-truth.md`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from penstock.store.meta.rows import ConsumptionRow, RunRow
from penstock.workflows.core.requests import FactGiven
from penstock.workflows.messages import Ended, Hello
from tests.workflows.core.world import World, node

PAGE = Path(__file__).parents[3] / "docs" / "workflow-truth.md"
CONSUME: dict[str, dict[str, Any]] = {
    "each": {"how": "each"},
    "coalesce": {"how": "coalesce"},
    "latest": {"how": "latest"},
    "window": {"how": "window", "count": 4, "deadline": "1min"},
}
OVERLAP: dict[str, dict[str, Any]] = {
    "parallel": {"how": "parallel", "limit": 3},
    "queue": {"how": "queue"},
    "priority": {"how": "priority"},
    "skip_new": {"how": "skip_new"},
    "replace_running": {"how": "replace_running"},
    "keep_newest": {"how": "keep_newest"},
}
BURSTS = (1, 10, 10_000)
HEAD = """\
# What becomes of a burst of values

This page is made by running it (`tests/workflows/core/test_truth_table.py`), and the test compares every line.
A trigger `snapshot(items)` sees `n` new values in a row; no task ends before the last has come, then every task ends
as it can, and a minute passes. `parallel` has a limit of 3, the others of 1; `window` has a count of 4 and a deadline
of a minute.

- **values**: what became of each of them. Consumed: its run was made. Superseded: a newer value was taken in its
  place (`latest`). Skipped: the overlap made no run of it (`skip_new`). None is ever left waiting.
- **runs**: how they ended. Killed: replaced while it went on (`replace_running`). Superseded: replaced while it waited
  (`replace_running`, `keep_newest`). The values of a replaced run go with it.
- **together**: the most runs that went on at one time; never more than the limit.

`coalesce` and `latest` make their run when it can begin at once, so that nothing is made only to be replaced;
`replace_running` makes room for them at once. `parallel` and `queue` begin runs in the order in which they were made,
`priority` the most urgent first.
"""


def burst(consume: dict[str, Any], overlap: dict[str, Any], count: int) -> tuple[Counter[str], Counter[str], int]:
    """Fates of values, ends of runs, and the most runs that went on together."""
    world, most = World(slots=64), 0
    world.apply(node("a"), triggers=[{"name": "t", "on": "snapshot(items)", "consume": consume}], overlap=overlap)
    for number in range(count):
        world.say(FactGiven("items", "snapshot", number))
        most = max(most, sum(map(len, world.state.going.values())))
    for _ in range(2):
        world.say(Hello("w", "default", 64, tuple(order.task for order in world.out.values())))
        most = max(most, sum(map(len, world.state.going.values())))
        while world.out:
            order = world.out.pop(next(iter(world.out)))
            world.say(Ended("w", order.task, "done"))
            most = max(most, sum(map(len, world.state.going.values())))
        world.wait(60_000_000)
    values = Counter(row.state for row in world.tables.values() if isinstance(row, ConsumptionRow))
    runs = Counter(row.state for row in world.tables.values() if isinstance(row, RunRow))
    return values, runs, most


def line(consume: str, overlap: str, count: int) -> str:
    values, runs, most = burst(CONSUME[consume], OVERLAP[overlap], count)
    assert sum(values.values()) == count, "a value is lost or doubled"
    assert not set(values) - {"consumed", "superseded", "skipped"}, "a value strands"
    assert not set(runs) - {"done", "killed", "superseded"}, "a run strands"
    assert most <= OVERLAP[overlap].get("limit", 1), "the cap is exceeded"
    return f"| {consume} | {overlap} | {count:,} | {told(values)} | {told(runs)} | {most} |"


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items()))


def table(consume: str) -> list[str]:
    return [line(consume, overlap, count) for overlap in OVERLAP for count in BURSTS]


def page() -> str:
    head = "| consume | overlap | n | values | runs | together |\n|---|---|---|---|---|---|\n"
    return f"{HEAD}\n{head}" + "\n".join(row for consume in CONSUME for row in table(consume)) + "\n"


@pytest.mark.parametrize("consume", CONSUME)
def test_every_line_of_the_page_is_so(consume: str) -> None:
    text = PAGE.read_text("utf-8")
    assert text.startswith(HEAD)
    assert [row for row in text.splitlines() if row.startswith(f"| {consume} |")] == table(consume)


if __name__ == "__main__":
    print(page(), end="")
