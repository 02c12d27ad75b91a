"""What a load was about to append: one small file, so that a load taken up again appends each row once."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from penstock.errors import DoorError, StoreError

__all__ = ["Entry", "Journal"]

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One append to one topic: its sequence, and the position in the source before and after it."""

    sequence: int
    before: Any
    after: Any


class Journal:
    """The last append that was begun to a topic by one loader, which holds it alone.

    It is written before the append. After a crash the topic's own last sequence tells whether the append was made:
    if so the source goes on behind it, if not before it.

    Args:
        folder: where journals are kept. topic: the full name.
        log_id: of the log that the topic is in.

    Raises:
        DoorError: another process loads the topic.
        StoreError: the file is damaged, or of a newer format.
    """

    def __init__(self, folder: Path, topic: str, log_id: str) -> None:
        self._topic, self._log_id = topic, log_id
        self._path = folder / f"{topic.replace('/', '.')}.json"
        with _disk(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DoorError(
                f"one process at a time loads {topic}",
                found="another that is at it",
                remedy="wait for it, or stop it",
                where=str(self._path),
            ) from None
        self._entry = self._read()

    def close(self) -> None:
        """Lets go of the journal; another loader may take it up."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def begin(self, entry: Entry) -> None:
        """Writes down what is to be appended next; durable when it returns.

        Raises:
            StoreError: the disk refuses.
        """
        data = {"format": _FORMAT, "log_id": self._log_id, "append": [entry.sequence, entry.before, entry.after]}
        part = self._path.with_suffix(".tmp")
        with _disk(self._path):
            with part.open("w") as file:
                json.dump(data, file, separators=(",", ":"))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        self._entry = entry

    def resume(self, last_sequence: int) -> tuple[int, Any]:
        """The next sequence, and the position in the source to go on from; None for the start.

        Args:
            last_sequence: of this producer in the topic, -1 for none.

        Raises:
            StoreError: the topic holds appends of which the journal knows nothing.
        """
        entry = self._entry
        if entry is None and last_sequence < 0:
            return 0, None
        if entry is not None and entry.sequence == last_sequence:
            return last_sequence + 1, entry.after
        if entry is not None and entry.sequence == last_sequence + 1:
            return entry.sequence, entry.before
        raise StoreError(
            f"the journal of {self._topic} and its log are of one state",
            found=f"append {last_sequence} in the log, {entry.sequence if entry else 'none'} in the journal",
            remedy="one of them was restored or taken away: restore both, or load into a new log",
            where=str(self._path),
        )

    def _read(self) -> Entry | None:
        if not self._path.exists():
            return None
        try:
            data = json.loads(self._path.read_text())
            if data["format"] != _FORMAT:
                raise StoreError(
                    f"a journal of format {_FORMAT}",
                    found=f"format {data['format']!r}",
                    remedy="use the Penstock that wrote it, or a newer one",
                    where=str(self._path),
                )
            return Entry(*data["append"]) if data["log_id"] == self._log_id else None  # else of a log that is gone
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                "a journal is JSON as Penstock wrote it",
                found=repr(error),
                remedy="restore the file",
                where=str(self._path),
            ) from error


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            "the position of a load is written down",
            found=str(error),
            remedy="make room on the disk, then load again: it goes on where it was",
            where=str(path),
        ) from error
