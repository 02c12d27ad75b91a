"""Waits for somebody or something outside."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from penstock.components.contract import BatchComponent, BatchContext, Parameters

__all__ = ["Wait", "WaitParameters"]


class WaitParameters(Parameters):
    """Parameters of `wait`."""

    note: str = Field(default="", description="Shown to who is waited for: what to look at, and what follows")


class Wait(BatchComponent):
    """A node that does nothing. It waits, as any node does, by the predicates on it, and so takes no slot meanwhile.

    `when="approved(publish)"` waits for an approval, `when="signal(delivered)"` for a signal from outside, and any
    other predicate for what it says; what comes after it comes after that.
    """

    name = "wait"
    parameters = WaitParameters
    example: ClassVar[dict[str, str]] = {"note": "look at the report"}

    def run(self, context: BatchContext, parameters: WaitParameters) -> None:
        """The wait is over."""
        if parameters.note:
            context.log(parameters.note)
