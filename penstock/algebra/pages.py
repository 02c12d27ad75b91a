"""Large arrays on plain pages."""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

__all__ = ["new_words"]


def new_words(n: int) -> npt.NDArray[np.int64]:
    """An array of `n` words, at first 0; memory is taken page by page as it is written to.

    numpy asks for pages of 2 MiB. Where a hypervisor takes idle ones back, a fresh one costs six times as much as the
    same in plain pages.
    """
    return np.frombuffer(mmap.mmap(-1, max(1, n) * 8, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.int64, n)
