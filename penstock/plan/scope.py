"""What the building of one plan shares: definitions, names, compiled expressions, entities, warnings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from penstock.define.project import Definitions
from penstock.define.relation import Relation
from penstock.define.values import format_duration
from penstock.errors import Location, PlanError, nearest
from penstock.names import Fingerprint, Name, fingerprint
from penstock.plan.expr import Expression, UserFunction, compile
from penstock.plan.expr.types import BOOL, Column, Schema, Type
from penstock.plan.ir import Lineage, RelationPlan, ViewPlan

__all__ = ["Scope", "behind", "column_of", "key_column", "not_negative", "sealed", "shown_type"]

KEY_TYPES = ("int", "text", "bool", "date")


@dataclass
class Scope:
    """State of one planning.

    Attributes:
        planned, viewed: relations and views made so far, by the identity of their definition.
        entities: the key types under which each entity has been used first, and where.
    """

    definitions: Definitions
    functions: Mapping[str, UserFunction]
    default: Name
    planned: dict[int, RelationPlan] = field(default_factory=dict)
    viewed: dict[int, ViewPlan] = field(default_factory=dict)
    entities: dict[str, tuple[tuple[Type, ...], str]] = field(default_factory=dict)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    _open: set[int] = field(default_factory=set)
    _calls: dict[str, re.Pattern[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._calls = {name: re.compile(rf"\b{name}\(") for name in self.functions}

    @contextmanager
    def building(self, definition: Relation) -> Iterator[None]:
        """Marks a definition as being planned.

        Raises:
            PlanError: it is being planned already, so it rests on itself.
        """
        if id(definition) in self._open:
            raise PlanError(
                f"{definition.name} rests on itself", found="a cycle", remedy="break it", where=definition.at
            )
        self._open.add(id(definition))
        try:
            yield
        finally:
            self._open.discard(id(definition))

    def name(self, name: str, version: int = 1) -> Name:
        """The full name of a definition of this project."""
        default = self.default
        return Name(default.environment, default.project, default.fork, name, version)

    def expression(self, text: str, schema: Schema, what: str, where: Location | None, zone: str = "UTC") -> Expression:
        """A compiled expression.

        Args:
            what: what it is for, in the words of an error: "by_tail.mean".

        Raises:
            ExpressionError: it does not parse, type, or find its columns and functions.
        """
        try:
            return compile(text, schema, self.functions, where=where, zone=zone)
        except PlanError as error:
            raise type(error)(
                f"{what}: {error.asked}", found=error.found, remedy=error.remedy, where=error.where or where
            ) from None

    def condition(self, text: str, schema: Schema, what: str, where: Location | None) -> Expression:
        """A compiled expression that is true or false.

        Raises:
            PlanError: it is of another type.
        """
        found = self.expression(text, schema, what, where)
        if found.type != BOOL:
            raise PlanError(
                f"{what}: a condition is true or false",
                found=f"{text} is {found.type}",
                remedy='compare it: "dep_delay >= 15"',
                where=where,
            )
        return found

    def code(self, expression: Expression | None) -> Any:
        """What stands for an expression in a fingerprint: its canonical text and the source of the functions in it."""
        if expression is None:
            return None
        text = expression.text
        used = {name: self.functions[name].source for name, call in self._calls.items() if call.search(text)}
        return {"text": text, "functions": used} if used else text

    def use_entity(self, name: str, types: tuple[Type, ...], user: str, where: Location | None) -> None:
        """Notes the types of an entity's keys.

        Raises:
            PlanError: another definition uses the entity with other types.
        """
        former, first_user = self.entities.setdefault(name, (types, user))
        if former != types:
            raise PlanError(
                f"{user}: the keys of entity {name} have one type everywhere",
                found=f"{_list(types)} here, {_list(former)} in {first_user}",
                remedy="cast the key where it enters, or name another entity",
                where=where,
            )


def _list(types: Iterable[Type]) -> str:
    return ", ".join(map(str, types))


def sealed(kind: str, parts: Mapping[str, Any], *inputs: Fingerprint) -> Fingerprint:
    """The fingerprint of a node: its kind, its own parts and its inputs' fingerprints."""
    return fingerprint({"kind": kind, "parts": parts, "inputs": list(inputs)})


def behind(lineage: Lineage, columns: Iterable[str]) -> tuple[str, ...]:
    """The source columns behind some columns, sorted."""
    return tuple(sorted({source for column in columns for source in lineage[column]}))


def not_negative(durations_us: Mapping[str, int | None], what: str, where: Location | None) -> None:
    """Refuses durations below nothing.

    Raises:
        PlanError: one is negative.
    """
    for name, us in durations_us.items():
        if us is not None and us < 0:
            raise PlanError(
                f"{what}: {name} is nothing or more",
                found=format_duration(us),
                remedy=f'write {name}="1h"',
                where=where,
            )


def column_of(schema: Schema, name: str, what: str, where: Location | None, remedy: str = "") -> Column:
    """A column by its name.

    Raises:
        PlanError: there is none; the error names the nearest.
    """
    found: Column | None = schema.get(name)
    if found is None:
        raise PlanError(
            f"{what}: there is no such column",
            found=repr(name),
            remedy=f"{nearest(name, schema)}{remedy and '; ' + remedy}",
            where=where,
        )
    return found


def shown_type(column: Column) -> str:
    """A column's type as definitions write it: with a `?` when null may occur."""
    return f"{column.type}{'?' if column.nullable else ''}"


def key_column(schema: Schema, name: str, what: str, where: Location | None, remedy: str = "") -> Column:
    """A column that may be (part of) a key.

    Raises:
        PlanError: there is none, or it is of a type that no key has.
    """
    column = column_of(schema, name, what, where, remedy)
    if column.type.name not in KEY_TYPES:
        hint = (
            "cast it to int or text where it enters"
            if column.type.numeric
            else "use a column of int, text, bool or date"
        )
        raise PlanError(
            f"{what}: a key is int, text, bool or date", found=f"{name} is {column.type}", remedy=hint, where=where
        )
    return column
