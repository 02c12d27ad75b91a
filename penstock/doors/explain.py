"""Why a feature has its value: the rows that count, and those that do not, each with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penstock.algebra.layout import Measure, Output, Window, WindowKind
from penstock.doors.deployment import Deployment
from penstock.doors.frames import html_table
from penstock.doors.rows import raw_batches
from penstock.doors.shown import instant_text, shown_rows
from penstock.engine.history import History
from penstock.errors import EngineError, nearest
from penstock.plan.ir import GroupPlan, SourcePlan
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, KNOWN_UNTIL, NEVER_US, OFFSET, OP, is_system_column
from penstock.semantics.versions import DUPLICATE, NO_ID, accept
from penstock.semantics.windows import edges_us

__all__ = ["Explanation", "explain"]

_ALL_US: Final = 2**62


@dataclass(frozen=True)
class Explanation:
    """The rows behind one value.

    Attributes:
        value: the feature, as history computes it. status: why it is null, if it is.
        rows: the key's rows with their times, `counted`, `reason`, and the columns that the feature reads; counted
            rows first, newest first, then the others, those near the window first. Reasons are duplicate; edge (at
            the open end), after, expired (before the window); known later, corrected; where; null.
        span_us: [from, to) of the window in event time; None for no left edge.
    """

    column: str
    key: tuple[tuple[str, Any], ...]
    q_us: int
    a_us: int
    value: Any
    status: str
    rows: pa.Table
    span_us: tuple[int | None, int]

    @cached_property
    def reasons(self) -> dict[str, int]:
        """How many rows there are of each reason; counted rows under "counted"."""
        return dict(Counter(self.rows.column("reason").to_pylist()).most_common())

    def _heading(self) -> str:
        key = ", ".join(f"{name}={value!r}" for name, value in self.key)
        known = "" if self.a_us == self.q_us else f", knowing what was known at {instant_text(self.a_us)}"
        return f"{self.column} of {key} at {instant_text(self.q_us)}{known}"

    def _sum(self) -> str:
        left, right = self.span_us
        since = "the beginning" if left is None else instant_text(left)
        counts = ", ".join(f"{n:,} {reason}" for reason, n in self.reasons.items())
        status = f" ({self.status})" if self.status not in ("", "ok") else ""
        return f"value {self.value!r}{status}; window from {since} to {instant_text(right)}; rows: {counts or 'none'}"

    def __repr__(self) -> str:
        lines = [self._heading(), f"  {self._sum()}"]
        shown = list(shown_rows(self.rows.slice(0, 40), as_json=True))
        for row in shown:
            mark = "+" if row.pop("counted") else "-"
            reason, t, known = row.pop("reason"), row.pop("t"), row.pop("known")
            values = "  ".join(f"{k}={v}" for k, v in row.items() if v is not None)
            lines.append(f"  {mark} {t}  {values}" + ("" if mark == "+" else f"   {reason}, known {known}"))
        if self.rows.num_rows > len(shown):
            lines.append(f"  ... and {self.rows.num_rows - len(shown):,} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        names = [n for n in self.rows.column_names if n != "counted"]
        rows = list(shown_rows(self.rows.slice(0, 60), as_json=True))
        head = [f"<th style='text-align:left;padding-right:10px'>{escape(n)}</th>" for n in names]
        body = html_table(head, [[r[n] for n in names] for r in rows], [r["counted"] for r in rows])
        more = self.rows.num_rows - len(rows)
        below = f"<div>and {more:,} more rows</div>" if more > 0 else ""
        return f"<div><b>{escape(self._heading())}</b><br>{escape(self._sum())}</div>{body}{below}"


def explain(
    deployment: Deployment,
    history: History,
    name: str,
    column: str,
    key: Mapping[str, Any],
    *,
    q_us: int,
    a_us: int | None = None,
) -> Explanation:
    """Explains one column of one group for one key at one instant.

    Args:
        key: by the names of the group's keys.
        a_us: cuts knowledge; `q_us` by default.

    Raises:
        EngineError: there is no such group or column, or the key is incomplete.
    """
    group = _group(deployment, name)
    index = next((i for i, o in enumerate(group.layout.outputs) if o.name == column), None)
    if index is None:
        raise EngineError(
            f"the group {name} has the column {column!r}", found="none", remedy=nearest(column, group.outputs.names)
        )
    output = group.layout.outputs[index]
    measure, window = group.layout.measures[output.measure], group.layout.windows[output.window]
    known_us = q_us if a_us is None else a_us
    values = _key_values(group, key)
    rows = history.relation(group.input)
    rows = rows.filter(_is_key(rows, group, values))
    rows = _plus_duplicates(deployment, group, rows, values)
    left, right = _edges(window, q_us)
    reasons = _reasons(rows, group, output, (left, right), known_us)
    answer = history.group(group, _query(group, values, q_us, known_us), a="a").table(statuses=True)
    return Explanation(
        f"{name}.{column}",
        tuple(zip(group.key_names, values, strict=True)),
        q_us,
        known_us,
        answer.column(column)[0].as_py(),
        str(answer.column(f"{column}:status")[0].as_py()) if f"{column}:status" in answer.column_names else "",
        _shown(rows, reasons, group, measure, (left, right)),
        (None if left <= -_ALL_US else left, right),
    )


def _group(deployment: Deployment, name: str) -> GroupPlan:
    found = deployment.plan.groups.get(name)
    if found is None:
        raise EngineError(
            f"{name!r} is a group of features", found="none", remedy=nearest(name, deployment.plan.groups)
        )
    return found


def _key_values(group: GroupPlan, key: Mapping[str, Any]) -> list[Any]:
    known = {*group.key_names, *group.keys}
    for name in key:
        if name not in known:
            raise EngineError(
                f"{name!r} is a key of {group.name.name}", found="none", remedy=nearest(name, group.key_names)
            )
    values = []
    for name, column in zip(group.key_names, group.keys, strict=True):
        if name not in key and column not in key:
            raise EngineError(
                f"the whole key of {group.name.name}: {', '.join(group.key_names)}",
                found=repr(sorted(key)),
                remedy=f"say {name}=...",
            )
        values.append(key.get(name, key.get(column)))
    return values


def _is_key(rows: pa.Table, group: GroupPlan, values: Sequence[Any]) -> Any:
    mask = pa.repeat(pa.scalar(True), rows.num_rows)
    for column, kind, value in zip(group.keys, group.key_types, values, strict=True):
        try:
            scalar = pa.scalar(value, kind.arrow)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise EngineError(
                f"the key {column} is {kind}", found=repr(value), remedy="give a value of that type"
            ) from error
        mask = pc.and_(mask, pc.fill_null(pc.equal(rows.column(column), scalar), False))
    return mask


def _query(group: GroupPlan, values: Sequence[Any], q_us: int, a_us: int) -> pa.Table:
    columns = {
        name: pa.array([value], kind.arrow)
        for name, kind, value in zip(group.key_names, group.key_types, values, strict=True)
    }
    instant = pa.timestamp("us", "UTC")
    return pa.table(columns | {"q": pa.array([q_us], instant), "a": pa.array([a_us], instant)})


def _edges(window: Window, q_us: int) -> tuple[int, int]:
    """[left, right) in event time."""
    kind = "lifetime" if window.kind is WindowKind.ROWS else str(window.kind)
    left, right = edges_us(
        np.array([q_us], np.int64),
        kind=kind,
        width_us=window.width_us,
        hop_us=window.hop_us,
        offset_us=window.offset_us,
        closed=window.closed,
        unit=window.unit,
        zone=window.zone,
    )
    return max(int(left[0]), -_ALL_US), int(right[0])


def _reasons(
    rows: pa.Table, group: GroupPlan, output: Output, edges: tuple[int, int], a_us: int
) -> NDArray[np.object_]:
    """Per row why it does not count, or "counted"; the first that holds."""
    left, right = edges
    measure, window = group.layout.measures[output.measure], group.layout.windows[output.window]
    t, known, until = (_times(rows, name) for name in (EVENT_TIME, KNOWN_TIME, KNOWN_UNTIL))
    reasons = np.full(rows.num_rows, "counted", object)

    def say(reason: str, where: NDArray[np.bool_]) -> None:
        reasons[(reasons == "counted") & where] = reason

    say("duplicate", rows.column(_DUPLICATE).to_numpy(zero_copy_only=False).astype(bool))
    say("edge", t == right)
    say("after", t > right)
    say("expired", t < left)
    say("known later", known > a_us)
    say("corrected", until <= a_us)
    if measure.where is not None:
        kept = pc.fill_null(group.slots[measure.where].evaluate(rows), False)
        say("where", ~_bools(kept))
    for slot in (measure.slot, measure.slot2, measure.per):
        if slot is not None:
            say("null", ~_bools(pc.is_valid(group.slots[slot].evaluate(rows))))
    if window.kind is WindowKind.ROWS:
        counted = np.flatnonzero(reasons == "counted")  # rows are in the order of rows
        reasons[counted[: max(0, len(counted) - window.n)]] = f"not among the last {window.n}"
    return reasons


def _bools(values: Any) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = values.to_numpy(zero_copy_only=False).astype(bool) if len(values) else np.zeros(0, bool)
    return found


def _times(rows: pa.Table, name: str) -> NDArray[np.int64]:
    return np.asarray(rows.column(name).cast(pa.int64()).fill_null(NEVER_US).to_numpy(), np.int64)


_DUPLICATE: Final = "_duplicate"


def _plus_duplicates(deployment: Deployment, group: GroupPlan, rows: pa.Table, values: Sequence[Any]) -> pa.Table:
    """The rows, with the repeated inserts that the door dropped, where the source still has them."""
    rows = rows.append_column(_DUPLICATE, pa.repeat(pa.scalar(False), rows.num_rows))
    source = group.input
    if not isinstance(source, SourcePlan) or source.id is None or source.source.kind == "http":
        return rows
    from penstock.doors.convert import Converter

    converter = Converter(source)
    found = [converter.convert(batch) for batch in raw_batches(deployment, source)]
    if not found or not converter.from_rows:
        return rows
    raw = pa.Table.from_batches(found).sort_by([(KNOWN_TIME, "ascending"), (EVENT_TIME, "ascending")])
    codes = raw.column(ID).combine_chunks().dictionary_encode()
    ids = codes.indices.cast(pa.int64()).fill_null(NO_ID).to_numpy()
    ops = raw.column(OP).to_numpy() if OP in raw.column_names else np.zeros(raw.num_rows, np.int8)
    kind = accept(ids, ops.astype(np.int8), _times(raw, KNOWN_TIME), source.dedup_us).kind
    raw = raw.filter(pa.array(kind == DUPLICATE))
    raw = raw.filter(_is_key(raw, group, values))
    if not raw.num_rows:
        return rows
    extra = {KNOWN_UNTIL: pa.repeat(pa.scalar(NEVER_US), raw.num_rows), _DUPLICATE: pa.repeat(True, raw.num_rows)}
    for name, column in extra.items():
        raw = raw.append_column(name, column)
    whole = pa.concat_tables([rows, raw.select([n for n in raw.column_names if n in rows.column_names])],
                             promote_options="permissive")  # fmt: skip
    return whole.sort_by([(EVENT_TIME, "ascending"), (KNOWN_TIME, "ascending"), (OFFSET, "ascending")])


def _shown(
    rows: pa.Table, reasons: NDArray[np.object_], group: GroupPlan, measure: Measure, edges: tuple[int, int]
) -> pa.Table:
    """Counted rows, newest first; then the others, those near the window first."""
    slots = [s for s in (measure.slot, measure.slot2, *measure.slots, measure.where, measure.per) if s is not None]
    read = sorted({c for s in slots for c in group.slots[s].columns} - set(group.keys))
    instant = pa.timestamp("us", "UTC")
    columns: dict[str, Any] = {
        "counted": pa.array(reasons == "counted"),
        "reason": pa.array(list(reasons), pa.string()),
        "t": rows.column(EVENT_TIME).cast(pa.int64()).cast(instant),
        "known": rows.column(KNOWN_TIME).cast(pa.int64()).cast(instant),
    }
    if ID in rows.column_names and rows.column(ID).null_count < rows.num_rows:
        columns["id"] = rows.column(ID)
    columns |= {name: rows.column(name) for name in read if not is_system_column(name)}
    table = pa.table(columns)
    t = _times(rows, EVENT_TIME)
    away = np.maximum(np.maximum(edges[0] - t, t - edges[1]), 0)
    order = np.lexsort((-np.arange(rows.num_rows), away, reasons != "counted"))
    return table.take(pa.array(order))
