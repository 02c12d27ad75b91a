"""Checkpoints: a durable copy of the arena as it was between two batches, made while the next batches run.

Two image files hold two copies of every 64-KiB chunk. A checkpoint writes the chunks changed since the last one, each
over the copy that the last one does not use, makes both files durable, and then replaces the manifest, which says for
each chunk which copy counts and its checksum. Whatever is lost in a crash, the manifest's copies stand.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from penstock.algebra.arena import CHUNK_BYTES, Arena, crc32c, load_snapshot
from penstock.engine.live.durable import disk_error, replace_file
from penstock.errors import PenstockError, StoreError

__all__ = [
    "FORMAT_VERSION",
    "IMAGES",
    "MANIFEST",
    "Checkpointer",
    "Manifest",
    "open_images",
    "read_manifest",
    "restore",
]

FORMAT_VERSION = 2
MANIFEST = "manifest"
IMAGES = ("image-0", "image-1")
_STEP_CHUNKS = 128


@dataclass(frozen=True)
class Manifest:
    """A checkpoint.

    Attributes:
        number: counts checkpoints from 1; the journal segments from this number on follow it.
        batch: the last batch it contains.
        facts: what the job keeps beside the arena: fingerprint of the plan, names of roots.
        slots: per chunk, which image file holds it; `(n_chunks,)`.
        crcs: per chunk, its CRC-32C; `(n_chunks,)`.
    """

    number: int
    batch: int
    facts: dict[str, Any]
    slots: np.ndarray[Any, np.dtype[np.uint8]] = field(repr=False)
    crcs: np.ndarray[Any, np.dtype[np.uint32]] = field(repr=False)

    def to_bytes(self) -> bytes:
        """A line of JSON, the two arrays, and a checksum of all before it."""
        head = {
            "format": FORMAT_VERSION,
            "number": self.number,
            "batch": self.batch,
            "facts": self.facts,
            "chunks": len(self.slots),
        }
        body = json.dumps(head).encode() + b"\n" + self.slots.tobytes() + self.crcs.tobytes()
        return body + crc32c(body).to_bytes(4, "little")


def _broken(path: Path, found: str) -> StoreError:
    return StoreError(
        "a checkpoint of this version is needed",
        found=found,
        remedy="use the Penstock that wrote it, or remove the state directory and start warm from history",
        where=str(path),
    )


def read_manifest(directory: Path) -> Manifest | None:
    """The last checkpoint of a state directory, or None where there is none.

    Raises:
        StoreError: the manifest is damaged or of a newer version.
    """
    path = directory / MANIFEST
    if not path.exists():
        return None
    data = path.read_bytes()
    line, _, rest = data.partition(b"\n")
    try:
        head = json.loads(line)
        version, n = int(head["format"]), int(head["chunks"])
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(path, f"a manifest that does not parse: {error}") from error
    if version != FORMAT_VERSION:
        raise _broken(path, f"format {version}, this is {FORMAT_VERSION}")
    if len(rest) != 5 * n + 4 or crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise _broken(path, "a damaged manifest")
    slots, crcs = np.frombuffer(rest, np.uint8, n).copy(), np.frombuffer(rest[n : 5 * n], np.uint32).copy()
    return Manifest(int(head["number"]), int(head["batch"]), head["facts"], slots, crcs)


class Checkpointer:
    """Makes checkpoints of one arena into one state directory.

    Args:
        manifest: the checkpoint that the arena was loaded from, or None for an empty arena.
        on_step: called after each step with its name; the crash tests stop the process there.
    """

    def __init__(
        self,
        arena: Arena,
        directory: Path,
        manifest: Manifest | None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.directory = directory
        self._arena, self._on_step = arena, on_step
        self._last = manifest
        self.bytes_written = 0
        self._images = open_images(directory)
        self._thread: threading.Thread | None = None
        self._failure: PenstockError | None = None

    @property
    def number(self) -> int:
        """The number of the last checkpoint that stands; 0 before the first."""
        return self._last.number if self._last else 0

    @property
    def running(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, number: int, facts: dict[str, Any]) -> None:
        """Begins checkpoint `number` of the arena as it is now, between two batches.

        It is written by a thread of its own; `poll` says when it stands. The journal must already go on in the
        segment of that number.
        """
        assert self._thread is None
        self._arena.begin_snapshot()
        n = -(-self._arena.top_bytes // CHUNK_BYTES)
        slots, crcs = np.zeros(n, np.uint8), np.zeros(n, np.uint32)
        if self._last:
            known = len(self._last.slots)
            slots[:known], crcs[:known] = self._last.slots, self._last.crcs
        manifest = Manifest(number, self._arena.batch, facts, slots, crcs)
        self._on_step("checkpoint begun")
        self._thread = threading.Thread(target=self._write, args=(manifest,), name=f"checkpoint-{number}", daemon=True)
        self._thread.start()

    def _write(self, manifest: Manifest) -> None:
        try:
            while done := self._arena.write_snapshot(self._images, manifest.slots, manifest.crcs, _STEP_CHUNKS):
                self.bytes_written += done * CHUNK_BYTES
                for image in self._images:
                    os.fdatasync(image)
                self._on_step("chunks written")
            for image in self._images:
                os.fsync(image)
            self._on_step("chunks synced")
            data = manifest.to_bytes()
            replace_file(self.directory / MANIFEST, data)
            self.bytes_written += len(data)
            self._on_step("manifest replaced")
            self._last = manifest
        except OSError as error:
            self._failure = disk_error(error, f"write checkpoint {manifest.number}", self.directory)
        except PenstockError as error:
            self._failure = error

    def poll(self, *, wait: bool = False) -> bool:
        """Whether a checkpoint was completed since the last call.

        Raises:
            StoreError: it failed; the former one stands.
        """
        if self._thread is None or (self._thread.is_alive() and not wait):
            return False
        self._thread.join()
        self._thread = None
        if self._failure:
            failure, self._failure = self._failure, None
            self._arena.abandon_snapshot()
            raise failure
        return True

    def close(self) -> None:
        """Waits for a running checkpoint and closes the image files."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for image in self._images:
            os.close(image)
        self._images = (-1, -1)


def open_images(directory: Path) -> tuple[int, int]:
    """The two image files of a state directory, opened to read and write."""
    flags = os.O_RDWR | os.O_CREAT
    return os.open(directory / IMAGES[0], flags, 0o600), os.open(directory / IMAGES[1], flags, 0o600)


def restore(directory: Path, manifest: Manifest, arena_path: Path) -> None:
    """Makes the arena file that a checkpoint describes.

    Raises:
        StoreError: a chunk's bytes are damaged, or no space.
    """
    images = open_images(directory)
    try:
        bad = load_snapshot(arena_path, images, manifest.slots, manifest.crcs, len(manifest.slots))
    finally:
        for image in images:
            os.close(image)
    if bad is not None:
        raise _broken(directory / f"image-{manifest.slots[bad]}", f"a wrong checksum in chunk {bad}")
