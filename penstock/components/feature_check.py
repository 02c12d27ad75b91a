"""Asks history what was read online, and compares: the promise, checked where it is used."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from penstock.components.contract import BatchComponent, BatchContext, Parameters

__all__ = ["FeatureCheck", "FeatureCheckParameters"]


class FeatureCheckParameters(Parameters):
    """Parameters of `feature_check`."""

    examples: int = Field(default=5, ge=0, le=20, description="Of the first differences, in words")


class FeatureCheck(BatchComponent):
    """Compares logged online reads with history, value by value, at the positions that each answer came from.

    Reads whose instant lies in the run's interval; all of them in a run without one. Floats within 1e-9 are equal,
    all else is compared exactly. Differences do not fail the node: `quality` says "pass" or "fail", and later nodes
    decide.
    """

    name = "feature_check"
    parameters = FeatureCheckParameters
    outputs: ClassVar[dict[str, str]] = {
        "reads": "integer",
        "values": "integer",
        "different": "integer",
        "other_version": "integer",
        "examples": "array",
    }
    facts = ("rows", "quality")
    preload = ("penstock.doors.deployment", "penstock.doors.replay_check", "penstock.engine.history")
    example: ClassVar[dict[str, Any]] = {}

    def run(self, context: BatchContext, parameters: FeatureCheckParameters) -> None:
        """Reads the logs of reads and asks history."""
        from penstock.doors.deployment import Deployment  # loaded once by the template of this component
        from penstock.doors.replay_check import check_reads
        from penstock.engine.online import Replayed

        with Deployment(context.project) as deployment:
            found = check_reads(deployment, since_us=context.interval_start_us, until_us=context.interval_end_us)
        found = found or Replayed()
        context.put("reads", found.reads)
        context.put("values", found.values)
        context.put("different", found.different)
        context.put("other_version", found.other_version)
        context.put("examples", found.examples[: parameters.examples])
        context.fact("rows", found.reads)
        context.fact("quality", "fail" if found.different else "pass")
        context.log(f"{found.reads:,} reads, {found.values:,} values, {found.different:,} different")
