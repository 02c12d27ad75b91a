"""What of a layout must stay rows when old rows are folded. `time.md`, Forgetting; `kernel/prefix.h` does it.

A window without a left edge (a lifetime, the newest n rows) would keep every row. Of rows that all queries to come
cover and that no correction can reach, only those stay that some measure reads as rows; a lifetime's other measures are
merged into a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from penstock.algebra.layout import Layout, Measure, Op, Output, SlotKind, WindowKind
from penstock.algebra.monoids import arguments

__all__ = ["Keep", "KeepOp", "is_endless", "keeps_of", "needs_prefix", "unfolded"]


class KeepOp(IntEnum):
    """Which of the rows that count under a mask stay, as the kernel numbers it."""

    FIRST = 0
    LAST = 1
    DISTINCT = 2


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows that stay: the first, the newest `n`, or the oldest of each different value of at most `n` (0: of all).

    Attributes:
        slot: whose values differ; None but for DISTINCT.
        valid, where: only rows where this slot is not null, and where this slot is true, count.
    """

    op: KeepOp
    slot: int | None
    valid: int | None
    where: int | None
    n: int


_ENDLESS = (WindowKind.LIFETIME, WindowKind.ROWS)
_ROWS_STAY = (Op.FIRST, Op.LAST, Op.LAST_N, Op.DISTINCT)
_MERGED = (Op.COUNT, Op.SUM, Op.MEAN, Op.SHARE, Op.VARIANCE, Op.STD, Op.RATIO, Op.DECAYED_SUM, Op.DECAYED_COUNT)


def is_endless(layout: Layout) -> bool:
    """Whether some window has no left edge in time, so that rows never leave by their age alone."""
    return any(layout.windows[output.window].kind in _ENDLESS for output in layout.outputs)


def unfolded(layout: Layout) -> tuple[Output, ...]:
    """Outputs over a lifetime that need every row: users' aggregates, maps, approximate counts, extremes of text; and
    all where a request counts as a row itself, unless the row of its id is among those that count."""
    return tuple(o for o, measure in _lifelong(layout) if layout.include_self or not _folds(layout, measure))


def needs_prefix(layout: Layout) -> bool:
    """Whether rows that fold are merged; else those that do not stay are forgotten."""
    return any(measure.op not in _ROWS_STAY for _, measure in _lifelong(layout))


def keeps_of(layout: Layout) -> tuple[Keep, ...]:
    """Which rows stay, whatever else is folded; none where rows leave by their age, or never.

    Without a prefix the newest row stays, counted or not: it tells that the key was seen.
    """
    if unfolded(layout) or not is_endless(layout):
        return ()
    windows = [layout.windows[output.window] for output in layout.outputs]
    newest = max([w.n for w in windows if w.kind is WindowKind.ROWS], default=0 if needs_prefix(layout) else 1)
    found = [Keep(KeepOp.LAST, None, None, None, newest)] if newest else []
    for _, m in _lifelong(layout):
        if m.op is Op.DISTINCT:
            found.append(Keep(KeepOp.DISTINCT, m.slot, m.slot, m.where, m.limit + 1 if m.limit else 0))
        elif m.op in _ROWS_STAY:
            op = KeepOp.FIRST if m.op is Op.FIRST else KeepOp.LAST
            found += [Keep(op, None, slot, m.where, max(1, m.n)) for slot in arguments(m)]
    return tuple(dict.fromkeys(found))


def _lifelong(layout: Layout) -> Iterator[tuple[Output, Measure]]:
    for output in layout.outputs:
        if layout.windows[output.window].kind is WindowKind.LIFETIME:
            yield output, layout.measures[output.measure]


def _folds(layout: Layout, m: Measure) -> bool:
    if m.per is not None:
        return False
    if m.op in (Op.MIN, Op.MAX):
        return m.slot is not None and layout.slots[m.slot].kind is not SlotKind.CODE
    return m.op in _ROWS_STAY or m.op in _MERGED
