"""The journal: what each micro-batch will read, made durable before it runs.

A segment `journal-<n>` holds the batches run since checkpoint n began. Its frames lie in space that was written
before, so that making one durable is one write and one flush of data. A frame is

    length u32 | crc32c u32 | batch u64 | payload

with the checksum over batch and payload, going on from the checksum of the segment's number; a length of 0 or a wrong
checksum ends the segment: such a frame's batch has never run.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from penstock.algebra.arena import crc32c
from penstock.engine.live.durable import disk_error, sync_directory

__all__ = ["Journal", "read_segment", "segments"]

_FRAME = struct.Struct("<IIQ")
_GROW = 1 << 20
_PREFIX = "journal-"


def _seed(segment: int) -> int:
    return crc32c(segment.to_bytes(8, "little"))


def segments(directory: Path) -> list[int]:
    """The numbers of the segments in a state directory, ascending."""
    return sorted(int(path.name[len(_PREFIX) :]) for path in directory.glob(_PREFIX + "*") if path.suffix == "")


def read_segment(directory: Path, segment: int) -> Iterator[tuple[int, bytes]]:
    """The (batch, payload) of a segment's frames, in the order they were written."""
    data = (directory / f"{_PREFIX}{segment}").read_bytes()
    seed, at = _seed(segment), 0
    while at + _FRAME.size <= len(data):
        length, crc, batch = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        if length == 0 or end > len(data) or crc32c(data[at + 8 : end], seed) != crc:
            return
        yield batch, data[at + _FRAME.size : end]
        at = end


class Journal:
    """Writes one segment at a time.

    Args:
        directory: the state directory.
        segment: the number of the first segment; a file of that number is replaced.

    Raises:
        StoreError: the disk is full or fails.
    """

    def __init__(self, directory: Path, segment: int) -> None:
        self.directory = directory
        self.bytes_written = 0
        self._fd = -1
        self.rotate(segment)

    def rotate(self, segment: int) -> None:
        """Goes on in a new segment."""
        path = self.directory / f"{_PREFIX}{segment}"
        self.close()
        self.segment, self._path, self._seed = segment, path, _seed(segment)
        self._at = self._room = 0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            self._make_room(_GROW)
            sync_directory(self.directory)
        except OSError as error:
            raise disk_error(error, f"begin journal segment {segment}", path) from error

    def _make_room(self, need: int) -> None:
        while self._room < need:
            written = os.pwrite(self._fd, bytes(_GROW), self._room)
            if written < _GROW:
                raise OSError(28, os.strerror(28))
            self._room += _GROW
        os.fsync(self._fd)

    def append(self, batch: int, payload: bytes) -> None:
        """Makes a frame durable.

        Raises:
            StoreError: the disk is full or fails; the batch must not run.
        """
        body = batch.to_bytes(8, "little") + payload
        frame = len(payload).to_bytes(4, "little") + crc32c(body, self._seed).to_bytes(4, "little") + body
        try:
            if self._at + len(frame) > self._room:
                self._make_room(self._at + len(frame))
            os.pwrite(self._fd, frame, self._at)
            os.fdatasync(self._fd)
        except OSError as error:
            raise disk_error(error, f"journal batch {batch}", self._path) from error
        self._at += len(frame)
        self.bytes_written += len(frame)

    def drop_before(self, segment: int) -> None:
        """Removes segments that a checkpoint has made needless."""
        for old in segments(self.directory):
            if old < segment:
                (self.directory / f"{_PREFIX}{old}").unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the segment."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
