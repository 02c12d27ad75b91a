"""What a notebook is given: columns with types and lineage, handed over as Arrow, Polars or pandas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from html import escape
from typing import Any, Final

import pyarrow as pa

from penstock.doors.shown import shown_rows

__all__ = ["Frame", "html_table"]

_SHOWN_ROWS: Final = 20
_STYLE: Final = "text-align:left;vertical-align:top;padding:2px 10px 2px 0;white-space:nowrap"


class Frame:
    """Rows that are computed when they are first asked for.

    Args:
        title: what they are.
        make: computes them.
        types: type of each column that is known before.
        lineage: source columns of each column, by its name.
        notes: lines shown below.
    """

    def __init__(
        self,
        title: str,
        make: Callable[[], pa.Table],
        *,
        types: Mapping[str, str] | None = None,
        lineage: Mapping[str, Sequence[str]] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.title, self._make = title, make
        self.types, self._lineage = dict(types or {}), dict(lineage or {})
        self._notes = tuple(notes)

    @cached_property
    def _table(self) -> pa.Table:
        return self._make()

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self._table

    def pl(self) -> Any:
        """The rows as a Polars frame, without a copy where Polars can.

        Raises:
            ImportError: Polars is not installed (`pip install penstock[polars]`).
        """
        import polars  # an extra; only its users pay for it

        return polars.from_arrow(self._table)

    def pandas(self) -> Any:
        """The rows as a pandas frame; times as Arrow has them.

        Raises:
            ImportError: pandas is not installed (`pip install penstock[pandas]`).
        """
        return self._table.to_pandas()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        table = self._table
        columns = ", ".join(f"{n} {self._type(n)}" for n in table.column_names)
        return f"{self.title}: {table.num_rows:,} rows\n  {columns}"

    def _type(self, name: str) -> str:
        return self.types.get(name) or str(self._table.schema.field(name).type)

    def _repr_html_(self) -> str:
        table = self._table
        names = table.column_names
        head = [
            f"<th style='{_STYLE}'>{escape(n)}<br><small style='font-weight:normal;opacity:.65'>"
            f"{escape(self._type(n))}{self._from(n)}</small></th>"
            for n in names
        ]
        rows = list(shown_rows(table.slice(0, _SHOWN_ROWS), as_json=True))
        body = html_table(head, [[row[n] for n in names] for row in rows])
        more = table.num_rows - len(rows)
        notes = [*([f"and {more:,} more rows"] if more > 0 else []), *self._notes]
        below = "".join(f"<div style='opacity:.65'>{escape(note)}</div>" for note in notes)
        return f"<div><b>{escape(self.title)}</b>: {table.num_rows:,} rows</div>{body}{below}"

    def _from(self, name: str) -> str:
        found = self._lineage.get(name, ())
        return "<br>from " + escape(", ".join(found)) if found else ""


def html_table(head: Sequence[str], rows: Sequence[Sequence[Any]], marks: Sequence[bool] | None = None) -> str:
    """An HTML table; the head is HTML already, values are escaped. Rows that are not marked are shown paler."""
    lines = []
    for i, row in enumerate(rows):
        pale = "" if marks is None or marks[i] else " style='opacity:.55'"
        cells = "".join(f"<td style='{_STYLE}'>{_cell(value)}</td>" for value in row)
        lines.append(f"<tr{pale}>{cells}</tr>")
    return f"<div style='overflow-x:auto'><table><tr>{''.join(head)}</tr>{''.join(lines)}</table></div>"


def _cell(value: Any) -> str:
    if value is None:
        return "<span style='opacity:.4'>null</span>"
    if isinstance(value, float):
        return f"{value:,.6g}"
    text = str(value)
    return escape(text if len(text) <= 80 else text[:79] + "…")
