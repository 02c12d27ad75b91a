"""Artifacts on any file system that fsspec knows: local disk, S3, HDFS."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import fsspec

from penstock.errors import StoreError, nearest
from penstock.store.blob.interface import BlobInfo

__all__ = ["FileBlob"]

_CHUNK: Final = 1 << 20
_PARTIAL: Final = ".partial-"


class FileBlob:
    """Blobs below one URL.

    On a local disk a blob is written beside its place, synced and renamed; object stores make an upload visible only
    when it is complete.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url, **options)
        self._local = "file" in (self._files.protocol if isinstance(self._files.protocol, tuple) else ())
        self.url = url

    @classmethod
    def open(cls, url: str | Path, **options: Any) -> FileBlob:
        """Opens the store at a URL or in a directory.

        Args:
            url: where; a directory is made if missing.
            options: of the file system, such as credentials.

        Raises:
            StoreError: the place cannot be made.
        """
        store = cls(str(url) if "://" in str(url) else str(Path(url).resolve()), **options)
        with _Explained(store.url):
            store._files.makedirs(store._root, exist_ok=True)
        return store

    def put(self, path: str, data: bytes | Path) -> BlobInfo:
        """Stores bytes or a file's content; a reader sees the old blob or the new one, never a part.

        Raises:
            StoreError: a bad path, or the store refuses.
        """
        place = self._place(path)
        with _Explained(f"{self.url}/{path}"):
            if self._local:
                return self._put_local(path, Path(place), data)
            with self._files.open(place, "wb") as target:
                return _copy(data, target, path)

    def _put_local(self, path: str, place: Path, data: bytes | Path) -> BlobInfo:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f"{_PARTIAL}{uuid.uuid4().hex}")
        try:
            with partial.open("wb") as target:
                info = _copy(data, target, path)
                target.flush()
                os.fsync(target.fileno())
            partial.replace(place)
            _sync_directories(place.parent, Path(self._root))
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return info

    def get(self, path: str, *, expect_hash: str | None = None) -> bytes:
        """The content, checked against its hash if one is given.

        Raises:
            StoreError: there is no such blob, or its content is another.
        """
        place = self._existing(path)
        with _Explained(f"{self.url}/{path}"):
            data = bytes(self._files.cat_file(place))
        _check(path, _hash(data), expect_hash)
        return data

    def get_to(self, path: str, target: Path, *, expect_hash: str | None = None) -> BlobInfo:
        """Copies the content to a local file, which appears only when it is whole.

        Raises:
            StoreError: there is no such blob, or its content is another.
        """
        place = self._existing(path)
        partial = target.with_name(f"{_PARTIAL}{uuid.uuid4().hex}")
        digest, size = hashlib.blake2b(digest_size=16), 0
        with _Explained(f"{self.url}/{path}"):
            try:
                with self._files.open(place, "rb") as source, partial.open("wb") as out:
                    while chunk := source.read(_CHUNK):
                        digest.update(chunk)
                        out.write(chunk)
                        size += len(chunk)
                _check(path, digest.hexdigest(), expect_hash)
                partial.replace(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        return BlobInfo(path, size, digest.hexdigest())

    def list(self, prefix: str = "") -> Iterator[str]:
        """The paths of all blobs that start with a prefix, sorted."""
        with _Explained(self.url):
            found = self._files.find(self._root)
        paths = (str(PurePosixPath(place).relative_to(self._root)) for place in found)
        kept = (p for p in paths if p.startswith(prefix) and not PurePosixPath(p).name.startswith(_PARTIAL))
        return iter(sorted(kept))

    def delete(self, path: str) -> None:
        """Takes a blob away; nothing happens if there is none."""
        place = self._place(path)
        with _Explained(f"{self.url}/{path}"):
            if self._files.isfile(place):
                self._files.rm_file(place)

    def _place(self, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or parts[-1].startswith(_PARTIAL):
            raise StoreError("a blob has a relative path", found=repr(path), remedy="write folder/name", where=self.url)
        return f"{self._root}/{'/'.join(parts)}"

    def _existing(self, path: str) -> str:
        place = self._place(path)
        with _Explained(f"{self.url}/{path}"):
            if not self._files.isfile(place):
                raise StoreError(f"blob {path}", found="none", remedy=nearest(path, self.list()), where=self.url)
        return place


class _Explained:
    """Turns errors of the file system into ours."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            full = "No space left" in str(error) or "File too large" in str(error)
            raise StoreError(
                "use the artifact store",
                found=str(error),
                remedy="free space on the disk; the old blob stands" if full else "see the cause",
                where=self._place,
            ) from error


def _copy(data: bytes | Path, target: IO[bytes], path: str) -> BlobInfo:
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(data, bytes):
        target.write(data)
        digest.update(data)
        return BlobInfo(path, len(data), digest.hexdigest())
    with data.open("rb") as source:
        shutil.copyfileobj(source, target, _CHUNK)
        size = source.tell()
        source.seek(0)
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return BlobInfo(path, size, digest.hexdigest())


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _check(path: str, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise StoreError(
            f"blob {path} with hash {expected}", found=found, remedy="it was replaced or damaged: put it again"
        )


def _sync_directories(directory: Path, root: Path) -> None:
    """Brings a rename, and directories made for it, to the disk."""
    while True:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if directory in (root, directory.parent):
            return
        directory = directory.parent
