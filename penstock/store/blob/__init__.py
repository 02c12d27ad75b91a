"""Artifacts: whole blobs, put atomically. `Blob.open` opens a place on any file system that fsspec knows."""

from __future__ import annotations

from penstock.store.blob.files import FileBlob as Blob
from penstock.store.blob.interface import BlobInfo

__all__ = ["Blob", "BlobInfo"]
