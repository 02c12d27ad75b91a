"""What an artifact store promises: whole blobs by path, put atomically, named by their content's hash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Blob", "BlobInfo"]


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob: its path, size and BLAKE2b-128 hash of its content, in hex."""

    path: str
    size: int
    content_hash: str


@runtime_checkable
class Blob(Protocol):
    """Blobs in one place."""

    url: str

    def put(self, path: str, data: bytes | Path) -> BlobInfo:
        """Stores bytes or a file's content; a reader sees the old blob or the new one, never a part."""
        ...

    def get(self, path: str, *, expect_hash: str | None = None) -> bytes:
        """The content, checked against its hash if one is given."""
        ...

    def get_to(self, path: str, target: Path, *, expect_hash: str | None = None) -> BlobInfo:
        """Copies the content to a local file, which appears only when it is whole."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """The paths of all blobs that start with a prefix, sorted."""
        ...

    def delete(self, path: str) -> None:
        """Takes a blob away; nothing happens if there is none."""
        ...
