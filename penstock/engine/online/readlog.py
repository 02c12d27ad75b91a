"""What was read online, kept for the promise: requests, instants, positions and answers, in Arrow files that rotate."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.engine.online.answers import Answers
from penstock.errors import StoreError

__all__ = ["ANSWER", "SUFFIX", "LoggedReads", "ReadLog", "locked", "logged_reads", "read_file", "read_table"]

SUFFIX = ".arrows"
_REQUEST, ANSWER = "request.", "answer."
_ABOUT = b"penstock.read"
_SYSTEM = pa.schema([("q_us", pa.int64()), ("known_us", pa.int64()), ("batch", pa.int64()), ("positions", pa.string())])


class ReadLog:
    """Takes reads, of one process; each view and group has a file of its own, an Arrow stream.

    What was taken survives the end of the process. A file that ends in the middle of a record is read up to there.

    Args:
        directory: made if it is not there; other processes may write to it as well.
        name: of this process among them.
        max_bytes: of a file, before the next is begun.
    """

    def __init__(self, directory: Path | str, *, name: str = "reads", max_bytes: int = 64 << 20) -> None:
        self.directory, self.name, self.max_bytes = Path(directory), name, max_bytes
        self.directory.mkdir(parents=True, exist_ok=True)
        self._open: dict[str, tuple[pa.OSFile, pa.ipc.RecordBatchStreamWriter, pa.Schema]] = {}
        self._files: dict[str, tuple[Path, int]] = {}

    def append(self, kind: str, name: str, requests: pa.RecordBatch, answers: Answers) -> None:
        """One call's requests and answers.

        Args:
            kind: "view" or "group".
        """
        with locked(self.directory):
            self._append(kind, name, requests, answers)

    def _append(self, kind: str, name: str, requests: pa.RecordBatch, answers: Answers) -> None:
        batch = _batch(requests, answers)
        about = {"kind": kind, "name": name, "fingerprint": answers.fingerprint}
        key = f"{kind}-{name}"
        file, writer, schema = self._open.get(key) or self._begin(key, batch.schema, about)
        if not batch.schema.equals(schema) or file.tell() > self.max_bytes or self._was_replaced(key):
            self._end(key)
            file, writer, schema = self._begin(key, batch.schema, about)
        writer.write_batch(batch)
        file.flush()

    def close(self) -> None:
        """Ends all files."""
        for key in list(self._open):
            self._end(key)

    def _begin(
        self, key: str, schema: pa.Schema, about: Mapping[str, str]
    ) -> tuple[pa.OSFile, pa.ipc.RecordBatchStreamWriter, pa.Schema]:
        former = [int(path.stem[-6:]) for path in self.directory.glob(f"{self.name}-{key}-*{SUFFIX}")]
        path = self.directory / f"{self.name}-{key}-{max(former, default=0) + 1:06d}{SUFFIX}"
        file = pa.OSFile(str(path), "wb")
        self._files[key] = (path, path.stat().st_ino)
        writer = pa.ipc.new_stream(file, schema.with_metadata({_ABOUT: json.dumps(about).encode()}))
        self._open[key] = (file, writer, schema)
        return self._open[key]

    def _was_replaced(self, key: str) -> bool:
        """Whether an erasure has written the file anew or taken it away, so that what follows goes into another."""
        path, number = self._files[key]
        return not path.exists() or path.stat().st_ino != number

    def _end(self, key: str) -> None:
        file, writer, _ = self._open.pop(key)
        writer.close()
        file.close()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the read logs of a directory, so that taking reads and erasing them do not meet."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _batch(requests: pa.RecordBatch, answers: Answers) -> pa.RecordBatch:
    n = len(answers)
    positions = json.dumps(dict(answers.positions), sort_keys=True)
    columns: list[Any] = [pa.repeat(pa.scalar(x, pa.int64()), n)
                          for x in (answers.q_us, answers.known_us, answers.batch)]  # fmt: skip
    columns.append(pa.repeat(pa.scalar(positions), n))
    fields = list(_SYSTEM)
    for prefix, names, values in (
        (_REQUEST, requests.schema.names, requests.columns),
        (ANSWER, list(answers.columns), list(answers.columns.values())),
    ):
        for name, column in zip(names, values, strict=True):
            fields.append(pa.field(prefix + name, column.type))
            columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


@dataclass(frozen=True, eq=False)
class LoggedReads:
    """Reads of one view or group, of one version.

    Attributes:
        requests: the requests' columns. answers: those of the answers, row by row beside them.
        positions: of each read, {(source, partition): offset before which rows counted}.
    """

    kind: str
    name: str
    fingerprint: str
    requests: pa.Table
    answers: pa.Table
    q_us: np.ndarray[Any, np.dtype[np.int64]]
    known_us: np.ndarray[Any, np.dtype[np.int64]]
    positions: Sequence[Mapping[tuple[str, int], int]]

    def between(self, since_us: int, until_us: int) -> LoggedReads:
        """The reads whose instant `q` is at or after the one and before the other."""
        chosen = np.flatnonzero((self.q_us >= since_us) & (self.q_us < until_us))
        return replace(
            self,
            requests=self.requests.take(chosen),
            answers=self.answers.take(chosen),
            q_us=self.q_us[chosen],
            known_us=self.known_us[chosen],
            positions=[self.positions[i] for i in chosen.tolist()],
        )


def logged_reads(directory: Path | str) -> Iterator[LoggedReads]:
    """All reads of a directory, file by file.

    Raises:
        StoreError: a file is none of a read log.
    """
    for path in sorted(Path(directory).glob(f"*{SUFFIX}")):
        found = read_file(path)
        if found is not None:
            yield found


def read_table(path: Path) -> pa.Table | None:
    """A file of logged reads as it is, what it is about in its schema's metadata; None where it holds none.

    Raises:
        StoreError: it is none of a read log.
    """
    batches: list[pa.RecordBatch] = []
    try:
        with pa.OSFile(str(path)) as file:
            if not file.size():
                return None
            reader = pa.ipc.open_stream(file)
            with suppress(pa.ArrowInvalid, OSError):  # the process may have ended in the middle of the last record
                batches.extend(reader)
            json.loads((reader.schema.metadata or {})[_ABOUT])
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise StoreError(
            "a file of logged reads", found=f"{error!r}", remedy="take it out of the directory", where=str(path)
        ) from error
    return pa.Table.from_batches(batches, schema=reader.schema).combine_chunks() if batches else None


def read_file(path: Path) -> LoggedReads | None:
    """The reads of a file; None where it holds none.

    Raises:
        StoreError: it is none of a read log.
    """
    table = read_table(path)
    if table is None:
        return None
    about = json.loads(table.schema.metadata[_ABOUT])
    texts = table.column("positions").to_pylist()
    places = {text: _places(text) for text in set(texts)}
    return LoggedReads(
        about["kind"],
        about["name"],
        about["fingerprint"],
        _with_prefix(table, _REQUEST),
        _with_prefix(table, ANSWER),
        table.column("q_us").to_numpy(),
        table.column("known_us").to_numpy(),
        [places[text] for text in texts],
    )


def _places(text: str) -> dict[tuple[str, int], int]:
    return {(name, p): offset for name, offsets in json.loads(text).items() for p, offset in enumerate(offsets)}


def _with_prefix(table: pa.Table, prefix: str) -> pa.Table:
    names = [name for name in table.column_names if name.startswith(prefix)]
    return table.select(names).rename_columns([name.removeprefix(prefix) for name in names])
