"""One turn of the step function: the state as it evolves, changes and effects so far, what is still to look at."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from penstock.errors import WorkflowError
from penstock.store.meta.rows import ConsumptionRow, CoverageRow, FactRow, IntervalRow, Row, RowChange
from penstock.workflows.core.moves import check_move
from penstock.workflows.core.state import Coverage, State
from penstock.workflows.core.watching import Owner, Watching
from penstock.workflows.messages import Acknowledged, Command, Kill, Start, Watch
from penstock.workflows.spec.predicate import FactRef
from penstock.workflows.supervisor.interface import Wanted

__all__ = ["Core", "Effect", "Moves", "Settings", "Turn", "dumps", "replace"]

Effect = Start | Kill | Acknowledged | Wanted | Command | Watch
GROWING = frozenset({"watermark", "frontier", "offset"})

replace = msgspec.structs.replace
_ENCODER = msgspec.json.Encoder(order="sorted")


def dumps(value: Any) -> str:
    """JSON with sorted members, so that equal values are equal texts."""
    return _ENCODER.encode(value).decode()


class Settings(msgspec.Struct, frozen=True):
    """What a deployment may set; lengths in microseconds."""

    lease_us: int = 15_000_000
    """A worker not heard of for so long has lost its tasks."""
    losses_most: int = 3
    """How often a task may be lost with its worker, besides its retries."""
    kill_again_us: int = 5_000_000
    overtime_us: int = 30_000_000
    """What a worker gets, beyond a task's time-out, to tell of its end."""
    catch_up_most: int = 200
    """Firings of one schedule in one turn."""


class Moves(NamedTuple):
    """What follows from a message: changes to commit, effects to send after, an answer for whoever asked."""

    changes: list[RowChange]
    effects: list[Effect]
    answer: dict[str, Any]


class Core:
    """State and its index of waiting predicates: everything that a step reads and evolves."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.state = State()
        self.watching = Watching()
        self.broken = False
        """A step failed in its middle: the state is not to be used any more."""


class _News(NamedTuple):
    """A fact that has just been put on record."""

    ref: FactRef
    value: Any
    scope: str
    seq: int
    text: str
    redone: bool


class Turn:
    """A turn in the making."""

    def __init__(self, core: Core, now_us: int) -> None:
        self.core, self.state, self.watching, self.settings = core, core.state, core.watching, core.settings
        self.now_us = now_us
        self.changes: list[RowChange] = []
        self.effects: list[Effect] = []
        self.answer: dict[str, Any] = {}
        self.touched: dict[Owner, None] = {}
        """Predicates to look at again."""
        self.firing: dict[tuple[str, str], None] = {}
        """(workflow, trigger) with values to consume."""
        self.admit: dict[tuple[str, str], None] = {}
        """(workflow, overlap key) where a run may have room."""
        self.closing: dict[str, None] = {}
        """Runs that may be at their end."""
        self.dispatch = False

    def put(self, before: Row | None, after: Row | None) -> None:
        """Makes a move: in the state now, in the database with the commit."""
        check_move(before, after)
        self.state.put(before, after)
        self.changes.append(RowChange(before, after))

    def next_seq(self) -> int:
        """A number larger than all before; it counts once the row that bears it is put."""
        return self.state.seq + 1

    def tell(
        self, subject: str, kind: str, value: Any, *, scope: str = "", epoch: int = 0, position: int | None = None
    ) -> bool:
        """Puts a fact on record and wakes whom it concerns; False if it is nothing new.

        Args:
            subject: of the fact, as stored.
            kind: of the fact.
            value: JSON data.
            scope: what part of the subject it is about.
            epoch: of its maker.
            position: a report that is not after (epoch, position) of the last is old; None for one without order.

        Raises:
            WorkflowError: what must grow is no whole number.
        """
        if kind in GROWING and not (isinstance(value, int) and abs(value) < 1 << 63 and value is not True):
            raise WorkflowError(
                f"tell {kind}({subject})", found=repr(value), remedy="give a whole number, an instant in microseconds"
            )
        before = self.state.facts.get((subject, kind, scope))
        if before is not None:
            if kind in GROWING and not scope:
                # Several makers may tell how far a stream is; what has grown is true whoever says it.
                if value <= self.state.values[kind, subject]:
                    return False
            elif position is not None and (epoch, position) <= (before.epoch, before.position):
                return False
        if position is None:
            position = 0 if before is None else before.position
            epoch = 0 if before is None else before.epoch
        text = dumps(value)
        row = FactRow(subject, kind, scope, self.next_seq(), text, epoch, position, self.now_us)
        self.put(before, row)
        redone = before is not None and scope != ""
        self._wake(_News(FactRef(kind, subject), value, scope, row.seq, text, redone))
        return True

    def tell_interval(self, subject: str, start_us: int, end_us: int, zone: str, run: str) -> None:
        """Puts on record that a batch node has done a partition of event time."""
        coverage = self.state.coverage.get(subject) or Coverage()
        redone = coverage.covers(start_us, end_us)
        row = IntervalRow(subject, start_us, end_us, self.next_seq(), zone, run, self.now_us)
        self.put(None, row)
        if not redone:
            self._cover(subject, start_us, end_us, coverage.touching(start_us, end_us))
        text = dumps([start_us, end_us])
        self._wake(_News(FactRef("interval", subject), None, f"{start_us}/{end_us}", row.seq, text, redone))

    def _cover(self, subject: str, start_us: int, end_us: int, touching: list[tuple[int, int]]) -> None:
        """One range in the place of all that a new interval meets."""
        low = min([start_us, *(start for start, _ in touching)])
        high = max([end_us, *(end for _, end in touching)])
        former = {start: CoverageRow(subject, start, end) for start, end in touching}
        for start, row in former.items():
            if start != low:
                self.put(row, None)
        self.put(former.get(low), CoverageRow(subject, low, high))

    def _wake(self, news: _News) -> None:
        for owner in self.watching.changes.get(news.ref, ()):
            if owner[0] == "bare":
                self._arrive(owner, news)
            else:
                self.touched[owner] = None
        if news.ref.kind in GROWING and not news.scope:
            for owner in self.watching.passed(news.ref, news.value):
                self.touched[owner] = None

    def _arrive(self, owner: Owner, news: _News) -> None:
        """A new value for a trigger that counts each of them."""
        _, workflow, index = owner
        trigger = self.state.current(workflow).triggers[index].spec
        if news.redone and not trigger.consume.redone:
            return
        consumption = ConsumptionRow(
            workflow, trigger.name, news.scope, news.seq, news.text, self.now_us, "waiting", ""
        )
        self.put(None, consumption)
        self.firing[workflow, trigger.name] = None

    def watched(self, kind: str, subject: str) -> bool:
        """Whether anybody waits for any change of a fact."""
        return FactRef(kind, subject) in self.watching.changes

    def look(self, run: str, node: str) -> None:
        """A node of a run has changed: whoever reads it in the same run looks again."""
        for owner in self.watching.local.get((run, node), ()):
            self.touched[owner] = None
