"""A user's own row functions, typed by their annotations; their source is their version."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from penstock.define.values import check_name, here
from penstock.errors import DefinitionError, Location

__all__ = ["Function", "function"]


@dataclass(frozen=True, eq=False)
class Function:
    """A row function usable in every expression.

    Attributes:
        arguments: (name, annotation) of each argument; an annotation `X | None` takes nulls, others skip the call.
        returns: the annotation of the result.
        source_hash: hash of its source text.
    """

    name: str
    call: Callable[..., Any] = field(repr=False)
    arguments: tuple[tuple[str, Any], ...]
    returns: Any
    source_hash: str
    at: Location | None = field(default=None, repr=False)

    def __call__(self, *args: Any) -> Any:
        """Calls the plain function."""
        return self.call(*args)


def function(call: Callable[..., Any]) -> Function:
    """Makes a typed Python function usable in expressions: `tier="tier(price)"`.

    Raises:
        DefinitionError: an argument or the result has no annotation, or the source cannot be read.
    """
    name = check_name(getattr(call, "__name__", None), "a function")
    where = here()
    signature = inspect.signature(call)
    hints = get_type_hints(call)
    missing = [p for p in signature.parameters if p not in hints] + ([] if "return" in hints else ["return"])
    if missing:
        raise DefinitionError(
            f"function {name} is typed by its annotations",
            found=f"none for {', '.join(missing)}",
            remedy="annotate each argument and the result",
            where=where,
        )
    try:
        source = textwrap.dedent(inspect.getsource(call))
    except OSError as error:
        raise DefinitionError(
            f"the source of function {name} is its version",
            found=str(error),
            remedy="define it in a file",
            where=where,
        ) from error
    digest = hashlib.blake2b(source.encode(), digest_size=16).hexdigest()
    arguments = tuple((p, hints[p]) for p in signature.parameters)
    return Function(name, call, arguments, hints["return"], digest, where)
