"""A layout lowered to a flat program: which slots to keep, which masks and merged fields, which windows and outputs.

The array starts with [magic, version, include_self, slots, masks, fields, windows, outputs, keeps, prefix] (from slots
to keeps they are counts), then per slot (kind, bytes), per field (op, slot, mask, half life), per window (kind, width,
hop, offset, closed, n), per output (op, window, a, b, c, d, slot, bytes, kind, power of ten) and per keep (op, slot,
mask, n): which rows stay when others fold, see `folding`. Masks are not in the array: bit j of a row's mask bytes says
whether the row counts under `masks[j]`. `kernel/program.h` names the codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from penstock.algebra.folding import Keep
from penstock.algebra.layout import Layout, Measure, Op, Output, SlotKind, WindowKind

__all__ = ["ALL", "Kind", "Mask", "Program", "compile_program", "is_stored", "slow_outputs"]

MAGIC: Final = 0x50535031
ALL: Final = -1


class Kind(IntEnum):
    """How the kernel reads a value."""

    INT = 0
    FLOAT = 1
    DECIMAL = 2


class _Field(IntEnum):
    COUNT, SUM, MOMENTS, MIN, MAX, FIRST, LAST, DECAY, DECAY_COUNT = range(9)


class _Out(IntEnum):
    COUNT, SUM, MEAN, SHARE, VALUE, VARIANCE, STD, ROW, DECAY, RATIO, DISTINCT = range(11)


_WINDOW_KINDS = {WindowKind.TIME: 0, WindowKind.LIFETIME: 1, WindowKind.CALENDAR: 2, WindowKind.ROWS: 3}
_CLOSED = {"left": 0, "right": 1, "both": 2}
_KINDS = {SlotKind.FLOAT: Kind.FLOAT, SlotKind.DECIMAL: Kind.DECIMAL}
_SLOW = {Op.LAST_N, Op.DISTINCT_APPROX, Op.CUSTOM}


@dataclass(frozen=True, slots=True)
class Mask:
    """Which rows count: those where slot `valid` is not null and BOOL slots `where` and `also` are true; -1: any."""

    valid: int = ALL
    where: int = ALL
    also: int = ALL


@dataclass(frozen=True, slots=True)
class Program:
    """What the kernel interprets.

    Attributes:
        code: the flat int64 array.
        masks: what each mask bit of a row means.
        outputs: indices into `layout.outputs`, in the order of the program's own outputs.
        sizes: bytes of each output's value; kinds: how to read it.
        calendar: indices into `windows` of the calendar windows, in the order of their left edges.
        windows: indices into `layout.windows`.
    """

    layout: Layout
    code: npt.NDArray[np.int64]
    masks: tuple[Mask, ...]
    outputs: tuple[int, ...]
    sizes: tuple[int, ...]
    kinds: tuple[Kind, ...]
    windows: tuple[int, ...]
    calendar: tuple[int, ...]
    slot_sizes: tuple[int, ...]

    @property
    def mask_bytes(self) -> int:
        """Mask bytes per row."""
        return (len(self.masks) + 7) // 8


def kind_of(layout: Layout, slot: int) -> Kind:
    """How the kernel reads a slot."""
    return _KINDS.get(layout.slots[slot].kind, Kind.INT)


def is_slow(layout: Layout, measure: Measure) -> bool:
    """Whether a measure is computed from visible rows in Python rather than from merged fields in C."""
    if measure.op in _SLOW or measure.per is not None:
        return True
    ordered = measure.op in (Op.MIN, Op.MAX)
    return ordered and measure.slot is not None and layout.slots[measure.slot].kind is SlotKind.CODE


def slow_outputs(layout: Layout) -> tuple[int, ...]:
    """Indices of the outputs that `penstock.algebra.measures` computes."""
    return tuple(i for i, o in enumerate(layout.outputs) if is_slow(layout, layout.measures[o.measure]))


def is_stored(layout: Layout, slot: int) -> bool:
    """Whether a slot's values are kept; a BOOL slot that only filters or is shared lives in the mask bits."""
    if layout.slots[slot].kind is not SlotKind.BOOL:
        return True
    for measure in layout.measures:
        shared = measure.op in (Op.SHARE, Op.COUNT) and not is_slow(layout, measure)
        if slot in measure.slots or slot in (measure.per, measure.slot2) or (slot == measure.slot and not shared):
            return True
    return False


class _Compiler:
    """Collects masks, fields and outputs, each distinct one once."""

    def __init__(self, layout: Layout, nullable: Sequence[bool]) -> None:
        self.layout, self.nullable = layout, nullable
        self.masks: dict[Mask, int] = {}
        self.fields: dict[tuple[int, int, int, int], int] = {}
        self.outputs: list[tuple[int, ...]] = []

    def mask(self, valid: int | None, where: int | None, also: int | None = None) -> int:
        kept = valid if valid is not None and self.nullable[valid] else None
        if also is not None:
            kept = None
        mask = Mask(*(ALL if slot is None else slot for slot in (kept, where, also)))
        return ALL if mask == Mask() else self.masks.setdefault(mask, len(self.masks))

    def field(self, op: _Field, slot: int | None, mask: int, half_life_us: int = 0) -> int:
        key = (int(op), ALL if slot is None else slot, mask, half_life_us)
        return self.fields.setdefault(key, len(self.fields))

    def count(self, mask: int) -> int:
        return ALL if mask == ALL else self.field(_Field.COUNT, None, mask)

    def emit(self, op: _Out, window: int, *fields: int, **options: int) -> None:
        a, b, c, d = (*fields, ALL, ALL, ALL)[:4]
        slot, size = options.get("slot", ALL), options.get("size", 8)
        kind, power = options.get("kind", Kind.FLOAT), options.get("power", 0)
        self.outputs.append((int(op), window, a, b, c, d, slot, size, kind, power))

    def keep(self, keep: Keep) -> tuple[int, ...]:
        return (int(keep.op), ALL if keep.slot is None else keep.slot, self.mask(keep.valid, keep.where), keep.n)

    def output(self, output: Output, window: int) -> None:
        m = self.layout.measures[output.measure]
        mask = self.mask(m.slot, m.where)
        if m.op is Op.COUNT:
            self.emit(_Out.COUNT, window, self.count(mask), kind=Kind.INT)
            return
        if m.op is Op.DECAYED_COUNT:
            a = self.field(_Field.DECAY_COUNT, None, mask, m.half_life_us)
            self.emit(_Out.DECAY, window, a, self.count(mask))
            return
        assert m.slot is not None, m.op
        slot, power = self.layout.slots[m.slot], self.layout.slots[m.slot].scale
        kind, size = kind_of(self.layout, m.slot), 16 if slot.kind is SlotKind.DECIMAL else 8
        match m.op:
            case Op.SHARE:
                true = self.count(self.mask(None, m.where, m.slot))
                self.emit(_Out.SHARE, window, true, self.count(mask))
            case Op.SUM:
                a, wanted = self.field(_Field.SUM, m.slot, mask), _sum_kind(output.type, kind)
                width = 16 if wanted is Kind.DECIMAL else 8
                shift = power if wanted is Kind.FLOAT else 0
                self.emit(_Out.SUM, window, a, self.count(mask), size=width, kind=wanted, power=shift)
            case Op.MEAN:
                self.emit(_Out.MEAN, window, self.field(_Field.SUM, m.slot, mask), self.count(mask), power=power)
            case Op.MIN | Op.MAX:
                a = self.field(_Field.MIN if m.op is Op.MIN else _Field.MAX, m.slot, mask)
                self.emit(_Out.VALUE, window, a, self.count(mask), kind=kind, size=size)
            case Op.VARIANCE | Op.STD:
                op = _Out.STD if m.op is Op.STD else _Out.VARIANCE
                self.emit(op, window, self.field(_Field.MOMENTS, m.slot, mask), power=power)
            case Op.FIRST | Op.LAST:
                a = self.field(_Field.FIRST if m.op is Op.FIRST else _Field.LAST, None, mask)
                self.emit(_Out.ROW, window, a, slot=m.slot, kind=kind, size=size)
            case Op.DISTINCT:
                limit = min(m.limit, 2**31 - 1)
                self.emit(_Out.DISTINCT, window, ALL, ALL, mask, limit, slot=m.slot, kind=Kind.INT)
            case Op.DECAYED_SUM:
                a = self.field(_Field.DECAY, m.slot, mask, m.half_life_us)
                self.emit(_Out.DECAY, window, a, self.count(mask), power=power)
            case _:
                self.ratio(m, window, mask)

    def ratio(self, m: Measure, window: int, mask: int) -> None:
        assert m.op is Op.RATIO and m.slot is not None and m.slot2 is not None, m.op
        below = self.mask(m.slot2, m.where)
        a, b = self.field(_Field.SUM, m.slot, mask), self.field(_Field.SUM, m.slot2, below)
        power = self.layout.slots[m.slot].scale - self.layout.slots[m.slot2].scale
        self.emit(_Out.RATIO, window, a, b, self.count(mask), self.count(below), power=power)


def _sum_kind(output_type: str, kind: Kind) -> Kind:
    """A sum of integers is an int64 unless its output is declared a decimal; a sum of decimals may be a float."""
    if kind is Kind.FLOAT or output_type.startswith(("float", "double")):
        return Kind.FLOAT
    return Kind.DECIMAL if output_type.startswith("decimal") or kind is Kind.DECIMAL else Kind.INT


def compile_program(
    layout: Layout,
    *,
    nullable: Sequence[bool] | None = None,
    outputs: Sequence[int] | None = None,
    fields: bool = True,
    mask: Mask | None = None,
    keeps: Sequence[Keep] = (),
    prefix: bool = False,
) -> Program:
    """The program of a layout's fast outputs; slots and their indices stay the layout's.

    Args:
        nullable: per slot, whether it may hold nulls; all may by default. Without nulls nothing is masked.
        outputs: indices of outputs; all that are not slow by default. Slow ones put out nothing, but their windows
            are kept, so that their rows can be asked for.
        fields: False leaves out fields and outputs: windows only, to ask for rows.
        mask: a mask to keep besides those that the outputs need.
        keeps: which rows stay when old rows fold. prefix: whether those that fold are merged; else they are forgotten.
    """
    slow = set(slow_outputs(layout))
    chosen = range(len(layout.outputs)) if outputs is None else outputs
    kept = [i for i in chosen if outputs is not None or i not in slow]
    windows = sorted({layout.outputs[i].window for i in kept})
    compiler = _Compiler(layout, [True] * len(layout.slots) if nullable is None else nullable)
    fast = [i for i in kept if i not in slow] if fields else []
    if mask is not None and mask != Mask():
        compiler.masks[mask] = 0
    for i in fast:
        compiler.output(layout.outputs[i], windows.index(layout.outputs[i].window))
    staying = [compiler.keep(keep) for keep in keeps]
    slot_sizes = tuple(_slot_bytes(layout, i) if fields else 0 for i in range(len(layout.slots)))
    header = [MAGIC, 2, int(layout.include_self), len(layout.slots), len(compiler.masks), len(compiler.fields)]
    code = [*header, len(windows), len(fast), len(staying), int(prefix)]
    for i, size in enumerate(slot_sizes):
        code += [kind_of(layout, i), size]
    for key in compiler.fields:
        code += key
    for index in windows:
        w = layout.windows[index]
        code += [_WINDOW_KINDS[w.kind], w.width_us, w.hop_us, w.offset_us, _CLOSED[w.closed], w.n]
    for row in (*compiler.outputs, *staying):
        code += row
    return Program(
        layout=layout,
        code=np.array(code, np.int64),
        masks=tuple(compiler.masks),
        outputs=tuple(fast),
        sizes=tuple(row[7] for row in compiler.outputs),
        kinds=tuple(Kind(row[8]) for row in compiler.outputs),
        windows=tuple(windows),
        calendar=tuple(i for i in windows if layout.windows[i].kind is WindowKind.CALENDAR),
        slot_sizes=slot_sizes,
    )


def _slot_bytes(layout: Layout, slot: int) -> int:
    if layout.slots[slot].kind is SlotKind.DECIMAL:
        return 16
    return 8 if is_stored(layout, slot) else 0
