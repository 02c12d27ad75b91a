"""Reads a sample of a source and proposes its definition."""

from __future__ import annotations

from penstock.doors.propose.proposal import Choice, Proposal, propose
from penstock.doors.propose.targets import find_targets
from penstock.doors.propose.write import Written, write

__all__ = ["Choice", "Proposal", "Written", "find_targets", "propose", "write"]
