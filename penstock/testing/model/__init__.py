"""A plain model of the live rules, incremental as an engine must be, held to the oracle by Hypothesis."""

from __future__ import annotations

from penstock.testing.model.joins import JoinModel
from penstock.testing.model.labels import LabelModel
from penstock.testing.model.progress import Frontier, Watermark
from penstock.testing.model.state import GroupModel, Kept, TooLate

__all__ = ["Frontier", "GroupModel", "JoinModel", "Kept", "LabelModel", "TooLate", "Watermark"]
