"""What commands print: tables and progress for people, JSON lines for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "error_line"]

_WIDE = 240


def error_line(error: PenstockError, *, as_json: bool) -> str:
    """An error for the terminal, or as one JSON line."""
    if not as_json:
        return f"error: {error}"
    parts = {"code": error.code, "asked": error.asked, "found": error.found, "remedy": error.remedy}
    return _text({"error": parts | {"where": str(error.where or "")}})


def _text(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


class Output:
    """Prints the results of one command.

    Args:
        as_json: JSON lines on stdout, nothing else.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """The terminal; wide where output goes to a file, so that nothing is cut."""
        if self._console is None:
            from rich.console import Console  # only commands that print tables pay for it

            self._console = Console(
                width=None if sys.stdout.isatty() else _WIDE, highlight=False, soft_wrap=not sys.stdout.isatty()
            )
        return self._console

    def say(self, text: str) -> None:
        """A line for people; nothing in JSON."""
        if not self.as_json:
            self.console.print(text, markup=False)

    def record(self, **values: Any) -> None:
        """A line for programs; nothing on a terminal."""
        if self.as_json:
            self._line(values)

    def rows(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> None:
        """A table, or a JSON line per row."""
        if self.as_json:
            for row in rows:
                self._line(row)
            return
        from rich.table import Table  # only commands that print tables pay for it
        from rich.text import Text

        found = [[_shown(row.get(column)) for column in columns] for row in rows]
        numeric = [
            bool(found) and all(_is_number(line[i]) for line in found if line[i] != "") for i in range(len(columns))
        ]
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column, right in zip(columns, numeric, strict=True):
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for line in found:
            table.add_row(*map(Text, line))
        self.console.print(table)

    def stream(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows as they come: one line each."""
        for row in rows:
            if self.as_json:
                self._line(row)
            else:
                self.console.print("  ".join(f"{k}={_shown(v)}" for k, v in row.items()), markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Callable[[int, str], None]]:
        """A bar on a terminal's stderr while something lasts; what it yields takes (amount done, words)."""
        if self.as_json or not sys.stderr.isatty():
            yield lambda done, words: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total, words="")
            yield lambda done, words: bar.update(task, completed=done, words=words)

    def _line(self, values: Mapping[str, Any]) -> None:
        sys.stdout.write(_text(dict(values)) + "\n")
        sys.stdout.flush()


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:,.6g}"
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(map(_shown, value))
    return str(value)


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()
