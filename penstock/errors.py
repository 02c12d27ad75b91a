"""What Penstock raises: one root, numbered subclasses, each with a place and a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "DataError",
    "DefinitionError",
    "DoorError",
    "EngineError",
    "ExpressionError",
    "Location",
    "NotBuiltError",
    "PenstockError",
    "PlanError",
    "PlanErrors",
    "StoreError",
    "WorkflowError",
    "WorkflowErrors",
    "nearest",
]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a definition was written: a file and a line counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def nearest(name: str, valid: Iterable[str], n: int = 3) -> str:
    """Words for an error: the valid names closest to `name`, or all of them when few.

    >>> nearest("dep_dely", ["dep_delay", "carrier"])
    'did you mean dep_delay?'
    """
    valid = sorted(set(valid))
    close = difflib.get_close_matches(name, valid, n=n, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not valid:
        return "there are none"
    shown = ", ".join(valid[:12])
    return f"valid names: {shown}" + (f" and {len(valid) - 12} more" if len(valid) > 12 else "")


class PenstockError(Exception):
    """Root of every error that Penstock raises on purpose.

    Args:
        asked: what was asked for.
        found: what was found instead; a value is given as its `repr`.
        remedy: what the reader can do now.
        where: the definition or input at fault, if one is known.
    """

    code = "PS000"

    def __init__(self, asked: str, *, found: str = "", remedy: str = "", where: Location | str | None = None) -> None:
        self.asked, self.found, self.remedy, self.where = asked, found, remedy, where
        super().__init__(asked)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        found = f"; found {self.found}" if self.found else ""
        remedy = f"\n  -> {self.remedy}" if self.remedy else ""
        return f"{place}{self.code} {self.asked}{found}{remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.asked, self.found, self.remedy, self.where))


def _rebuild(
    kind: type[PenstockError], asked: str, found: str, remedy: str, where: Location | str | None
) -> PenstockError:
    return kind(asked, found=found, remedy=remedy, where=where)


class DefinitionError(PenstockError):
    """A definition is malformed by itself: a bad name, window, or argument."""

    code = "PS100"


class PlanError(PenstockError):
    """A definition does not fit the others: unknown column, wrong type, cycle."""

    code = "PS200"


class PlanErrors(PlanError):  # noqa: N818 it holds several
    """Several definitions do not fit; one error each, in the order of the definitions.

    Args:
        errors: two or more.
    """

    code = "PS201"

    def __init__(self, errors: tuple[PlanError, ...]) -> None:
        self.errors = errors
        super().__init__(f"{len(errors)} definitions do not fit", remedy="mend each of them")

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))

    def __reduce__(self) -> tuple[object, ...]:
        return (PlanErrors, (self.errors,))


class NotBuiltError(PlanError):
    """A definition is legal but names a part of Penstock that is not built yet."""

    code = "PS290"


class ExpressionError(PlanError):
    """A SQL expression does not parse, does not type, or names an unknown function."""

    code = "PS300"


class DataError(PenstockError):
    """Input data break a rule: a truncated file, an infinity, a key of another type."""

    code = "PS400"


class StoreError(PenstockError):
    """A store refuses or fails: a newer format version, a full disk, a stale epoch."""

    code = "PS500"


class EngineError(PenstockError):
    """An engine cannot go on or answer."""

    code = "PS600"


class DoorError(PenstockError):
    """A source, the HTTP door or the command line was given something it cannot take."""

    code = "PS700"


class WorkflowError(PenstockError):
    """A workflow, a run or a task cannot be what was asked: an unknown node, a wrong type, an illegal move."""

    code = "PS800"


class WorkflowErrors(WorkflowError):  # noqa: N818 it holds several
    """Several parts of a workflow do not fit; one error each, in the order of the specification.

    Args:
        errors: two or more.
    """

    code = "PS801"

    def __init__(self, errors: tuple[WorkflowError, ...]) -> None:
        self.errors = errors
        super().__init__(f"{len(errors)} parts of the workflow do not fit", remedy="mend each of them")

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))

    def __reduce__(self) -> tuple[object, ...]:
        return (WorkflowErrors, (self.errors,))
