"""Feature views: what a request gives and gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.define.relation import AsOf, Group, Lookup, Pairs, Selection, TwoHop, _pairs
from penstock.define.stream import Table
from penstock.define.values import check_name, here
from penstock.errors import DefinitionError, Location

__all__ = ["Inputs", "View", "inputs", "view"]

Part = Lookup | TwoHop


@dataclass(frozen=True, eq=False)
class Inputs:
    """Columns that a request brings, with their types."""

    columns: tuple[tuple[str, str], ...]
    at: Location | None = field(default=None, repr=False)


def inputs(schema: Mapping[str, str] | None = None, **columns: str) -> Inputs:
    """Request inputs and their types: `inputs(card_id="text", amount="decimal(12,2)")`."""
    return Inputs(tuple({**(schema or {}), **columns}.items()), here())


@dataclass(frozen=True, eq=False)
class View:
    """A feature view: request columns, reads by key, and expressions over all of them.

    Columns of groups stand in it as `group.column`, all others by their own names.

    Attributes:
        parts: (name or None, lookup or two-hop read), in order.
        expressions: (name, SQL text), in order; one may use those before it.
    """

    name: str
    base: Selection | Inputs
    parts: tuple[tuple[str | None, Part], ...]
    expressions: Pairs
    version: int = 1
    at: Location | None = field(default=None, repr=False)

    def plus(
        self, name: str, *parts: Group | Lookup | Table | AsOf, version: int = 1, **named: str | TwoHop | Lookup
    ) -> View:
        """A wider view: this one and further parts and expressions."""
        more = _view(name, self.base, parts, named, version)
        return View(name, self.base, self.parts + more.parts, self.expressions + more.expressions, version, more.at)


def view(
    name: str,
    base: Selection | Inputs,
    *parts: Group | Lookup | Table | AsOf,
    version: int = 1,
    **named: str | TwoHop | Lookup,
) -> View:
    """A feature view.

    Args:
        base: columns of an observation stream, or request inputs.
        parts: groups and as-of reads, by key columns of the base or of the reads before: the group of a seller by the
            seller that `items["seller_id"]` found.
        named: an SQL expression each, or a two-hop read.
    """
    return _view(name, base, parts, named, version)


def _view(
    name: str,
    base: Selection | Inputs,
    parts: tuple[Group | Lookup | Table | AsOf, ...],
    named: Mapping[str, str | TwoHop | Lookup],
    version: int,
) -> View:
    where = here()
    check_name(name, "a view", where)
    if not isinstance(base, Selection | Inputs):
        raise DefinitionError(
            f"view {name} starts from columns of a stream or from inputs",
            found=type(base).__name__,
            remedy='write view("v", show["user_id"], ...) or view("v", ps.inputs(user_id="text"), ...)',
            where=where,
        )
    found: list[tuple[str | None, Part]] = []
    for part in parts:
        if isinstance(part, Lookup | TwoHop):
            found.append((None, part))
        elif isinstance(part, Group | Table | AsOf):
            found.append((None, part.lookup()))
        else:
            raise DefinitionError(
                f"a part of view {name} is a group, a table or an as-of read",
                found=repr(part),
                remedy="pass a group, or columns of one",
                where=where,
            )
    texts = {k: v for k, v in named.items() if isinstance(v, str)}
    found += [(check_name(k, "a column", where), v) for k, v in named.items() if not isinstance(v, str)]
    return View(name, base, tuple(found), _pairs(texts, "a column"), version, where)
