"""What is to be erased and how far that has come: one small file, which holds the key only until all is done."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from penstock.engine.live.durable import replace_file, sync_directory
from penstock.errors import DoorError, StoreError

__all__ = ["Order", "alone", "finish", "pending", "save"]

_FILE: Final = "erasure.json"


class Order(msgspec.Struct, frozen=True):
    """An erasure under way.

    Attributes:
        id: tells it from others in the audit.
        topics: full names of those whose rows go. key: column -> value as text; all must match.
        done: stages that are over.
        rows: rows taken out of log and lake so far.
    """

    id: str
    topics: tuple[str, ...]
    key: dict[str, str]
    reason: str
    author: str
    done: tuple[str, ...] = ()
    rows: int = 0


def pending(state: Path) -> Order | None:
    """The erasure that was begun and not finished; None where there is none.

    Raises:
        StoreError: the file is damaged.
    """
    path = state / _FILE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Order)
    except msgspec.DecodeError as error:
        raise StoreError(
            "an erasure under way", found=str(error), remedy="restore the file", where=str(path)
        ) from error


def save(state: Path, order: Order) -> None:
    """Writes it down; durable when it returns."""
    replace_file(state / _FILE, msgspec.json.encode(order))


def finish(state: Path) -> None:
    """Takes it away, and the key with it."""
    (state / _FILE).unlink(missing_ok=True)
    sync_directory(state)


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Lets one process at a time erase.

    Raises:
        DoorError: another is at it.
    """
    lock = os.open(state / "erasure.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DoorError(
                "one process at a time erases", found="another that is at it", remedy="wait for it", where=str(state)
            ) from None
        yield
    finally:
        os.close(lock)
