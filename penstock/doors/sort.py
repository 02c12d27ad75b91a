"""Sorts any number of batches by known time within bounded memory: sorted runs on disk, merged batch by batch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME

__all__ = ["sort_by_known_time"]

_RUN_BYTES: Final = 128 << 20
_BATCH_ROWS: Final = 16_384


def sort_by_known_time(
    batches: Iterable[pa.RecordBatch], *, run_bytes: int = _RUN_BYTES, batch_rows: int = _BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """The rows in the order of `_known_time`, then `_event_time`, then as they came. Nulls come first.

    Args:
        batches: of one schema.
        run_bytes: what is held in memory before it is put on disk.
    """
    with ExitStack() as stack:
        folder: Path | None = None
        runs: list[Path] = []
        held: list[pa.RecordBatch] = []
        size = 0
        for batch in batches:
            held.append(batch)
            size += batch.nbytes
            if size >= run_bytes:
                folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-sort-")))
                runs.append(_spill(_sorted(held), folder / f"{len(runs)}.arrow", batch_rows))
                held, size = [], 0
        last = _sorted(held) if held else None
        if folder is None:
            if last is not None:
                yield from last.to_batches(max_chunksize=batch_rows)
            return
        if last is not None:
            runs.append(_spill(last, folder / f"{len(runs)}.arrow", batch_rows))
        yield from _merged(runs)


def _sorted(batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    event, known = (_times(table, name) for name in (EVENT_TIME, KNOWN_TIME))
    if (known[1:] > known[:-1]).all():
        return table
    order = np.lexsort((event, known))  # stable: ties stay as they came
    return table.take(pa.array(order)).combine_chunks()


def _times(table: pa.Table, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    times: np.ndarray[tuple[int], np.dtype[np.int64]] = table.column(name).fill_null(-(2**63)).to_numpy()
    return times


def _spill(table: pa.Table, path: Path, batch_rows: int) -> Path:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return path


class _Run:
    """A sorted run, one batch of it in memory."""

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._next = 0
        self.rest: pa.Table | None = None
        self.load()

    def load(self) -> None:
        """Reads the next batch; None behind the last."""
        if self._next == self._reader.num_record_batches:
            self.rest = None
            return
        self.rest = pa.Table.from_batches([self._reader.get_batch(self._next)])
        self._next += 1

    def last(self) -> tuple[int, int]:
        """The greatest (known, event) in memory."""
        assert self.rest is not None
        return int(_times(self.rest, KNOWN_TIME)[-1]), int(_times(self.rest, EVENT_TIME)[-1])

    def take(self, bound: tuple[int, int], *, closed: bool) -> pa.Table:
        """Takes the rows before the bound, and those at it when closed."""
        assert self.rest is not None
        known, event = _times(self.rest, KNOWN_TIME), _times(self.rest, EVENT_TIME)
        side: str = "right" if closed else "left"
        low, high = np.searchsorted(known, bound[0], "left"), np.searchsorted(known, bound[0], "right")
        n = int(low + np.searchsorted(event[low:high], bound[1], side))  # type: ignore[call-overload]
        taken = self.rest.slice(0, n)
        self.rest = self.rest.slice(n)
        if not self.rest.num_rows:
            self.load()
        return taken


def _merged(paths: list[Path]) -> Iterator[pa.RecordBatch]:
    """Each round gives what lies before the least last row in memory; a tie goes to the earlier run.

    The rows at the bound itself are given by run, a run's all before the next run's first.
    """
    runs = [_Run(path) for path in paths]
    while live := [run for run in runs if run.rest is not None]:
        bound = min(run.last() for run in live)
        parts = [run.take(bound, closed=False) for run in live]
        table = pa.concat_tables([p for p in parts if p.num_rows]) if any(p.num_rows for p in parts) else None
        if table is not None:
            order = np.lexsort((_times(table, EVENT_TIME), _times(table, KNOWN_TIME)))
            yield from table.take(pa.array(order)).combine_chunks().to_batches()
        for run in live:
            while run.rest is not None and _first(run) == bound:
                yield from run.take(bound, closed=True).combine_chunks().to_batches()


def _first(run: _Run) -> tuple[int, int]:
    assert run.rest is not None
    return int(_times(run.rest, KNOWN_TIME)[0]), int(_times(run.rest, EVENT_TIME)[0])
