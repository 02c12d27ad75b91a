"""A bound expression: a tree node with its type, nullability, lineage and a closure that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from penstock.plan.expr.syntax import Const, Node
from penstock.plan.expr.types import Type

__all__ = ["Bound", "Frame", "Run", "apply", "constant"]

# A frame is the number of rows, then one array per input column of the expression.
Frame: TypeAlias = list[Any]
Run: TypeAlias = Callable[[Frame], Any]
Template: TypeAlias = "str | Callable[[list[str]], str | None] | None"

NO_COLUMNS: frozenset[str] = frozenset()


@dataclass(slots=True)
class Bound:
    """One node, typed.

    Attributes:
        node: the tree it was bound from.
        type: the type of its values.
        nullable: False only where null cannot occur, given non-nullable inputs.
        columns: the input columns it reads.
        run: from a frame to an array of the frame's rows, or to a scalar for a constant.
        args: what its DuckDB text is made of.
        template: DuckDB text with {0}, {1}... for the arguments, a function of their texts, or None if there is none.
        scalar: the value of a constant.
        literal: the literal itself, when the node is one; it adapts to the type beside it.
        calls: True if it calls a user's function, the one thing that can fail.
    """

    node: Node
    type: Type
    nullable: bool
    columns: frozenset[str]
    run: Run
    args: tuple[Bound, ...] = ()
    template: Template = None
    scalar: pa.Scalar | None = None
    literal: Const | None = None
    calls: bool = False

    @property
    def value(self) -> Any:
        """The Python value of a constant; None for NULL and for what is no constant."""
        return None if self.scalar is None else self.scalar.as_py()


def constant(node: Node, kind: Type, scalar: pa.Scalar, template: Template, literal: Const | None = None) -> Bound:
    """A bound constant."""

    def run(_frame: Frame) -> Any:
        return scalar

    return Bound(node, kind, not scalar.is_valid, NO_COLUMNS, run, (), template, scalar, literal)


def apply(  # noqa: PLR0917 a bound node has six parts
    node: Node, kernel: Callable[..., Any], args: Sequence[Bound], kind: Type, nullable: bool, template: Template
) -> Bound:
    """A kernel over bound arguments; with constants only it runs at once and is a constant itself."""
    if all(arg.scalar is not None for arg in args):
        found = kernel(*[pa.repeat(arg.scalar, 1) for arg in args])
        folded = constant(node, kind, found[0], template)
        folded.args = tuple(args)
        return folded
    runs = [arg.run for arg in args]
    match runs:
        case [one]:

            def run(frame: Frame) -> Any:
                return kernel(one(frame))

        case [left, right]:

            def run(frame: Frame) -> Any:
                return kernel(left(frame), right(frame))

        case _:

            def run(frame: Frame) -> Any:
                return kernel(*[each(frame) for each in runs])

    columns = frozenset().union(*[arg.columns for arg in args]) if args else NO_COLUMNS
    calls = any(arg.calls for arg in args)
    return Bound(node, kind, nullable, columns, run, tuple(args), template, calls=calls)


def to_duckdb(bound: Bound) -> str | None:
    """DuckDB text with the same values, or None where DuckDB has no equivalent."""
    if bound.template is None:
        return None
    texts = []
    for arg in bound.args:
        text = to_duckdb(arg)
        if text is None:
            return None
        texts.append(text)
    if callable(bound.template):
        return bound.template(texts)
    return bound.template.format(*texts) if texts else bound.template
