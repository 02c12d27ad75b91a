"""A world of one core: a clock moved by hand, a mirror of the tables, and a worker that does as it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from penstock.names import fingerprint
from penstock.store.meta.rows import NodeRow, Row, RowChange, key_of
from penstock.workflows.core.requests import Apply, Message, StartRun, Tick
from penstock.workflows.core.state import State
from penstock.workflows.core.step import recover, step
from penstock.workflows.core.turn import Core, Effect, Settings
from penstock.workflows.messages import Assignment, Ended, FactValue, Hello, Start, Started
from penstock.workflows.spec.model import Node, WorkflowSpec

Outcome = Literal["done", "failed", "killed", "timed_out", "lost"]


def node(name: str, *when: str, kind: Literal["batch", "stream"] = "batch", **fields: Any) -> Node:
    """A node that starts when all of `when` hold."""
    edges = tuple({"action": "start", "when": text} for text in when) + tuple(fields.pop("edges", ()))
    data = {"name": name, "kind": kind, "component": "nothing", "edges": edges, **fields}
    return Node.model_validate(data)


def after(*names: str) -> tuple[str, ...]:
    return tuple(f'status({name}) == "done"' for name in names)


class World:
    """Drives the core by itself; every change is held against a mirror of the tables."""

    def __init__(self, settings: Settings | None = None, *, slots: int = 4) -> None:
        self.core = Core(settings)
        self.now_us = 1_000_000
        self.tables: dict[tuple[Any, ...], Row] = {}
        self.effects: list[Effect] = []
        self.out: dict[str, Assignment] = {}
        self.slots = slots
        if slots:
            self.say(Hello("w", "default", slots, ()))

    @property
    def state(self) -> State:
        return self.core.state

    def say(self, message: Message) -> dict[str, Any]:
        moves = step(self.core, message, self.now_us)
        self.mirror(moves.changes)
        self._collect(moves.effects)
        return moves.answer

    def _collect(self, effects: Iterable[Effect]) -> None:
        self.effects.extend(effects)
        for effect in effects:
            if isinstance(effect, Start):
                self.out[effect.assignment.task.node_run] = effect.assignment

    def mirror(self, changes: Iterable[RowChange]) -> None:
        for before, after_ in changes:
            row = before if before is not None else after_
            assert row is not None
            assert self.tables.get(key_of(row)) == before, f"{before} was expected"
            if after_ is None:
                del self.tables[key_of(row)]
            else:
                self.tables[key_of(row)] = after_

    def apply(self, *nodes: Node, name: str = "w", **fields: Any) -> dict[str, Any]:
        spec = WorkflowSpec.model_validate({"name": name, "nodes": nodes, **fields})
        text = spec.model_dump_json()
        return self.say(Apply(name, text, fingerprint(text), "ada", "test"))

    def run(self, run: str = "r", workflow: str = "w", **fields: Any) -> dict[str, Any]:
        return self.say(StartRun(run, workflow, **fields))

    def start(self, task: str, worker: str = "w") -> None:
        self.say(Started(worker, self.out[task].task, 1))

    def end(
        self,
        task: str,
        outcome: Outcome = "done",
        *,
        outputs: dict[str, Any] | None = None,
        facts: tuple[FactValue, ...] = (),
        error: str = "",
    ) -> None:
        order = self.out.pop(task)
        self.say(Ended("w", order.task, outcome, outputs or {}, facts, error))

    def work(self, most: int = 100_000, do: Callable[[Assignment], Outcome] = lambda _: "done") -> int:
        """Ends what is out, oldest first, until nothing is."""
        for count in range(most):
            if not self.out:
                return count
            task = next(iter(self.out))
            self.end(task, do(self.out[task]))
        return most

    def wait(self, us: int) -> None:
        """Lets time pass, and every timer ring at its instant."""
        until = self.now_us + us
        while (at := self.state.next_wake_us()) is not None and at <= until:
            self.now_us = max(self.now_us, at)
            self.say(Tick())
        self.now_us = until
        self.say(Tick())

    def again(self) -> None:
        """Dies, and comes back with what the tables hold."""
        core = Core(self.core.settings)
        order = sorted(self.tables.values(), key=_loading)
        for row in order:
            if not (isinstance(row, NodeRow) and row.run not in core.state.runs):
                core.state.put(None, row)
        self.core = core
        moves = recover(core, self.now_us)
        self.mirror(moves.changes)
        self._collect(moves.effects)

    def status(self, run: str = "r") -> dict[str, str]:
        return {name: row.state for name, row in self.state.nodes[run].items()}

    def take(self, kind: type[Any]) -> list[Any]:
        """Effects of a kind since they were last taken."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found


_ORDER = ("WorkflowRow", "DefinitionRow", "PoolRow", "RunRow", "NodeRow")


def _loading(row: Row) -> tuple[int, int]:
    name = type(row).__name__
    return (_ORDER.index(name) if name in _ORDER else 9), getattr(row, "seq", getattr(row, "revision", 0))
