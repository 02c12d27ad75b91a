"""Ends of tasks, on disk until the scheduler has acknowledged them: no death of ours forgets finished work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from penstock.errors import WorkflowError
from penstock.workflows.messages import Acknowledged, Ended, TaskRef
from penstock.workflows.wire import Frames, pack

__all__ = ["Ends"]

_COMPACT: Final = 1 << 20


class Ends:
    """A file to which ends and acknowledgements are appended; emptied when nothing is open.

    What was appended survives `kill -9` of anything, not the loss of power: then the tasks run again.

    Args:
        file: made when it is missing. A torn last record is dropped.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._open: dict[TaskRef, Ended] = {}
        for message in _read(file):
            if isinstance(message, Ended):
                self._open[message.task] = message
            elif isinstance(message, Acknowledged):
                self._open.pop(message.task, None)
        part = file.with_suffix(".tmp")
        part.write_bytes(pack(self._open.values()))
        part.replace(file)
        self._fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def __iter__(self) -> Iterator[Ended]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def get(self, task: TaskRef) -> Ended | None:
        """The end of a task that was not yet acknowledged."""
        return self._open.get(task)

    def add(self, ends: Iterable[Ended]) -> None:
        """Keeps ends; when this returns they outlive us.

        Raises:
            OSError: there is no room.
        """
        ends = list(ends)
        self._append(pack(ends))
        self._open.update((end.task, end) for end in ends)

    def drop(self, acknowledged: Iterable[Acknowledged]) -> None:
        """Forgets ends that are on record."""
        acknowledged = [a for a in acknowledged if self._open.pop(a.task, None) is not None]
        self._append(pack(acknowledged))
        if not self._open and os.fstat(self._fd).st_size > _COMPACT:
            os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._fd)

    def _append(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]


def _read(file: Path) -> list[object]:
    found: list[object] = []
    if not file.exists():
        return found
    frames = Frames()
    with file.open("rb") as opened:
        while data := opened.read(1 << 20):
            try:
                found += frames.feed(data)
            except WorkflowError:  # torn by a power loss: what lies behind is not to be trusted
                break
    return found
