"""The layout of a feature group as the kernels see it: slots, measures, windows, outputs. Plain data, no I/O.

A plan lowers a group to a `Layout` and one Arrow expression per slot; every engine feeds the same layout to the same
kernels. A row of a group is (key, t, order, known_from, known_until, one 8- or 16-byte value per slot).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.names import Fingerprint, fingerprint
from penstock.semantics.windows import Instants, edges_us

__all__ = ["Layout", "Measure", "Op", "Output", "Slot", "SlotKind", "Window", "WindowKind"]


class SlotKind(StrEnum):
    """How a slot's value is held per row; every slot may be null."""

    INT = "int"  # int64; also instants, durations, dates as numbers
    FLOAT = "float"  # float64; never NaN or infinite, -0.0 is 0.0
    DECIMAL = "decimal"  # scaled integer of 128 bits; the scale is the slot's
    BOOL = "bool"
    CODE = "code"  # int64 code of an interned value of any other type (text, bytes, list, struct ...)


@dataclass(frozen=True, slots=True)
class Slot:
    """One value per row, made by the expression `text` from the input stream's columns.

    Attributes:
        type: the Penstock type of the value, as text (`decimal(12,2)`, `text`, `struct<...>`).
        scale: of a decimal; 0 otherwise.
    """

    text: str
    kind: SlotKind
    type: str
    scale: int = 0


class Op(StrEnum):
    """What a measure computes. The rules for nulls, ties and empties are in the table of `time.md`, Values."""

    COUNT = "count"  # rows, or non-null values of `slot`
    SUM = "sum"
    MEAN = "mean"
    SHARE = "share"  # mean of a condition, null conditions ignored
    MIN = "min"
    MAX = "max"
    VARIANCE = "variance"
    STD = "std"
    FIRST = "first"
    LAST = "last"
    LAST_N = "last_n"  # list of the newest n rows' values, newest first
    DISTINCT = "distinct"  # exact up to `limit`, then null with status
    DISTINCT_APPROX = "distinct_approx"  # HyperLogLog registers
    DECAYED_SUM = "decayed_sum"
    DECAYED_COUNT = "decayed_count"
    RATIO = "ratio"  # sum(slot) / sum(slot2)
    CUSTOM = "custom"  # a user's own aggregate in Python


@dataclass(frozen=True, slots=True)
class Measure:
    """An aggregate over slots.

    Attributes:
        slot: index of the (first) argument; None for `count(*)` and `decayed_count`.
        slot2: denominator of a ratio.
        slots: the arguments after the first, of last_n and of a user's aggregate.
        where: index of a BOOL slot; a row counts only where it is true.
        per: index of a slot; the result is a map from its value to the result, null buckets dropped.
        n: of last_n. limit: of distinct. half_life_us: of decay. custom: name of the user's aggregate.
    """

    op: Op
    slot: int | None = None
    slot2: int | None = None
    slots: tuple[int, ...] = ()
    where: int | None = None
    per: int | None = None
    n: int = 0
    limit: int = 0
    half_life_us: int = 0
    custom: str = ""


class WindowKind(StrEnum):
    """The kinds of windows."""

    TIME = "time"  # [floor_hop(q - offset - width), q - offset)
    LIFETIME = "lifetime"  # no left edge
    CALENDAR = "calendar"  # from the last local boundary at or before q - offset
    ROWS = "rows"  # the n greatest rows in order before q - offset


@dataclass(frozen=True, slots=True)
class Window:
    """A window, all durations in microseconds.

    Attributes:
        hop_us: 0 means exact.
        closed: "left" ([), the default), "right" (the left-closed rule applied to t - 1 us), "both" (adds t = q - o).
        unit: of a calendar window: day, week (from Monday), month, year. zone: its IANA zone.
        n: of a ROWS window.
    """

    name: str
    kind: WindowKind
    width_us: int = 0
    hop_us: int = 0
    offset_us: int = 0
    closed: str = "left"
    unit: str = ""
    zone: str = ""
    n: int = 0

    def edges_us(self, q: Instants) -> tuple[Instants, Instants]:
        """Left and right edges at each `q`: rows with left <= t < right count."""
        return edges_us(
            q,
            kind=self.kind,
            width_us=self.width_us,
            hop_us=self.hop_us,
            offset_us=self.offset_us,
            closed=self.closed,
            unit=self.unit,
            zone=self.zone,
        )


@dataclass(frozen=True, slots=True)
class Output:
    """One output column: a measure over a window; `type` is its Penstock type as text."""

    name: str
    measure: int
    window: int
    type: str


@dataclass(frozen=True, slots=True)
class Layout:
    """All that a kernel needs to know of a group.

    Attributes:
        include_self: a query made from a row counts that row, whatever its known time, in windows with offset 0.
    """

    slots: tuple[Slot, ...]
    measures: tuple[Measure, ...]
    windows: tuple[Window, ...]
    outputs: tuple[Output, ...]
    include_self: bool = False

    def fingerprint(self) -> Fingerprint:
        """Fingerprint of everything that decides the state's form and the answers."""
        return fingerprint(
            {
                "slots": [[s.text, s.kind, s.type, s.scale] for s in self.slots],
                "measures": [
                    [m.op, m.slot, m.slot2, list(m.slots), m.where, m.per, m.n, m.limit, m.half_life_us, m.custom]
                    for m in self.measures
                ],
                "windows": [
                    [w.name, w.kind, w.width_us, w.hop_us, w.offset_us, w.closed, w.unit, w.zone, w.n]
                    for w in self.windows
                ],
                "outputs": [[o.name, o.measure, o.window, o.type] for o in self.outputs],
                "include_self": self.include_self,
            }
        )
