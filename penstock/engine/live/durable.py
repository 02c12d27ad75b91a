"""Small durable writes to a state directory: whole files by rename, and the error of a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from penstock.errors import StoreError

__all__ = ["disk_error", "replace_file", "sync_directory"]


def disk_error(error: OSError, asked: str, path: Path) -> StoreError:
    """The error to raise where a write to a state directory failed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = (
        "free space on the device and start the job again; nothing is half-written" if full else "look at the device"
    )
    return StoreError(asked, found=os.strerror(error.errno or errno.EIO), remedy=remedy, where=str(path))


def sync_directory(path: Path) -> None:
    """Makes names made or removed in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Writes a whole file: after a crash it holds the old bytes or the new ones, never a mixture.

    Raises:
        StoreError: the disk is full or fails; the old file stands.
    """
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise disk_error(error, f"write {len(data)} bytes", path) from error
