"""The state of a group as rows arrive: versions, retractions, tiles, forgetting. `time.md`, Forgetting.

This is what a live engine does, said plainly: rows first, tiles behind the folding rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from penstock.define.aggregate import Agg
from penstock.define.relation import Group
from penstock.define.stream import Stream
from penstock.define.window import Window
from penstock.testing.conformance import FoundCell
from penstock.testing.model.fields import State, lift, merge, value_of
from penstock.testing.model.identities import Identities
from penstock.testing.oracle.rows import Row
from penstock.testing.oracle.sql import Functions
from penstock.testing.oracle.windows import LIFETIME, hop_us, left_edge, names

__all__ = ["GroupModel", "Kept", "TooLate"]

NEVER_US = 2**63 - 1
CALENDAR_TILE_US = 900_000_000  # local days of every zone start at a quarter of an hour
LIFETIME_TILE_US = 10_000_000

Key = tuple[Any, ...]


class TooLate(Exception):  # noqa: N818 it is no error: history answers
    """A query from before `f - D_obs`: history answers it."""


@dataclass(eq=False)
class Kept:
    """A version of a row in state.

    Attributes:
        until_us: the known time from which it no longer counts.
        done: the windows (by place) that need it no more as a row: folded into a tile, or passed.
    """

    row: Row
    until_us: int = NEVER_US
    done: set[int] = field(default_factory=set)


@dataclass(eq=False)
class _KeyState:
    rows: list[Kept] = field(default_factory=list)
    tiles: dict[tuple[int, int], list[State | None]] = field(default_factory=dict)
    counts: dict[tuple[int, int], int] = field(default_factory=dict)


class GroupModel:
    """A group's state.

    Args:
        stream: where its rows come from.
    """

    def __init__(self, group: Group, stream: Stream, functions: Functions) -> None:
        self.group, self.functions = group, functions
        self.identities = Identities(stream)
        self.windows: tuple[Window, ...] = group.windows or (LIFETIME,)
        self.offset_us = max(window.offset_us for window in self.windows)
        self.frontier_us = -(2**63)
        self.keys: dict[Key, _KeyState] = {}
        self._newest: dict[int, Kept] = {}

    @property
    def since_us(self) -> int:
        """The earliest `q` that is still answered: `f - D_obs`."""
        return self.frontier_us - self.group.observations_late_us

    def apply(self, row: Row) -> None:
        """Takes the next row in order of arrival; a correction ends the version before it, wherever that counts."""
        event = self.identities.event(row)
        if event in self._newest:
            self._newest[event].until_us = row.k
        self._newest[event] = kept = Kept(row)
        key = tuple(row.values.get(column) for entity in self.group.entities for column in entity.key_columns)
        if row.op not in ("delete", "drop") and None not in key:
            self.keys.setdefault(key, _KeyState()).rows.append(kept)

    def advance(self, frontier_us: int) -> None:
        """Moves the known frontier; what no query can need as rows is folded, what none can cover is forgotten."""
        self.frontier_us = max(self.frontier_us, frontier_us)
        for key in list(self.keys):
            state = self.keys[key]
            self._fold(state)
            self._forget(state)
            if not state.rows and not state.tiles:
                del self.keys[key]
        self.identities.forget(self.frontier_us)
        self._newest = {event: kept for event, kept in self._newest.items() if self._correctable(kept)}

    def _correctable(self, kept: Kept) -> bool:
        """Whether a row to come may still correct this version."""
        if not self.identities.corrected or kept.row.id is None:
            return False
        horizon_us = self.identities.horizon_us
        return horizon_us is None or self.frontier_us < kept.row.k + horizon_us

    def _settled(self, kept: Kept) -> bool:
        """Whether every query to come knows this version, and no correction can reach it."""
        known = self.frontier_us >= kept.row.k + self.group.observations_late_us
        return known and not self._correctable(kept) and kept.until_us == NEVER_US

    def _fold(self, state: _KeyState) -> None:
        for kept in state.rows:
            if not self._settled(kept):
                continue
            for place, window in enumerate(self.windows):
                span = _span_us(window)
                start = _counted_t(window, kept.row)
                start -= start % span if span else 0
                if span and place not in kept.done and start + span <= self.since_us - self.offset_us:
                    kept.done.add(place)
                    tile = state.tiles.setdefault((place, start), [None] * len(self.group.aggs))
                    for number, (_, agg) in enumerate(self.group.aggs):
                        tile[number] = merge(agg, tile[number], lift(agg, kept.row, self.functions))
                    state.counts[place, start] = state.counts.get((place, start), 0) + 1

    def _forget(self, state: _KeyState) -> None:
        for place, window in enumerate(self.windows):
            left = left_edge(window, self.since_us)
            if left is not None:
                for start in [start for at, start in state.tiles if at == place]:
                    if start + _span_us(window) <= left:
                        del state.tiles[place, start]
                        del state.counts[place, start]
            for kept in state.rows:
                if (left is not None and _counted_t(window, kept.row) < left) or self._outrun(window, kept, state):
                    kept.done.add(place)
        state.rows = [
            kept for kept in state.rows if kept.until_us > self.since_us and len(kept.done) < len(self.windows)
        ]

    def _outrun(self, window: Window, kept: Kept, state: _KeyState) -> bool:
        """Whether n settled rows that every query to come covers are greater, in a window of n rows."""
        if window.kind != "rows":
            return False
        right = self.since_us - window.offset_us
        greater = [
            other
            for other in state.rows
            if other.row.order > kept.row.order and self._settled(other) and _counted_t(window, other.row) < right
        ]
        return len(greater) >= window.n

    def read(self, key: Key, q: int, a: int | None = None, self_row: Row | None = None) -> dict[str, FoundCell]:
        """The features of a key.

        Args:
            a: the known time, equal to `q`; None: everything applied so far, as for a row at its own position.

        Raises:
            TooLate: `q` lies before `f - D_obs`.
        """
        if q < self.since_us:
            raise TooLate
        state = self.keys.get(key, _KeyState())
        found: dict[str, FoundCell] = {}
        seen = False
        for place, window in enumerate(self.windows):
            tiles = list(self._tiles(state, place, window, q))
            rows = list(self._rows(state, place, window, q, a))
            if (
                self_row is not None
                and self.group.include_self
                and window.offset_us == 0
                and None not in key
                and self_row not in rows
            ):
                rows = sorted([*rows, self_row], key=lambda row: row.order)
            rows = rows[-window.n :] if window.kind == "rows" else rows
            seen = seen or bool(tiles or rows)
            for number, (name, agg) in enumerate(self.group.aggs):
                states = [tile[number] for tile in tiles] + [lift(agg, row, self.functions) for row in rows]
                found[names(name, window)] = value_of(agg, _merged(agg, states), q - window.offset_us)
        return found if seen else {name: FoundCell(cell.value, "unseen") for name, cell in found.items()}

    def _tiles(self, state: _KeyState, place: int, window: Window, q: int) -> Iterator[list[State | None]]:
        left = left_edge(window, q)
        for (at, start), tile in sorted(state.tiles.items(), key=lambda item: item[0]):
            if at == place and (left is None or left <= start):
                yield tile

    def _rows(self, state: _KeyState, place: int, window: Window, q: int, a: int | None) -> Iterator[Row]:
        left, right = left_edge(window, q), q - window.offset_us
        for kept in sorted(state.rows, key=lambda kept: kept.row.order):
            t = _counted_t(window, kept.row)
            known = kept.until_us == NEVER_US if a is None else kept.row.k <= a < kept.until_us
            before = t < right or (window.closed == "both" and t == right)
            if place not in kept.done and known and before and (left is None or left <= t):
                yield kept.row

    def form(self) -> set[tuple[Any, ...]]:
        """What is held as rows and what as tiles: depends on the definition and the rows, never on timing."""
        rows = {
            ("row", key, place, kept.row.place)
            for key, state in self.keys.items()
            for kept in state.rows
            for place in range(len(self.windows))
            if place not in kept.done
        }
        tiles = {("tile", key, *tile, n) for key, state in self.keys.items() for tile, n in state.counts.items()}
        return rows | tiles


def _span_us(window: Window) -> int:
    """The width of a window's tiles; 0 where rows stay rows."""
    match window.kind:
        case "time":
            return hop_us(window)
        case "calendar":
            return CALENDAR_TILE_US
        case "lifetime":
            return LIFETIME_TILE_US
    return 0


def _counted_t(window: Window, row: Row) -> int:
    return row.t - 1 if window.closed == "right" else row.t


def _merged(agg: Agg, states: Iterable[State | None]) -> State | None:
    found: State | None = None
    for state in states:
        found = merge(agg, found, state)
    return found
