"""Sorting rows for a sweep: by key, then by their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.algebra.binding import ffi, lib
from penstock.errors import EngineError

__all__ = ["Sorted", "deal", "gather", "order_groups", "sort_rows", "split"]

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sorted:
    """The outcome of a sort.

    Attributes:
        order: the sorted rows' former places. t: their event times.
        start: where each key begins, and the end.
    """

    order: Int64s
    t: Int64s
    start: Int64s


def sort_rows(
    key: Int64s, t: Int64s, known_from: Int64s | None = None, rest: Int64s | None = None, *, n_keys: int | None = None
) -> Sorted:
    """Sorts rows by (key, t, known_from, rest); equal rows stay in the order they come.

    Linear in the rows when they come nearly in order of t, as logs do.

    Args:
        key: codes from 0 up.
        rest: what decides among rows of equal known time, as one number; None: the order they come in.
        n_keys: how many codes there are.

    Raises:
        EngineError: a code is out of range, or memory was short.
    """
    most = int(key.max(initial=-1))
    n_keys = most + 1 if n_keys is None else n_keys
    if key.size and (most >= n_keys or int(key.min()) < 0):
        raise EngineError(f"sorting by key codes from 0 to {n_keys - 1}", found=f"codes {key.min()} to {most}")
    found = Sorted(np.empty(key.size, np.int64), np.empty(key.size, np.int64), np.empty(n_keys + 1, np.int64))
    given = [None if x is None else np.ascontiguousarray(x, np.int64) for x in (key, t, known_from, rest)]
    pointers = [ffi.NULL if x is None else _pointer(x) for x in given]
    if lib.ps_sort_rows(key.size, n_keys, *pointers, _pointer(found.order), _pointer(found.t), _pointer(found.start)):
        raise EngineError("sorting rows", found="not enough memory", remedy="sort fewer rows at a time")
    return found


def gather(values: npt.NDArray[Any], order: Int64s) -> npt.NDArray[Any]:
    """`values[order]` for rows of 1, 8 or 16 bytes."""
    values = np.ascontiguousarray(values)
    size = values.dtype.itemsize * (values.shape[1] if values.ndim == 2 else 1)
    if size not in (1, 8, 16):
        return values[order]
    out = np.empty((order.size, *values.shape[1:]), values.dtype)
    data, to = ffi.cast("uint8_t *", values.ctypes.data), ffi.cast("uint8_t *", out.ctypes.data)
    lib.ps_gather(order.size, _pointer(order), size, data, to)
    return out


def split(hashes: npt.NDArray[np.uint64], parts: int) -> tuple[Int64s, Int64s]:
    """Places of rows in order of their part, as they come inside a part; and where each part begins, and the end.

    Args:
        parts: a power of two; a row's part is made of bits 20 and up of its hash.
    """
    order, edges = np.empty(hashes.size, np.int64), np.empty(parts + 1, np.int64)
    lib.ps_split(hashes.size, ffi.cast("uint64_t *", hashes.ctypes.data), parts, _pointer(order), _pointer(edges))
    return order, edges


def deal(columns: Sequence[Int64s], order: Int64s, edges: Int64s, to: npt.NDArray[np.uint64]) -> None:
    """Writes the rows of each part, in the order of `split`, to addresses with room for them.

    Args:
        columns: contiguous words. to: an address per part and column; `(parts, columns)`.
    """
    values = np.array([column.ctypes.data for column in columns], np.uint64)
    pointers = ffi.cast("uint64_t **", values.ctypes.data), ffi.cast("uint64_t **", to.ctypes.data)
    lib.ps_deal(len(columns), pointers[0], edges.size - 1, _pointer(order), _pointer(edges), pointers[1])


def order_groups(offsets: Int64s, rank: Int64s) -> Int64s:
    """Places of ragged groups, each group's by rising rank; equal ranks in the order they come.

    >>> order_groups(np.array([0, 3, 5]), np.array([7, 5, 5, 2, 1])).tolist()
    [1, 2, 0, 4, 3]
    """
    order, offsets, rank = np.empty(rank.size, np.int64), np.ascontiguousarray(offsets), np.ascontiguousarray(rank)
    if lib.ps_order_groups(offsets.size - 1, _pointer(offsets), _pointer(rank), _pointer(order)):
        raise EngineError("ordering groups of rows", found="not enough memory", remedy="ask for fewer rows at a time")
    return order


def _pointer(x: Int64s) -> Any:
    return ffi.cast("int64_t *", x.ctypes.data)
