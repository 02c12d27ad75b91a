"""What readers were promised: by partition, the instant up to which nothing new becomes known."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

from penstock.store.log.embedded.spec import Spec

__all__ = ["Floors"]

_SLOT: Final = struct.Struct("<Q")
_SHIFT: Final = 2**63


class Floors:
    """A small file beside the log, one int64 a partition; read and raised only while the write lock is held.

    It is written through the page cache, never synced: it outlives every process, and after a power cut the clock
    has moved past it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def reserve(self, slots: int) -> None:
        """Makes room on the disk, so that raising a floor never needs more of it."""
        size = slots * _SLOT.size
        if os.fstat(self._descriptor).st_size < size:
            os.posix_fallocate(self._descriptor, 0, size)

    def get(self, spec: Spec, partition: int) -> int:
        """The instant promised, -2**63 for none; stored shifted, so that a slot of zeros says none."""
        data = os.pread(self._descriptor, _SLOT.size, (spec.slot + partition) * _SLOT.size)
        return int(_SLOT.unpack(data)[0]) - _SHIFT if len(data) == _SLOT.size else -_SHIFT

    def raise_to(self, spec: Spec, partition: int, instant_us: int) -> None:
        """Promises that rows stored from now on are known after `instant_us`."""
        if instant_us > self.get(spec, partition):
            os.pwrite(self._descriptor, _SLOT.pack(instant_us + _SHIFT), (spec.slot + partition) * _SLOT.size)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)
