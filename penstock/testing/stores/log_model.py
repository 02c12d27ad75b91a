"""The door and the topic of time.md as plain lists and dicts, one row at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

__all__ = ["LogModel", "ModelRow", "Offered"]


@dataclass(frozen=True)
class Offered:
    """A row as a producer offers it: event time (None is refused), id, op (0, 1, 2), user and partition."""

    t: int | None
    id: str | None
    op: int
    user: str | None
    partition: int


@dataclass(frozen=True)
class ModelRow:
    """A row as a partition holds it."""

    offset: int
    k: int
    t: int
    id: str | None
    op: int
    user: str | None


@dataclass
class _Event:
    """What the door remembers of an id."""

    inserted_k: int | None
    k: int
    partition: int
    offset: int
    deleted: bool


@dataclass
class LogModel:
    """One live topic with ids and corrections."""

    n_partitions: int
    dedup_us: int
    corrected_us: int | None
    max_ahead_us: int
    partitions: list[list[ModelRow]] = field(default_factory=list)
    next_offsets: list[int] = field(default_factory=list)
    start_offsets: list[int] = field(default_factory=list)
    last_k: int | None = None
    promised_us: int | None = None
    sequences: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    dead: int = 0
    duplicates: int = 0
    no_ops: int = 0
    _events: dict[str, _Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.partitions = [[] for _ in range(self.n_partitions)]
        self.next_offsets = [0] * self.n_partitions
        self.start_offsets = [0] * self.n_partitions

    def append(self, rows: list[Offered], now_us: int) -> int:
        """Takes a batch; the known time it would get."""
        floors = [us + 1 for us in (self.last_k, self.promised_us) if us is not None]
        k = max([now_us, *floors])
        stored = [self._take(row, k) for row in rows]
        if any(stored):
            self.last_k = k
        return k

    def _take(self, row: Offered, k: int) -> bool:
        if row.t is None and row.op != 2:
            self.dead += 1
            return False
        t = k if row.t is None else row.t
        if t > k + self.max_ahead_us:
            self.dead += 1
            return False
        if row.id is None:
            if row.op == 2:
                self.no_ops += 1
                return False
            self._store(row.partition, ModelRow(0, k, t, None, 0, row.user))
            return True
        return self._decide(row, row.id, t, k)

    def _decide(self, row: Offered, text: str, t: int, k: int) -> bool:
        event = self._events.get(text)
        known = event is not None and (self.corrected_us is None or event.k >= k - self.corrected_us)
        op = 0 if row.op == 1 and not known else row.op
        inserted_k = None if event is None else event.inserted_k
        if row.op == 0 and inserted_k is not None and inserted_k >= k - self.dedup_us:
            self.duplicates += 1
            return False
        if row.op == 2 and not known:
            self.no_ops += 1
            return False
        partition = row.partition
        if event is not None and known:
            if op == 2:
                partition = event.partition
            elif event.partition != partition and not event.deleted:
                self._store(event.partition, ModelRow(0, k, t, text, 2, None))
        offset = self._store(partition, ModelRow(0, k, t, text, op, row.user))
        self._events[text] = _Event(k if op == 0 else inserted_k, k, partition, offset, op == 2)
        return True

    def _store(self, partition: int, row: ModelRow) -> int:
        offset = self.next_offsets[partition]
        self.next_offsets[partition] += 1
        self.partitions[partition].append(replace(row, offset=offset))
        return offset

    def erase(self, user: str) -> int:
        """Takes the user's rows out, with earlier versions of their events; how many rows."""
        gone = 0
        for partition, rows in enumerate(self.partitions):
            last = {row.id: row.offset for row in rows if row.user == user and row.id is not None}
            erased = [row for row in rows if row.user == user or row.offset < last.get(row.id or "", -1)]
            places = {(partition, row.offset) for row in erased}
            gone += len(erased)
            self.partitions[partition] = [row for row in rows if row not in erased]
            self._events = {
                text: event for text, event in self._events.items() if (event.partition, event.offset) not in places
            }
        return gone
