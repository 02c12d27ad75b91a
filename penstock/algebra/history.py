"""The sweep over history: all queries of a layout over rows sorted by key, one key's block tree alive at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from penstock.algebra.binding import ffi, lib
from penstock.algebra.layout import Layout, Measure, Op, Output, SlotKind
from penstock.algebra.monoids import arguments
from penstock.algebra.program import ALL, Kind, Mask, Program, compile_program, slow_outputs
from penstock.algebra.sorting import sort_rows
from penstock.algebra.table import Column, Queries, Rows
from penstock.define import Aggregate
from penstock.errors import EngineError
from penstock.semantics.windows import edges_us

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Column", "Queries", "Rows", "sweep"]

_CHUNK_ROWS: Final = 1 << 18  # arrays of a chunk stay in the cache
Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
_NO_ROWS: Int64s = np.zeros(0, np.int64)


def sweep(
    layout: Layout,
    rows: Rows,
    queries: Queries,
    *,
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
    custom: Mapping[str, type[Aggregate]] | None = None,
) -> dict[str, Column]:
    """Answers all queries: one column per output of the layout, by name.

    Args:
        threads: how many ranges of keys are swept together; the interpreter is free meanwhile.
        progress: told the finished share, 0 to 1, now and then.
        custom: users' own aggregates by name.

    Raises:
        EngineError: memory was short, or a key has 2**31 rows or more.
    """
    sweeper = Sweeper(layout, rows, queries)
    columns = sweeper.fast(threads, progress)
    if slow_outputs(layout):
        columns |= sweeper.slow(custom or {})
    if rows.dictionaries is not None:
        columns = _decoded(layout, columns, rows.dictionaries)
    return {output.name: columns[output.name] for output in layout.outputs}


class Sweeper:
    """Rows and queries of one layout, laid out for the kernel."""

    def __init__(self, layout: Layout, rows: Rows, queries: Queries) -> None:
        _check_sizes(rows, queries)
        self.layout, self.rows = layout, rows
        n_keys = max(int(rows.key[-1]) + 1 if rows.key.size else 0, int(queries.key.max(initial=-1)) + 1)
        self.n_keys = n_keys + 1  # code 0 is the key without rows
        self.row_start = _starts(rows.key, n_keys, unknown=False)
        self.order = _query_order(queries, by_knowledge=rows.known_until is not None)
        take = (lambda x: x) if self.order is None else (lambda x: np.ascontiguousarray(x[self.order]))
        self.key = take(queries.key)
        self.query_start = _starts(self.key, n_keys, unknown=True)
        self.q, self.a = take(queries.q), take(queries.a)
        self.self_row = None if queries.self_row is None else take(queries.self_row)
        self._keep: list[Any] = []

    def fast(self, threads: int, progress: Callable[[float], None] | None) -> dict[str, Column]:
        """The outputs that the kernel computes."""
        program = compile_program(self.layout, nullable=[v is not None for v in self.rows.valid])
        n = self.q.size
        values = [np.zeros((n, 2), np.uint64) if size == 16 else np.zeros(n, np.int64) for size in program.sizes]
        statuses = np.zeros((n, len(values)), np.uint8)  # a query's statuses lie together
        out = self._new("ps_columns *")
        out.values = self._pointers(values)
        out.statuses = self._pointers([statuses[:, k] for k in range(len(values))])
        out.status_step = len(values)
        handle, rows, asked = self.handle(program), self.c_rows(program), self.c_asked(program)

        def run(part: tuple[int, int]) -> None:
            _check(lib.ps_sweep(handle, rows, asked, part[0], part[1], out))

        self._run(run, threads, progress)
        columns = {}
        for k, index in enumerate(program.outputs):
            typed = values[k].view(np.float64) if program.kinds[k] is Kind.FLOAT else values[k]
            columns[self.layout.outputs[index].name] = Column(typed, statuses[:, k])
        return columns

    def slow(self, custom: Mapping[str, type[Aggregate]]) -> dict[str, Column]:
        """The outputs that are computed from visible rows, a bounded number of rows at a time."""
        from penstock.algebra.measures import Groups, Reader, join_columns, measure_groups

        layout, reader = self.layout, Reader(self.layout, self.rows, custom)
        chosen = [layout.outputs[i] for i in slow_outputs(layout)]
        columns = {}
        for (window, mask, limit), outputs in self._askings(chosen).items():
            parts: dict[str, list[Column]] = {output.name: [] for output in outputs}
            for begin, offsets, found in self.visible(window, mask, limit):
                end = begin + offsets.size - 1
                groups = Groups(offsets, found, self.q[begin:end] - layout.windows[window].offset_us)
                for output in outputs:
                    column = measure_groups(reader, layout.measures[output.measure], output.type, groups)
                    parts[output.name].append(column)
            for name, pieces in parts.items():
                columns[name] = join_columns(pieces, self.order)
        return columns

    def _askings(self, outputs: Sequence[Output]) -> dict[tuple[int, Mask, int], list[Output]]:
        """Outputs by what must be asked for them: the window, and of last_n alone the mask and how many rows."""
        found: dict[tuple[int, Mask, int], list[Output]] = {}
        for output in outputs:
            mask, limit = self._enough(self.layout.measures[output.measure])
            found.setdefault((output.window, mask, limit), []).append(output)
        return found

    def _enough(self, m: Measure) -> tuple[Mask, int]:
        """The mask under which the newest n rows do for a last_n; else any rows, all of them (-1)."""
        nullable = [slot for slot in arguments(m) if self.rows.valid[slot] is not None]
        if m.op is not Op.LAST_N or m.per is not None or (nullable and len(arguments(m)) > 1):
            return Mask(), -1
        return Mask(*(ALL if slot is None else slot for slot in (nullable[0] if nullable else None, m.where))), m.n

    def visible(self, window: int, mask: Mask, limit: int) -> Iterator[tuple[int, Int64s, Int64s]]:
        """Visible rows per query, in the order of the sweep, in chunks: (first query, offsets, row indices).

        Args:
            mask: only rows that count under it.
            limit: at most so many of the newest rows per query; all when negative. Rows come oldest first.
        """
        chosen = [i for i, o in enumerate(self.layout.outputs) if o.window == window][:1]
        program = compile_program(self.layout, outputs=chosen, fields=False, mask=mask)
        bit = 0 if program.masks else ALL
        handle, rows, asked = self.handle(program), self.c_rows(program), self.c_asked(program)
        n, at, found, after = self.q.size, 0, self._new("int64_t **"), self._new("int64_t *")
        while at < n or n == 0:
            lengths = np.zeros(n - at, np.int64)
            out = ffi.cast("int64_t *", lengths.ctypes.data)
            count = lib.ps_sweep_rows(
                handle, rows, asked, self.n_keys, at, 0, bit, limit, _CHUNK_ROWS, out, found, after
            )
            _check(count)
            indices = np.frombuffer(ffi.buffer(found[0], count * 8), np.int64).copy() if count else _NO_ROWS
            lib.ps_free(found[0])
            lengths = lengths[: after[0] - at]
            yield at, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), indices
            at = after[0]
            if n == 0:
                return

    def handle(self, program: Program) -> Any:
        """The program as the kernel holds it."""
        made = lib.ps_program_new(ffi.cast("int64_t *", program.code.ctypes.data), program.code.size)
        assert made != ffi.NULL, "the compiler made a program that the kernel refuses"
        return ffi.gc(made, lib.ps_program_free)

    def c_rows(self, program: Program) -> Any:
        """The rows as the kernel reads them, with the program's mask bytes."""
        rows, out = self.rows, self._new("ps_rows *")
        out.start, out.t, out.kf = self._array(self.row_start), self._array(rows.t), self._array(rows.known_from)
        out.kt = ffi.NULL if rows.known_until is None else self._array(rows.known_until)
        values = [
            None if size == 0 else _stored(rows.values[i], self.layout.slots[i].kind)
            for i, size in enumerate(program.slot_sizes)
        ]
        out.slots = self._pointers(values)
        out.mask = self._array(self.masks(program)) if program.masks else ffi.NULL
        return out

    def masks(self, program: Program) -> Bytes:
        """Mask bytes of every row, shaped (n, mask_bytes)."""
        rows, n = self.rows, self.rows.t.size
        spec = np.array([(m.valid, m.where, m.also) for m in program.masks], np.int32)
        out = np.zeros((n, program.mask_bytes), np.uint8)
        used = {int(slot) for slot in spec[:, 1:].ravel() if slot >= 0}
        valid = [None if v is None else np.ascontiguousarray(v).view(np.uint8) for v in rows.valid]
        truth = [
            np.not_equal(v, 0).view(np.uint8) if i in used and v is not None else None
            for i, v in enumerate(rows.values)
        ]
        lib.ps_fill_masks(
            n,
            len(program.masks),
            ffi.cast("int32_t *", spec.ctypes.data),
            self._pointers(valid),
            self._pointers(truth),
            ffi.cast("uint8_t *", out.ctypes.data),
        )
        return out

    def c_asked(self, program: Program) -> Any:
        """The queries as the kernel reads them, with the left edges of calendar windows."""
        out = self._new("ps_asked *")
        out.start, out.q, out.a = self._array(self.query_start), self._array(self.q), self._array(self.a)
        out.self = ffi.NULL if self.self_row is None else self._array(self.self_row)
        out.calendar, out.stride = ffi.NULL, self.q.size
        if program.calendar:
            windows = [self.layout.windows[i] for i in program.calendar]
            lefts = [
                edges_us(self.q, kind="calendar", offset_us=w.offset_us, unit=w.unit, zone=w.zone)[0] for w in windows
            ]
            out.calendar = self._array(np.concatenate(lefts))
        out.place = ffi.NULL if self.order is None else self._array(self.order)
        return out

    def _run(
        self, run: Callable[[tuple[int, int]], None], threads: int, progress: Callable[[float], None] | None
    ) -> None:
        parts = self._parts(max(threads * 4, 1) if progress is None and threads > 1 else 64 if progress else 1)
        if len(parts) == 1 and progress is None:
            run(parts[0])
            return
        done = 0
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            for _ in pool.map(run, parts):
                done += 1
                if progress is not None:
                    progress(done / len(parts))

    def _parts(self, n: int) -> list[tuple[int, int]]:
        """Ranges of keys with about equal work."""
        work = np.cumsum(np.diff(self.row_start) + np.diff(self.query_start))
        cuts = np.searchsorted(work, np.linspace(0, work[-1], n + 1)[1:-1]) + 1
        bounds = np.unique(np.concatenate([[0], np.minimum(cuts, self.n_keys), [self.n_keys]]))
        return [(int(a), int(b)) for a, b in itertools.pairwise(bounds)]

    def _new(self, kind: str) -> Any:
        made = ffi.new(kind)
        self._keep.append(made)
        return made

    def _array(self, x: npt.NDArray[Any]) -> Any:
        x = np.ascontiguousarray(x, np.uint8 if x.dtype.itemsize == 1 else np.int64)
        self._keep.append(x)
        return ffi.cast("uint8_t *" if x.dtype.itemsize == 1 else "int64_t *", x.ctypes.data)

    def _pointers(self, arrays: Sequence[npt.NDArray[Any] | None]) -> Any:
        self._keep.append(arrays)
        pointers = [ffi.NULL if x is None else ffi.cast("uint8_t *", x.ctypes.data) for x in arrays]
        made = ffi.new("uint8_t *[]", [*pointers, ffi.NULL])
        self._keep.append(made)
        return made


def _check_sizes(rows: Rows, queries: Queries) -> None:
    """The kernel trusts sizes and the order of keys, so they are looked at here.

    Raises:
        EngineError: arrays of rows or of queries differ in length, or rows are not sorted by key.
    """
    until = () if rows.known_until is None else (rows.known_until,)
    per_row = [rows.key, rows.t, rows.known_from, *until, *rows.values, *rows.valid]
    own = () if queries.self_row is None else (queries.self_row,)
    for what, arrays in (("rows", per_row), ("queries", [queries.key, queries.q, queries.a, *own])):
        sizes = sorted({len(x) for x in arrays if x is not None})
        if len(sizes) > 1:
            raise EngineError(f"a sweep over {what} of one length", found=f"lengths {sizes}", remedy="cut them alike")
    if not np.all(rows.key[1:] >= rows.key[:-1]):
        raise EngineError("a sweep over rows sorted by key", found="unsorted rows", remedy="sort them with sort_rows")


def _starts(key: Int64s, n_keys: int, *, unknown: bool) -> Int64s:
    """Where each key begins among sorted codes; a first entry stands for code -1, which has no rows."""
    if not unknown:  # codes below 0 are refused here
        return np.concatenate([[0, 0], np.cumsum(np.bincount(key, minlength=n_keys))]).astype(np.int64)
    return np.concatenate([[0], np.cumsum(np.bincount(key + 1, minlength=n_keys + 1))]).astype(np.int64)


def _query_order(queries: Queries, *, by_knowledge: bool) -> Int64s | None:
    """The order (key, then q or a) if the queries are not in it already."""
    key, then = queries.key, queries.a if by_knowledge else queries.q
    if key.size < 2:
        return None
    step = np.diff(key)
    if np.all((step > 0) | ((step == 0) & (then[1:] >= then[:-1]))):
        return None
    return sort_rows(key + 1, then).order


def _stored(values: npt.NDArray[Any] | None, kind: SlotKind) -> npt.NDArray[Any]:
    """Values as the kernel reads them: 8 or 16 bytes each, 16-aligned where 16."""
    assert values is not None, "a slot that is read has no values"
    wanted: type[Any] = np.float64 if kind is SlotKind.FLOAT else np.uint64 if kind is SlotKind.DECIMAL else np.int64
    out = np.ascontiguousarray(values.astype(wanted, copy=False))
    if kind is SlotKind.DECIMAL and out.ctypes.data % 16:
        room = np.empty(out.size + 1, np.uint64)
        skip = (room.ctypes.data % 16) // 8
        aligned = room[skip : skip + out.size].reshape(out.shape)
        aligned[:] = out
        return aligned
    return out


def _decoded(layout: Layout, columns: dict[str, Column], dictionaries: Sequence[pa.Array | None]) -> dict[str, Column]:
    """First and last of CODE slots as the values their codes stand for."""
    import pyarrow as pa

    slow = set(slow_outputs(layout))
    for i, output in enumerate(layout.outputs):
        measure, column = layout.measures[output.measure], columns[output.name]
        dictionary = None if measure.slot is None else dictionaries[measure.slot]
        if i in slow or dictionary is None or measure.op not in ("first", "last"):
            continue
        codes = pa.array(column.values, mask=~column.valid)
        columns[output.name] = Column(dictionary.take(codes), column.status)
    return columns


def _check(code: int) -> None:
    if code == -1:
        raise EngineError("a sweep over history", found="not enough memory", remedy="sweep fewer keys at a time")
    if code < 0:
        raise EngineError("a sweep over history", found="a key with 2**31 rows or more", remedy="split the key")
