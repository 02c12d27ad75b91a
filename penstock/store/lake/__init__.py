"""Lakes: tables in versions that keep what the log lets go. `Lake.open` opens one of Delta tables."""

from __future__ import annotations

from penstock.store.lake.delta import DeltaLake as Lake
from penstock.store.lake.interface import LakeCommit, TableVersion
from penstock.store.lake.sink import LakeSink, SinkStep

__all__ = ["Lake", "LakeCommit", "LakeSink", "SinkStep", "TableVersion"]
