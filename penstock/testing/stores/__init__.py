"""Conformance of stores: what every log, lake, metadata store and artifact store must do, whatever it rests on."""

from __future__ import annotations

from penstock.testing.stores.blob import BlobSuite
from penstock.testing.stores.lake import LakeSuite
from penstock.testing.stores.log_machine import log_machine
from penstock.testing.stores.log_model import LogModel, ModelRow

__all__ = ["BlobSuite", "LakeSuite", "LogModel", "ModelRow", "log_machine"]
