from __future__ import annotations

import resource
from pathlib import Path

import pytest

from penstock.errors import StoreError
from penstock.store.blob import Blob


@pytest.fixture(params=["local", "memory"])
def blob(request: pytest.FixtureRequest, tmp_path: Path) -> Blob:
    return Blob.open(tmp_path / "blobs" if request.param == "local" else f"memory://{tmp_path.name}")


def test_what_is_put_is_got(blob: Blob, tmp_path: Path) -> None:
    info = blob.put("models/a.txt", b"hello")
    assert info.size == 5 and blob.get("models/a.txt", expect_hash=info.content_hash) == b"hello"
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    big = blob.put("models/b.bin", tmp_path / "big")
    assert blob.get_to("models/b.bin", tmp_path / "copy", expect_hash=big.content_hash) == big
    assert (tmp_path / "copy").stat().st_size == 3_000_000
    assert list(blob.list("models/")) == ["models/a.txt", "models/b.bin"]


def test_a_put_replaces_and_a_delete_takes_away(blob: Blob) -> None:
    first = blob.put("a", b"1")
    blob.put("a", b"22")
    with pytest.raises(StoreError, match="replaced or damaged"):
        blob.get("a", expect_hash=first.content_hash)
    assert blob.get("a") == b"22"
    blob.delete("a")
    blob.delete("a")
    assert list(blob.list()) == []


def test_a_missing_blob_or_a_bad_path_is_said(blob: Blob) -> None:
    blob.put("models/a.txt", b"1")
    with pytest.raises(StoreError, match="did you mean models/a"):
        blob.get("models/b.txt")
    for path in ("", "/etc/passwd", "../x", "a/../../x"):
        with pytest.raises(StoreError, match="relative path"):
            blob.put(path, b"")


def test_on_a_full_disk_the_old_blob_stands(tmp_path: Path) -> None:
    blob = Blob.open(tmp_path / "blobs")
    blob.put("a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(StoreError, match="the old blob stands"):
            blob.put("a", bytes(2_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert blob.get("a") == b"old"
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == ["a"]
