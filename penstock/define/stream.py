"""Streams and tables: where time is said, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from penstock.define.entity import Entity
from penstock.define.relation import AsOf, Lookup, Relation, Selectable
from penstock.define.source import Source, http
from penstock.define.values import check_name, duration_us, here
from penstock.errors import DefinitionError, Location

__all__ = ["Stream", "Table", "stream", "table"]

Schema = tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Stream(Selectable):
    """Events in time.

    Attributes:
        time: expression of the event time.
        known: expression of the known time; None: the log's clock at append (a replayed file: its event time).
        id: column of the event id; rows are insert, upsert or delete as the column `op` says (default insert).
        late_us: declared out-of-orderness, for the watermark.
        dedup_us: D, how far back a repeated id is a duplicate.
        corrected_us: the horizon of corrections; None: rows may be corrected for ever if there is an `op`.
        max_ahead_us: a row whose event time lies further ahead of its known time goes to dead letters; None where a
            declared `known` says that the future is known.
        clock: "live" or "source".
        schema: (column, type) pairs; None: pinned in penstock.lock.
    """

    name: str
    source: Source
    time: str
    known: str | None = None
    id: str | None = None
    op: str | None = None
    late_us: int = 0
    dedup_us: int = 86_400_000_000
    corrected_us: int | None = None
    max_ahead_us: int | None = 300_000_000
    zone: str | None = None
    clock: str = "live"
    schema: Schema | None = None
    at: Location | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Table(Relation):
    """Versioned rows by key, read as of an instant.

    Attributes:
        key: its key columns.
        time: expression of the event time; None: the known time.
        known: expression of the known time (`dt + 30h`); None: a lake table's commit time.
        max_age_us: older rows are stale: null, with status.
    """

    name: str
    source: Source
    key: Entity
    time: str | None = None
    known: str | None = None
    op: str | None = None
    zone: str | None = None
    max_age_us: int | None = None
    closed: Literal["left", "right"] = "left"
    schema: Schema | None = None
    at: Location | None = field(default=None, repr=False)

    def __getitem__(self, columns: str | tuple[str, ...]) -> Lookup:
        return self._asof()[columns]

    def lookup(self) -> Lookup:
        """All of its columns but the key."""
        return self._asof().lookup()

    def _asof(self) -> AsOf:
        return AsOf(self, self.key, self.max_age_us, self.closed, at=here())


def stream(
    name: str,
    source: Source | None = None,
    *,
    time: str | None = None,
    known: str | None = None,
    id: str | None = None,
    op: str | None = None,
    late: str = "0s",
    dedup: str = "1d",
    corrected: str | None = None,
    max_ahead: str | None = None,
    zone: str | None = None,
    clock: Literal["live", "source"] = "live",
    schema: Mapping[str, str] | None = None,
) -> Stream:
    """Events in time, from a source or, without one, by HTTP.

    Args:
        time: column or expression of the event time; must be said.
        known: column or expression of the known time, as in "scheduled_at - 30d".
        id: column that identifies an event; repeats are dropped, corrections find their row by it.
        op: column that says insert, upsert or delete.
        late: how far out of order rows come; moves the watermark, never an answer.
        max_ahead: rows further ahead of their known time go to dead letters; 5 min where `known` is not declared.
        dedup: how far back a repeated id counts as a duplicate.
        corrected: how far back rows are corrected; state may fold what lies before.
        zone: of local times without one.
        clock: "source" takes the known time from the row and refuses one that goes back.
        schema: column types where penstock.lock does not pin them: {"amount": "decimal(12,2)", "note": "text?"}.

    Raises:
        DefinitionError: no event time, or a name or a duration is malformed.
    """
    where = here()
    check_name(name, "a stream", where)
    if not isinstance(time, str) or not time.strip():
        raise DefinitionError(
            f"stream {name} needs its event time", found=repr(time), remedy='write time="happened_at"', where=where
        )
    return Stream(
        name,
        source or http(),
        time,
        known,
        id,
        op,
        duration_us(late, "late"),
        duration_us(dedup, "dedup"),
        None if corrected is None else duration_us(corrected, "corrected"),
        _max_ahead_us(max_ahead, known),
        zone,
        clock,
        None if schema is None else tuple(schema.items()),
        at=where,
    )


def _max_ahead_us(max_ahead: str | None, known: str | None) -> int | None:
    if max_ahead is None:
        return 300_000_000 if known is None else None
    return duration_us(max_ahead, "max_ahead")


def table(
    name: str,
    source: Source | None = None,
    *,
    key: Entity | str | tuple[str, ...] | None = None,
    time: str | None = None,
    known: str | None = None,
    op: str | None = None,
    zone: str | None = None,
    max_age: str | None = None,
    closed: Literal["left", "right"] = "left",
    schema: Mapping[str, str] | None = None,
) -> Table:
    """Versioned rows by key: a profile, a price list, a daily snapshot. Arguments as in `stream`; the key must be said.

    Raises:
        DefinitionError: no key, or a name or a duration is malformed.
    """
    where = here()
    check_name(name, "a table", where)
    if not key or not isinstance(key, Entity | str | tuple):
        raise DefinitionError(
            f"table {name} needs its key", found=repr(key), remedy='write key="item_id", or an entity', where=where
        )
    if isinstance(key, str | tuple):
        columns = (key,) if isinstance(key, str) else key
        key = Entity(columns[0], columns, at=where)
    return Table(
        name,
        source or http(),
        key,
        time,
        known,
        op,
        zone,
        None if max_age is None else duration_us(max_age, "max_age"),
        closed,
        None if schema is None else tuple(schema.items()),
        at=where,
    )
