"""Counts of compared values by operator, modifier, window kind and tempo: an empty cell is a hole in the proof."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from penstock.define.aggregate import Agg
from penstock.define.relation import Group
from penstock.define.window import Window
from penstock.testing.oracle import hop_us

__all__ = ["KINDS", "MATRIX", "MODIFIERS", "OPERATORS", "Matrix", "kinds_of", "modifiers_of"]

OPERATORS = (
    "count", "sum", "mean", "share", "min", "max", "variance", "std", "first", "last", "last_n", "distinct",
    "distinct_approx", "decayed_sum", "decayed_count", "ratio", "custom",
)  # fmt: skip
MODIFIERS = ("none", "where", "per")
KINDS = (
    "exact", "hopped", "offset", "rows", "lifetime", "calendar", "closed_right", "closed_both", "include_self",
)  # fmt: skip

Cell = tuple[str, str, str]


def modifiers_of(agg: Agg) -> tuple[str, ...]:
    """The modifiers of an aggregate, or "none"."""
    found = [name for name, given in (("where", agg.condition), ("per", agg.bucket)) if given is not None]
    return tuple(found) or ("none",)


def kinds_of(group: Group, window: Window) -> tuple[str, ...]:
    """What a window of a group shows: its kind, an offset, another closing, the asking row."""
    found = [window.kind if window.kind != "time" else "hopped" if hop_us(window) else "exact"]
    if window.offset_us:
        found.append("offset")
    if window.closed != "left":
        found.append(f"closed_{window.closed}")
    if group.include_self:
        found.append("include_self")
    return tuple(found)


class Matrix:
    """Counts by tempo and (operator, modifier, window kind), of values that were compared and are not null."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, Cell]] = Counter()
        self.required: set[str] = set()
        self.declared: dict[tuple[str, Cell], str] = {}

    def add(self, tempo: str, group: Group, window: Window, agg: Agg) -> None:
        """Counts one value that was compared."""
        for modifier in modifiers_of(agg):
            for kind in kinds_of(group, window):
                self.counts[tempo, (agg.op, modifier, kind)] += 1

    def require(self, tempo: str) -> None:
        """From now on an empty cell of this tempo fails the run."""
        self.required.add(tempo)

    def declare(self, tempo: str, reason: str, cells: Iterable[Cell]) -> None:
        """States that cells of a tempo are empty by definition, and why."""
        self.declared.update({(tempo, cell): reason for cell in cells})

    def dump(self) -> dict[str, list[list[object]]]:
        """Everything as plain lists, to hand to another process."""
        return {
            "counts": [[tempo, *cell, n] for (tempo, cell), n in self.counts.items()],
            "required": [[tempo] for tempo in sorted(self.required)],
            "declared": [[tempo, *cell, reason] for (tempo, cell), reason in self.declared.items()],
        }

    def load(self, dumped: dict[str, list[list[Any]]]) -> None:
        """Adds what another process counted."""
        for tempo, op, modifier, kind, n in dumped["counts"]:
            self.counts[tempo, (op, modifier, kind)] += n
        self.required.update(tempo for (tempo,) in dumped["required"])
        for tempo, op, modifier, kind, reason in dumped["declared"]:
            self.declared[tempo, (op, modifier, kind)] = reason

    def empty(self) -> Iterator[tuple[str, Cell]]:
        """Cells of required tempos without a case and without a reason."""
        for tempo in sorted(self.required):
            for op in OPERATORS:
                for modifier in MODIFIERS:
                    for kind in KINDS:
                        cell = (tempo, (op, modifier, kind))
                        if not self.counts[cell] and cell not in self.declared:
                            yield cell

    def lines(self) -> Iterator[str]:
        """The table, one block per tempo whose grid ran: a row per operator and modifier, a column per window kind."""
        for tempo in sorted(self.required):
            yield f"{tempo:<24}" + "".join(f"{kind:>13}" for kind in KINDS)
            for op in OPERATORS:
                for modifier in MODIFIERS:
                    counts = [self._shown(tempo, (op, modifier, kind)) for kind in KINDS]
                    yield f"  {op + ('' if modifier == 'none' else ' ' + modifier):<22}" + "".join(
                        f"{count:>13}" for count in counts
                    )
        for reason in sorted(set(self.declared.values())):
            yield f"  - : {reason}"

    def _shown(self, tempo: str, cell: Cell) -> str:
        count = self.counts[tempo, cell]
        return str(count) if count or (tempo, cell) not in self.declared else "-"


MATRIX = Matrix()
"""The counts of this test run."""
