"""Why a feature has its value, as people read it: the rows that count, and those that do not, each with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, Final

import numpy as np
import pyarrow as pa

from penstock.doors.frames import html_table
from penstock.doors.shown import instant_text, shown_rows
from penstock.engine.history import History, Reason
from penstock.errors import EngineError, nearest
from penstock.plan import Plan
from penstock.plan.ir import GroupPlan
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, is_system_column

__all__ = ["Explanation", "explain"]

_ALL: Final = 2**62


@dataclass(frozen=True)
class Explanation:
    """The rows behind one value.

    Attributes:
        value: the feature, as history computes it. status: why it is null, if it is.
        rows: the key's rows with their times, `counted`, `reason`, and the columns that are read; counted rows first,
            newest first, then the others, those near the window first.
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
        """How many rows there are of each reason; counted rows under `counted`."""
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
    plan: Plan, history: History, column: str, key: Mapping[str, Any], *, q_us: int, a_us: int | None = None
) -> Explanation:
    """Explains one column of one group for one key at one instant.

    Args:
        column: `group.column`.
        key: by the names of the group's keys.
        a_us: cuts knowledge; `q_us` by default.

    Raises:
        EngineError: there is no such group or column, or the key is incomplete.
    """
    name = column.partition(".")[0]
    group = plan.groups.get(name)
    if group is None:
        raise EngineError(f"{name!r} is a group of features", found="none", remedy=nearest(name, plan.groups))
    values = _key_values(group, key)
    found = history.explain(column, dict(zip(group.key_names, values, strict=True)), q_us, a_us=a_us, limit=_ALL)
    span_us = found.left_us, found.right_us
    return Explanation(
        column,
        tuple(zip(group.key_names, values, strict=True)),
        q_us,
        q_us if a_us is None else a_us,
        found.value,
        found.status,
        _shown(found.rows, group, span_us),
        span_us,
    )


def _key_values(group: GroupPlan, key: Mapping[str, Any]) -> list[Any]:
    for name in key:
        if name not in {*group.key_names, *group.keys}:
            raise EngineError(
                f"{name!r} is a key of {group.name.name}", found="none", remedy=nearest(name, group.key_names)
            )
    values = []
    for name, column, kind in zip(group.key_names, group.keys, group.key_types, strict=True):
        if name not in key and column not in key:
            raise EngineError(
                f"the whole key of {group.name.name}: {', '.join(group.key_names)}",
                found=repr(sorted(key)),
                remedy=f"say {name}=...",
            )
        value = key.get(name, key.get(column))
        try:
            pa.scalar(value, kind.arrow)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise EngineError(f"the key {name} is {kind}", found=repr(value), remedy="give such a value") from error
        values.append(value)
    return values


def _shown(rows: pa.Table, group: GroupPlan, span_us: tuple[int | None, int]) -> pa.Table:
    """Counted rows, newest first; then the others, those near the window first."""
    instant = pa.timestamp("us", "UTC")
    reasons = np.array(rows.column("reason").to_pylist(), object)
    t = np.asarray(rows.column(EVENT_TIME).cast(pa.int64()).to_numpy(), np.int64)
    columns: dict[str, Any] = {
        "counted": pa.array((reasons == Reason.COUNTED.value).tolist(), pa.bool_()),
        "reason": rows.column("reason"),
        "t": rows.column(EVENT_TIME).cast(pa.int64()).cast(instant),
        "known": rows.column(KNOWN_TIME).cast(pa.int64()).cast(instant),
    }
    if ID in rows.column_names and rows.column(ID).null_count < rows.num_rows:
        columns["id"] = rows.column(ID)
    for name in rows.column_names:
        if name not in group.keys and name != "reason" and not is_system_column(name):
            columns[name] = rows.column(name)
    left = -_ALL if span_us[0] is None else span_us[0]
    away = np.maximum(np.maximum(left - t, t - span_us[1]), 0)
    order = np.lexsort((np.arange(rows.num_rows), away, reasons != Reason.COUNTED.value))
    return pa.table(columns).take(pa.array(order))
