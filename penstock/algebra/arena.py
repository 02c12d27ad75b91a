"""The arena: one growable block of memory in a file, addressed by offsets, that other processes may map.

`Arena` is the writer's side; its memory is only changed by kernels, between `begin` and `commit`. `ArenaView` maps
the file of a running writer read-only. The snapshot functions copy the chunks changed since the last snapshot while
the writer goes on; what is done with them on disk is the caller's.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.errors import EngineError, StoreError

__all__ = ["CHUNK_BYTES", "Arena", "ArenaView", "crc32c", "load_snapshot"]

CHUNK_BYTES = 1 << 16
"""What a snapshot copies at once."""

_MAGIC = 0x31414E5241534B50
_HEAD = struct.Struct(
    "<QIIQQQQQqQQQ"
)  # magic, version, roots, sequence, size, top, used, batch, known, meta, n, capacity


def _kernel() -> Any:
    try:
        from penstock.algebra import _kernel as kernel  # type: ignore[attr-defined]
    except ImportError as missing:
        raise EngineError(
            "the C kernel is needed", found=str(missing), remedy="compile it: python penstock/algebra/build_kernel.py"
        ) from missing
    return kernel


def crc32c(data: bytes | memoryview, crc: int = 0) -> int:
    """CRC-32C (RFC 3720) of bytes, going on from `crc`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    kernel = _kernel()
    return int(kernel.lib.ps_crc32c(crc, kernel.ffi.from_buffer("uint8_t[]", data), len(data)))


def _fail(code: int, asked: str, path: Path) -> StoreError:
    full = code in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT)
    return StoreError(
        asked,
        found=os.strerror(code),
        remedy=f"free space in {path.parent}, or name another folder: penstock features live --memory-dir FOLDER"
        if full
        else "look at the device",
        where=str(path),
    )


class Arena:
    """The writer's side of an arena over a file.

    Args:
        path: the file, made anew unless `loaded`.
        reserve_bytes: the address space set aside; the arena cannot grow past it. Takes no memory by itself.
        loaded: whether the file holds a snapshot that was put there by `load`.

    Raises:
        StoreError: no space, or the file is no arena of this version.
    """

    def __init__(self, path: Path, reserve_bytes: int = 1 << 36, *, loaded: bool = False) -> None:
        kernel = _kernel()
        self.ffi, self.lib = kernel.ffi, kernel.lib
        self.path = path
        self._fd = os.open(path, os.O_RDWR | (0 if loaded else os.O_CREAT | os.O_TRUNC), 0o600)
        self.handle = self.ffi.new("ps_arena *")
        size = os.fstat(self._fd).st_size if loaded else 0
        failed = self.lib.ps_arena_open(self.handle, self._fd, reserve_bytes, size)
        if failed == errno.EPROTO:
            self.close()
            raise StoreError(
                "an arena of this version is needed",
                found="another format",
                remedy="use the Penstock that wrote it, or build the state again",
                where=str(path),
            )
        if failed:
            self.close()
            raise _fail(failed, f"open an arena of up to {reserve_bytes} bytes", path)

    @property
    def head(self) -> Any:
        """The header, as the C struct."""
        return self.lib.ps_head(self.handle)

    @property
    def used_bytes(self) -> int:
        """Bytes allocated and not freed."""
        return int(self.head.used)

    @property
    def top_bytes(self) -> int:
        """Bytes ever allocated: what a full copy holds."""
        return int(self.head.top)

    @property
    def batch(self) -> int:
        """The last batch committed; 0 before the first."""
        return int(self.head.batch)

    def begin(self) -> None:
        """Begins a batch: readers wait, or take what they read as torn, until `commit`."""
        self.lib.ps_arena_begin(self.handle)

    def commit(self, batch: int, known_us: int) -> None:
        """Ends a batch: everything in it is visible to readers at once."""
        self.lib.ps_arena_commit(self.handle, batch, known_us)

    def set_meta(self, data: bytes) -> None:
        """Replaces the writer's own bytes (positions and such), inside a batch.

        Raises:
            StoreError: no space.
        """
        failed = self.lib.ps_arena_set_meta(self.handle, self.ffi.from_buffer("uint8_t[]", data), len(data))
        if failed:
            raise _fail(failed, f"keep {len(data)} bytes in the arena", self.path)

    def meta(self) -> bytes:
        """The writer's own bytes."""
        head = self.head
        return bytes(self.ffi.buffer(self.handle.base + head.meta, head.meta_bytes)) if head.meta_bytes else b""

    def check(self, ok: bool, asked: str) -> None:
        """Raises the error of a kernel call that did not get its memory.

        Raises:
            StoreError: `ok` is false.
        """
        if not ok:
            raise _fail(self.handle.error or errno.ENOMEM, asked, self.path)

    def begin_snapshot(self) -> int:
        """Begins a snapshot between batches; returns the number of chunks changed since the last."""
        return int(self.lib.ps_snapshot_begin(self.handle))

    def write_snapshot(
        self, images: tuple[int, int], slots: npt.NDArray[np.uint8], crcs: npt.NDArray[np.uint32], limit: int
    ) -> int:
        """Writes up to `limit` chunks of the snapshot to two image files; see `ps_snapshot_write`.

        Raises:
            OSError: a write failed, with its number.
        """
        done = int(
            self.lib.ps_snapshot_write(
                self.handle,
                images[0],
                images[1],
                self.ffi.from_buffer("uint8_t[]", slots),
                self.ffi.from_buffer("uint32_t[]", crcs),
                limit,
            )
        )
        if done < 0:
            raise OSError(-done, os.strerror(-done))
        return done

    def abandon_snapshot(self) -> None:
        """Gives up the running snapshot, between batches, when its thread has ended."""
        self.lib.ps_snapshot_abandon(self.handle)

    def close(self) -> None:
        """Unmaps the memory; the file stays."""
        if self._fd >= 0:
            self.lib.ps_arena_close(self.handle)
            os.close(self._fd)
            self._fd = -1


def load_snapshot(
    path: Path, images: tuple[int, int], slots: npt.NDArray[np.uint8], crcs: npt.NDArray[np.uint32], n_chunks: int
) -> int | None:
    """Fills a new arena file from image files; returns the first chunk whose checksum is wrong, or None.

    Raises:
        StoreError: no space, or a read failed.
    """
    kernel = _kernel()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        slot, crc = kernel.ffi.from_buffer("uint8_t[]", slots), kernel.ffi.from_buffer("uint32_t[]", crcs)
        done = int(kernel.lib.ps_snapshot_load(fd, images[0], images[1], slot, crc, n_chunks))
    finally:
        os.close(fd)
    if done < 0:
        raise _fail(-done, f"load {n_chunks} chunks of a checkpoint", path)
    return done - 1 if done else None


class ArenaView:
    """An arena's file mapped read-only by another process (or the same).

    Args:
        path: the file of a running writer.

    Raises:
        StoreError: the file is no arena of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._map: mmap.mmap | None = None
        self._remap()

    def _remap(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size >= _HEAD.size:
            self._map = mmap.mmap(self._file.fileno(), size, prot=mmap.PROT_READ)
        if self._map is None or _HEAD.unpack_from(self._map, 0)[:2] != (_MAGIC, 1):
            self.close()
            raise StoreError(
                "an arena of this version is needed",
                found="another format",
                remedy="start the writer",
                where=str(self.path),
            )

    @property
    def memory(self) -> mmap.mmap:
        """The mapping; taken anew when the arena has grown."""
        assert self._map is not None
        if _HEAD.unpack_from(self._map, 0)[4] > len(self._map):
            self._remap()
        return self._map

    def sequence(self) -> int:
        """Even between batches; changes with every batch."""
        return int(_HEAD.unpack_from(self.memory, 0)[3])

    def batch(self) -> tuple[int, int]:
        """The last batch committed and the greatest known time applied."""
        head = _HEAD.unpack_from(self.memory, 0)
        return int(head[7]), int(head[8])

    def meta(self) -> bytes:
        """The writer's own bytes; torn when `sequence` was odd or has changed meanwhile."""
        memory = self.memory
        head = _HEAD.unpack_from(memory, 0)
        return bytes(memory[head[9] : head[9] + head[10]])

    def close(self) -> None:
        """Unmaps the file."""
        if self._map is not None:
            self._map.close()
        self._file.close()
