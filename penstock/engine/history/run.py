"""One run of the history engine: how much memory it may take, where it spills, how far it is."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from penstock.clock import Clock, WallClock
from penstock.engine.history.exchange import MemoryExchange, SpillExchange
from penstock.engine.history.sources import Resolver
from penstock.errors import EngineError, StoreError
from penstock.names import Fingerprint

__all__ = ["Exchange", "Options", "Progress", "Run", "partitions_for"]

Exchange = MemoryExchange | SpillExchange
FORMAT: Final = 1
MAX_PARTS: Final = 1024
_BUFFER: Final = 1 << 30
_RESUMABLE_PARTS: Final = 8
_NEAR_ROWS: Final = 1 << 19
_ONE_PART_ROWS: Final = 1 << 20
_HELD: Final = 10
"""A partition takes about this many times its bytes while it is arranged and swept."""
_WHOLE: Final = 4
"""A run in memory takes about this many times the bytes of its rows."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        stage: what it does now. fraction: finished share of the stage, 0 to 1.
        rows: rows or queries done in the stage.
        eta_s: seconds left in the stage, as it went so far; None while nothing can be said.
    """

    stage: str
    fraction: float
    rows: int
    eta_s: float | None


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes an answer.

    Attributes:
        memory_bytes: about how much memory it may take; None: everything is held in memory.
        work: a folder in which a killed run can go on; None: a temporary one if anything must be spilled.
        threads: cores used by the kernel.
        progress: told about every stage.
    """

    memory_bytes: int | None = None
    work: Path | None = None
    threads: int = 1
    progress: Callable[[Progress], None] | None = None


def partitions_for(estimated_bytes: int, n_rows: int, options: Options) -> tuple[int, bool]:
    """How many partitions, a power of two, and whether they are spilled.

    Partitions are near the processor's caches in size, and each fits into memory with room to work. A run with a work
    folder is spilled, in several partitions, so that there is something to go on from.
    """
    parts = 1 if options.work is None else _RESUMABLE_PARTS
    while n_rows > _ONE_PART_ROWS and parts < MAX_PARTS and n_rows / parts > _NEAR_ROWS:
        parts *= 2
    memory_bytes = options.memory_bytes
    spills = options.work is not None
    if memory_bytes is not None:
        needed = estimated_bytes * _HELD
        spills |= estimated_bytes * _WHOLE > memory_bytes
        while spills and parts < MAX_PARTS and needed / parts > memory_bytes / 2:
            parts *= 2
    return parts, spills and parts > 1


@dataclass
class Run:
    """The state of one run.

    Attributes:
        parts: partitions of every exchange of this run. spills: whether they are on disk.
        rows: of the greatest source, if that is known.
        dead: rows refused at the door, by source and reason.
        held: relations read into memory, by the identity of their plan: which columns, and the rows.
    """

    resolver: Resolver
    options: Options
    parts: int = 1
    spills: bool = False
    rows: int = 0
    clock: Clock = field(default_factory=WallClock)
    dead: dict[str, dict[str, int]] = field(default_factory=dict)
    _folder: Path | None = None
    _temporary: tempfile.TemporaryDirectory[str] | None = None
    held: dict[int, tuple[frozenset[str], pa.Table]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where this run spills."""
        if self._folder is None:
            if self.options.work is not None:
                self._folder = self.options.work
                self._folder.mkdir(parents=True, exist_ok=True)
            else:
                self._temporary = tempfile.TemporaryDirectory(prefix="penstock-history-")
                self._folder = Path(self._temporary.name)
        return self._folder

    def claim(self, identity: Fingerprint) -> None:
        """Makes the work folder this run's own, or finds that it is the same run's.

        Raises:
            EngineError: the folder holds another run.
            StoreError: it was written by a newer version.
        """
        if self.options.work is None:
            return
        manifest = self.folder / "manifest.json"
        wanted = {"format": FORMAT, "run": identity, "parts": self.parts}
        if manifest.exists():
            found = json.loads(manifest.read_text())
            if found.get("format", 0) > FORMAT:
                raise StoreError(
                    f"{manifest} has format {FORMAT} or below",
                    found=repr(found.get("format")),
                    remedy="upgrade Penstock",
                )
            if found != wanted:
                raise EngineError(
                    f"{self.folder} holds the work of this run",
                    found="work of another definition, other queries or other rows",
                    remedy="give the run a new work folder, or delete that one",
                )
            return
        if any(self.folder.iterdir()):
            raise EngineError(
                "a run works in a folder of its own", found=f"files in {self.folder}", remedy="give it an empty folder"
            )
        partial = manifest.with_suffix(".partial")
        partial.write_text(json.dumps(wanted))
        partial.rename(manifest)

    def exchange(
        self, tables: Iterable[pa.Table], keys: Sequence[str], stage: str, rows: int | None = None
    ) -> Exchange:
        """Rows by the hash of some columns, in memory or spilled.

        Args:
            stage: its name; in one run the same name means the same rows.
        """
        told = self.told(tables, stage, rows)
        if not self.spills:
            return MemoryExchange(told, keys, self.parts, rows or self.rows)
        buffer = (self.options.memory_bytes or _BUFFER) // 8
        return SpillExchange(self.folder / stage, keys, self.parts, buffer).write(told)

    def once(self, stage: str, part: int, make: Callable[[], pa.Table]) -> pa.Table:
        """What `make` gives; in a run with a work folder it is kept there, and made only once however often killed."""
        if self.options.work is None or not self.spills:
            return make()
        target = self.folder / f"{stage}-{part:05d}.arrow"
        if not target.exists():
            partial = target.with_suffix(".partial")
            table = make()
            try:
                with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                    writer.write_table(table)
                partial.rename(target)
            except OSError as error:
                raise spill_error(self.folder, error) from error
            return table
        with pa.OSFile(str(target), "rb") as file, pa.ipc.open_stream(file) as reader:
            return reader.read_all()

    def told(self, tables: Iterable[pa.Table], stage: str, rows: int | None) -> Iterable[pa.Table]:
        """The tables, telling progress as they pass."""
        if self.options.progress is None:
            yield from tables
            return
        begun, done = self.clock.now_us(), 0
        for table in tables:
            yield table
            done += table.num_rows
            share = min(1.0, done / rows) if rows else 0.0
            self.tell(stage, share, done, begun)
        self.tell(stage, 1.0, done, begun)

    def tell(self, stage: str, share: float, rows: int, begun_us: int) -> None:
        """Tells the listener, if there is one."""
        if self.options.progress is not None:
            spent = (self.clock.now_us() - begun_us) / 1e6
            eta = spent * (1 - share) / share if share > 0 else None
            self.options.progress(Progress(stage, share, rows, eta))

    def close(self) -> None:
        """Deletes what was spilled to a temporary folder."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = self._folder = None


def spill_error(folder: Path, error: OSError) -> StoreError:
    """What is raised when a run cannot spill."""
    return StoreError(
        f"rows are spilled to {folder}",
        found=str(error),
        remedy="free space there, or give the run another work folder; it goes on where it stopped",
    )


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
