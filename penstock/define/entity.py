"""Entities: what a feature is about. A key is a tuple of one or several columns."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.define.values import check_name, here
from penstock.errors import DefinitionError, Location

__all__ = ["Entity", "entities", "entity"]


@dataclass(frozen=True, eq=False)
class Entity:
    """A thing that features are about.

    Attributes:
        name: its stored name.
        keys: the columns that identify it, in order.
        columns: the columns of the input that hold the keys, when they are called otherwise (`on`).
    """

    name: str
    keys: tuple[str, ...]
    columns: tuple[str, ...] = ()
    at: Location | None = field(default=None, repr=False)

    def on(self, *columns: str) -> Entity:
        """The same entity where the input calls its keys otherwise: `user.on("buyer_id")`."""
        if len(columns) != len(self.keys):
            raise DefinitionError(
                f"entity {self.name} has {len(self.keys)} key column(s)",
                found=repr(columns),
                remedy=f"name one column for each of {', '.join(self.keys)}",
                where=here(),
            )
        return Entity(self.name, self.keys, columns, here())

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The input's columns that hold the keys."""
        return self.columns or self.keys


def entity(name: str, keys: str | tuple[str, ...] | list[str] = ()) -> Entity:
    """An entity with one or several key columns; without `keys` its name is its key column."""
    where = here()
    check_name(name, "an entity", where)
    keys = (keys,) if isinstance(keys, str) else tuple(keys) or (name,)
    if len(set(keys)) != len(keys):
        raise DefinitionError(
            f"entity {name} names a key twice", found=repr(keys), remedy="name each once", where=where
        )
    for key in keys:  # columns are called as their source calls them
        if not isinstance(key, str) or not key or key.startswith("_"):
            raise DefinitionError(
                f"a key of entity {name} is the name of a column", found=repr(key), remedy="name one", where=where
            )
    return Entity(name, keys, at=where)


def entities(*names: str) -> tuple[Entity, ...]:
    """Several entities, each identified by the column of its own name."""
    return tuple(entity(name) for name in names)
