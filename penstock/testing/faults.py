"""A disk that may fail: what a process wrote is recorded, and from it the images a power cut could have left are built.

The recording is made by a small C library preloaded into the process (`faults.c`), so real stores run on it unchanged.
Writes that a sync did not follow may be missing, torn at sector bounds, or out of order in an image; synced ones never.
The idea is that of Linux's dm-log-writes and of ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI
2014). Memory-mapped writes are not seen; the stores recorded here write by system calls.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from penstock.errors import StoreError

__all__ = ["Event", "Killed", "Recording", "build_recorder", "kill_at_line", "recorded_environment"]

_EVENT: Final = struct.Struct("<IBBHqQ")
_MAGIC: Final = 0x50464C54
WRITE, SYNC, TRUNCATE, RENAME, UNLINK, LINK = 1, 2, 3, 4, 5, 6
SECTOR: Final = 512


def build_recorder(directory: Path) -> Path:
    """Compiles the recorder; the path of the library to preload.

    Raises:
        StoreError: there is no C compiler, or it fails.
    """
    target = directory / "penstock_faults.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise StoreError("build the fault layer", found="no C compiler", remedy="install cc")
    source = Path(__file__).with_suffix(".c")
    command = [compiler, "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    done = subprocess.run(  # noqa: S603 the compiler and our own source
        [*command, "-o", str(target), str(source), "-ldl", "-lpthread"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StoreError("build the fault layer", found=done.stderr[:2000], remedy="see the compiler's words")
    return target


def recorded_environment(recorder: Path, root: Path, journal: Path, *, disk_bytes: int = 0) -> dict[str, str]:
    """Environment variables that make a process record what it writes below `root`.

    Args:
        recorder: the library, from `build_recorder`.
        root: directory to watch.
        journal: file that takes the recording.
        disk_bytes: writes fail with "no space left" beyond so many bytes; 0 for a disk without end.
    """
    return {
        **os.environ,
        "LD_PRELOAD": str(recorder),
        "PENSTOCK_FAULT_ROOT": str(root.resolve()),
        "PENSTOCK_FAULT_JOURNAL": str(journal),
        "PENSTOCK_FAULT_BYTES": str(disk_bytes),
    }


@dataclass(frozen=True, slots=True)
class Event:
    """One call: its kind, file, place and data; `synchronous` if it is durable when it returns."""

    kind: int
    synchronous: bool
    path: str
    offset: int
    data: bytes


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)

    def settle(self) -> None:
        for event in self.pending:
            _apply(self.durable, event)
        self.pending.clear()


@dataclass(frozen=True, slots=True)
class Recording:
    """What a process wrote below a directory, in order."""

    root: Path
    events: Sequence[Event]

    @classmethod
    def read(cls, journal: Path, root: Path) -> Recording:
        """Reads a recording; a last event cut short by a kill is left out."""
        data = journal.read_bytes()
        events, at = [], 0
        while at + _EVENT.size <= len(data):
            magic, kind, synchronous, path_length, offset, length = _EVENT.unpack_from(data, at)
            if magic != _MAGIC:
                raise StoreError("read a recording", found=f"no event at byte {at}", remedy="record again")
            start = at + _EVENT.size + path_length
            size = length
            if start + size > len(data):
                break
            path = data[at + _EVENT.size : start].decode()
            events.append(Event(kind, bool(synchronous), path, offset, data[start : start + size]))
            at = start + size
        return cls(root.resolve(), events)

    def written(self, path: Path, at: int) -> bytes:
        """All bytes written to a file by the first `at` events, synced or not."""
        name, content = str(path.resolve()), bytearray()
        for event in self.events[:at]:
            if event.path == name:
                _apply(content, event)
        return bytes(content)

    def image(self, at: int, target: Path, rng: random.Random, *, sector: int = SECTOR) -> None:
        """Builds below `target` what a power cut after the first `at` events could have left.

        Of writes that no sync followed, each sector stays or is lost by chance, in any order.
        """
        for path, content in self.contents(at, rng, sector=sector).items():
            place = target / Path(path).relative_to(self.root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def contents(self, at: int, rng: random.Random, *, sector: int = SECTOR) -> Mapping[str, bytes]:
        """The content of each file in such an image."""
        files: dict[str, _File] = {}
        for event in self.events[:at]:
            if event.kind == SYNC and event.path not in files:
                continue  # a directory, or a file that was empty
            file = files.setdefault(event.path, _File())
            if event.kind == SYNC:
                file.settle()
            elif event.kind == RENAME:
                files[event.data.decode()] = files.pop(event.path)
            elif event.kind == LINK:
                files[event.data.decode()] = file
            elif event.kind == UNLINK:
                files.pop(event.path)
            elif event.synchronous:
                _apply(file.durable, event)
            else:
                file.pending.append(event)
        for file in files.values():
            pieces = [piece for event in file.pending for piece in _sectors(event, sector)]
            kept = [piece for piece in pieces if rng.random() < 0.5]
            for piece in kept:
                _apply(file.durable, piece)
            file.pending.clear()
        return {path: bytes(file.durable) for path, file in files.items()}


def _apply(content: bytearray, event: Event) -> None:
    if event.kind == TRUNCATE:
        if event.offset < len(content):
            del content[event.offset :]
        else:
            content.extend(bytes(event.offset - len(content)))
    elif event.kind == WRITE:
        end = event.offset + len(event.data)
        if end > len(content):
            content.extend(bytes(end - len(content)))
        content[event.offset : end] = event.data


def _sectors(event: Event, sector: int) -> Iterator[Event]:
    """A write in the pieces that a disk stores whole."""
    if event.kind != WRITE:
        yield event
        return
    start, end = event.offset, event.offset + len(event.data)
    while start < end:
        stop = min(end, (start // sector + 1) * sector)
        yield Event(WRITE, False, event.path, start, event.data[start - event.offset : stop - event.offset])
        start = stop


@dataclass(frozen=True, slots=True)
class Killed:
    """A process that was killed: the lines it had written to its standard output."""

    lines: list[str]


def kill_at_line(command: Sequence[str], at_line: int, environment: Mapping[str, str] | None = None) -> Killed:
    """Runs a program and kills it (SIGKILL) right after its n-th line of output, or lets it end before."""
    process = subprocess.Popen(  # noqa: S603 the caller's own program
        list(command), stdout=subprocess.PIPE, text=True, env=None if environment is None else dict(environment)
    )
    out: IO[str] | None = process.stdout
    assert out is not None
    lines = []
    for line in out:
        lines.append(line.rstrip("\n"))
        if len(lines) == at_line:
            process.send_signal(signal.SIGKILL)
    process.wait()
    out.close()
    return Killed(lines)
