"""A sample into a proposal: the statement to write, the schema to pin, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from penstock.define.source import Source
from penstock.define.values import format_duration
from penstock.doors.propose.keys import event_id, keys, table_key
from penstock.doors.propose.profile import ColumnProfile, profile
from penstock.doors.propose.times import Lateness, TimeColumn, event_time, known_time, lateness, time_columns
from penstock.errors import DataError
from penstock.plan.expr.types import Type

__all__ = ["Choice", "Proposal", "propose"]

_MONEY = {"price", "amount", "amt", "cost", "fee", "total", "revenue", "balance", "refund", "paid", "salary"}
_FUTURE = {"scheduled", "planned", "due", "expected", "departs", "starts", "begins"}


@dataclass(frozen=True)
class Choice:
    """One thing proposed: what, its value as written ("" for none), and why."""

    what: str
    value: str
    why: str


@dataclass(frozen=True)
class Proposal:
    """What `penstock add` would write for one source.

    Attributes:
        kind: stream or table. name: of the definition.
        arguments: of `ps.stream` or `ps.table` after the source, as Python.
        schema: column -> type text, for penstock.lock. left_out: columns that cannot be pinned, with the reason.
        entities: key columns worth an entity. notes: what the user must look at.
    """

    kind: str
    name: str
    source: Source
    arguments: tuple[tuple[str, str], ...]
    schema: dict[str, str]
    left_out: tuple[tuple[str, str], ...]
    entities: tuple[str, ...]
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]
    rows: int


def propose(name: str, source: Source, sample: pa.Table, zone: str | None = None, *, as_text: bool = False) -> Proposal:
    """Reads the roles of columns off a sample.

    Args:
        zone: of local times, when the user named it.
        as_text: the source holds numbers as text, so that amounts of money can be exact.

    Raises:
        DataError: the sample has no rows.
    """
    if not sample.num_rows:
        raise DataError("a sample has rows", found="none", remedy="add the source once it has some", where=name)
    profiles = profile(sample)
    found = _Found(
        name,
        source,
        [_as_money(c) if as_text else c for c in profiles if _left_out(c) is None],
        zone,
        tuple((c.name, why) for c in profiles if (why := _left_out(c)) is not None),
    )
    times = time_columns(found.columns, zone or "UTC")
    event = event_time(times)
    if event is None or _is_snapshot(found.columns, event):
        return _table(found, event)
    return _stream(found, times, event)


@dataclass(frozen=True)
class _Found:
    """What is known before roles are told apart."""

    name: str
    source: Source
    columns: list[ColumnProfile]
    zone: str | None
    left_out: tuple[tuple[str, str], ...]


def _stream(found: _Found, times: list[TimeColumn], event: TimeColumn) -> Proposal:
    columns = found.columns
    known, rows = known_time(times, event), event.column.rows
    late = lateness(event, known)
    id_column = event_id([c for c in columns if c.name != event.column.name])
    taken = {t.column.name for t in times} | ({id_column.name} if id_column else set())
    found_keys = keys(columns, taken)
    arguments = [("time", event.expression)]
    choices = [Choice("event time", event.expression, event.why)]
    notes: list[str] = []
    if known is not None:
        arguments.append(("known", known.expression))
        choices.append(Choice("known time", known.expression, "received after the event by name and values"))
    else:
        choices.append(Choice("known time", "", "no column says it; replayed rows count as known at their event time"))
    if _FUTURE & set(event.column.words):
        notes.append(f'{event.column.name} sounds planned: say since when it is known, as in known="... - 30d"')
    if id_column is not None:
        arguments.append(("id", id_column.name))
        choices.append(Choice("id", id_column.name, f"{rows:,} values, all different"))
    else:
        choices.append(Choice("id", "", "no column is unique and named like an id: repeats are not found"))
    arguments += _late(late, known, choices, notes)
    local = [t.column.name for t in times if t.local and (t.column.is_time or t is event)]
    arguments += _zone(local, event.local, found.zone, choices, notes)
    choices += [Choice("key", c.name, why) for c, why in found_keys]
    required = {event.column.name, *([id_column.name] if id_column else [])}
    return Proposal(
        "stream", found.name, found.source, tuple(arguments), _schema(columns, required), found.left_out,
        tuple(c.name for c, _ in found_keys), tuple(choices), tuple(notes), rows,
    )  # fmt: skip


def _late(late: Lateness, known: TimeColumn | None, choices: list[Choice], notes: list[str]) -> list[tuple[str, str]]:
    along = "known time" if known is not None else "the order of the file"
    if not late.ordered:
        choices.append(Choice("late", "", "the file is in no order of time: nothing to measure"))
        notes.append("rows are in no order of time: declare late= as their arrival will have it")
        return []
    if late.proposed is None:
        choices.append(Choice("late", "", f"rows come in order along {along}"))
        return []
    most = format_duration(-(-late.most_us // 1_000_000) * 1_000_000)
    why = f"{late.behind:.2%} of rows lie behind along {along}, by {most} at most"
    choices.append(Choice("late", late.proposed, why))
    return [("late", late.proposed)]


def _zone(
    local: list[str], event_is_local: bool, zone: str | None, choices: list[Choice], notes: list[str]
) -> list[tuple[str, str]]:
    """A zone is written where a column needs one, or where the user named one."""
    if not local and zone is None:
        return []
    if zone is None:
        check = "CHECK: " if event_is_local else ""
        choices.append(Choice("zone", "UTC", f"{check}{', '.join(local)} without a zone, and none was named"))
        notes.append(f"{', '.join(local)} without a zone were taken as UTC: name theirs with --zone Europe/London")
        return [("zone", "UTC")]
    choices.append(Choice("zone", zone, "named by you" + ("" if local else "; all times carry their own")))
    return [("zone", zone)]


def _is_snapshot(columns: Sequence[ColumnProfile], event: TimeColumn) -> bool:
    """Whether rows are states of things by day: one per thing and day, on one day or with things that come again."""
    if not event.column.is_date:
        return False
    key = _daily_key(columns, event)
    return key is not None and (event.column.distinct == 1 or key.distinct < key.rows)


def _daily_key(columns: Sequence[ColumnProfile], day: TimeColumn) -> ColumnProfile | None:
    """The column that, with the day, identifies a row of a daily snapshot."""
    for column in columns:
        if column.name == day.column.name or not column.can_be_key or column.nulls:
            continue
        pairs = pa.table({"day": day.column.values, "key": column.values})
        if column.distinct > 1 and pairs.group_by(["day", "key"]).aggregate([]).num_rows == column.rows:
            return column
    return None


def _table(found: _Found, day: TimeColumn | None) -> Proposal:
    columns = found.columns
    key = table_key(columns) if day is None else _daily_key(columns, day)
    rows = columns[0].rows if columns else 0
    if key is None:
        raise DataError(
            "a source has a time, or a column that identifies each row",
            found=f"columns {[c.name for c in columns][:12]}",
            remedy="add a column to it, or write its ps.stream or ps.table yourself",
            where=found.name,
        )
    arguments = [("key", key.name)]
    choices, notes = [Choice("key", key.name, f"{key.distinct:,} values")], []
    if day is None:
        arguments.append(("known", "instant_us(0)"))
        choices.append(Choice("known time", "instant_us(0)", "CHECK: no time in the data; taken as known all along"))
        notes.append("no column says since when a row is known; if rows change, give known= a column or an expression")
    else:
        known = f"{day.expression} + 24h"
        arguments.append(("known", known))
        choices.append(Choice("known time", known, "a daily snapshot, known when its day is over"))
    local = [c.name for c in columns if c.is_time and c.type.tz is None]
    arguments += _zone([day.column.name] if day is not None else local, False, found.zone, choices, notes)
    required = {key.name, *([day.column.name] if day is not None else [])}
    return Proposal(
        "table", found.name, found.source, tuple(arguments), _schema(columns, required), found.left_out,
        (key.name,), tuple(choices), tuple(notes), rows,
    )  # fmt: skip


def _left_out(column: ColumnProfile) -> str | None:
    """Why a column cannot be pinned, or None."""
    if column.name.startswith("_") or "." in column.name or not column.name:
        return "names with a dot or a leading _ are not allowed"
    if pa.types.is_time(column.type):
        return "a time of day has no type here; add it to its date where the data are made"
    if pa.types.is_null(column.type):
        return "it holds nothing"
    return None


def _as_money(column: ColumnProfile) -> ColumnProfile:
    """A column named like money, with four digits after the point at most, as a decimal."""
    if not pa.types.is_floating(column.type) or not _MONEY & set(column.words):
        return column
    exact = pc.all(pc.equal(pc.round(column.values, 4), column.values)).as_py()
    return replace(column, type=pa.decimal128(18, 4)) if exact else column


def _schema(columns: Sequence[ColumnProfile], required: set[str]) -> dict[str, str]:
    """Types to pin; a column may be null unless it is a time, id or key without a null in the sample."""
    schema = {}
    for column in columns:
        text = str(Type.from_arrow(column.type, "UTC"))
        schema[column.name] = text if column.name in required and not column.nulls else text + "?"
    return schema
