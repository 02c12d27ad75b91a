"""Artifacts: fsspec."""
