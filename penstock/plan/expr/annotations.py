"""Python annotations of a user's code as value types."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from penstock.errors import Location, PlanError
from penstock.plan.expr.types import (
    BOOL,
    BYTES,
    DATE,
    DURATION,
    FLOAT,
    INSTANT,
    INT,
    TEXT,
    Type,
    list_of,
    map_of,
)

__all__ = ["annotated_type"]

_PLAIN: Mapping[Any, Type] = {
    bool: BOOL,
    int: INT,
    float: FLOAT,
    str: TEXT,
    bytes: BYTES,
    date: DATE,
    datetime: INSTANT,
    timedelta: DURATION,
}


def annotated_type(annotation: Any, what: str, where: Location | None) -> tuple[Type, bool]:
    """The value type of an annotation, and whether it takes None.

    Decimals and other types with arguments are said by `Annotated[Decimal, "decimal(12,2)"]`.

    Raises:
        PlanError: no value type stands for it.
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union) and type(None) in args and len(args) == 2:
        kind, _ = annotated_type(next(a for a in args if a is not type(None)), what, where)
        return kind, True
    if origin is typing.Annotated and isinstance(args[1], str):
        return Type.parse(args[1]), False
    if origin is list and len(args) == 1:
        return list_of(annotated_type(args[0], what, where)[0]), False
    if origin is dict and len(args) == 2:
        return map_of(annotated_type(args[0], what, where)[0], annotated_type(args[1], what, where)[0]), False
    try:
        return _PLAIN[annotation], False
    except (KeyError, TypeError):
        pass
    remedy = (
        "annotate it with bool, int, float, str, bytes, date, datetime, timedelta, list[...], dict[...] or these | None"
    )
    if annotation is Decimal:
        remedy = 'say its digits: Annotated[Decimal, "decimal(12,2)"]'
    raise PlanError(f"{what}: the annotation is no value type", found=repr(annotation), remedy=remedy, where=where)
