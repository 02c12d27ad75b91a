"""What every artifact store must do. Inherit from `BlobSuite` and give a fixture `blob`."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import StoreError
from penstock.store.blob.interface import Blob

__all__ = ["BlobSuite"]


class BlobSuite:
    """Tests of an artifact store."""

    def test_it_is_an_artifact_store(self, blob: Blob) -> None:
        """It has every method."""
        assert isinstance(blob, Blob)

    def test_what_is_put_is_got(self, blob: Blob, tmp_path: Path) -> None:
        """Bytes and files come back whole, with their hash."""
        info = blob.put("models/a", b"hello")
        assert info.size == 5 and blob.get("models/a", expect_hash=info.content_hash) == b"hello"
        (tmp_path / "big").write_bytes(bytes(3_000_000))
        big = blob.put("models/b", tmp_path / "big")
        assert blob.get_to("models/b", tmp_path / "copy", expect_hash=big.content_hash) == big
        assert (tmp_path / "copy").stat().st_size == 3_000_000
        assert list(blob.list("models/")) == ["models/a", "models/b"]

    def test_a_put_replaces_and_a_delete_takes_away(self, blob: Blob) -> None:
        """The newest content stands; a hash tells it from the former."""
        first = blob.put("a", b"1")
        blob.put("a", b"22")
        with pytest.raises(StoreError, match="replaced or damaged"):
            blob.get("a", expect_hash=first.content_hash)
        assert blob.get("a") == b"22"
        blob.delete("a")
        blob.delete("a")
        assert list(blob.list()) == []

    def test_a_missing_blob_or_a_bad_path_is_said(self, blob: Blob) -> None:
        """Errors name the nearest path; paths stay below the place."""
        blob.put("models/a", b"1")
        with pytest.raises(StoreError, match="did you mean models/a"):
            blob.get("models/b")
        for path in ("", "/etc/passwd", "../x", "a/../../x"):
            with pytest.raises(StoreError, match="relative path"):
                blob.put(path, b"")
