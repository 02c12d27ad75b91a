from __future__ import annotations

import resource
from pathlib import Path

import pytest

from penstock.errors import StoreError
from penstock.store.blob import Blob
from penstock.testing.stores import BlobSuite


@pytest.fixture(params=["local", "memory"])
def blob(request: pytest.FixtureRequest, tmp_path: Path) -> Blob:
    return Blob.open(tmp_path / "blobs" if request.param == "local" else f"memory://{tmp_path.name}")


class TestFileBlob(BlobSuite):
    """The suite that every artifact store passes."""


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
