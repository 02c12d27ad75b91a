"""Values in a node's parameters: `{{ param.days }}`, `{{ start }}`, `{{ end }}`, `{{ run }}`, `{{ dict.key }}`.

A text that is nothing but one of them takes the value with its type; inside a longer text it is written out. What
belongs to the run is filled in when the task is made; `dict.` and `secret.` are read when it runs, so that no stored
version holds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from penstock.errors import WorkflowError, nearest

__all__ = ["LATE", "instant_text", "names", "render", "run_values"]

LATE: Final = ("dict.", "secret.")
"""What is left for the task to fill in."""

_PLACE: Final = re.compile(r"\{\{\s*([A-Za-z_][\w.]*)\s*\}\}")


def names(value: Any) -> Iterator[str]:
    """The names a value mentions, in order."""
    match value:
        case str():
            yield from (match[1] for match in _PLACE.finditer(value))
        case dict():
            for part in value.values():
                yield from names(part)
        case list() | tuple():
            for part in value:
                yield from names(part)


def render(value: Any, read: Callable[[str], Any], *, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()) -> Any:
    """A copy of a JSON value with its places filled in by `read(name)`.

    Args:
        value: text, number, list, object.
        read: gives the value of a name; raises WorkflowError for an unknown one.
        only: names that do not begin so are left as they stand; all are filled in if empty.
        skip: names that begin so are left as they stand.
    """
    match value:
        case str():
            return _text(value, read, only, skip)
        case dict():
            return {key: render(part, read, only=only, skip=skip) for key, part in value.items()}
        case list() | tuple():
            return [render(part, read, only=only, skip=skip) for part in value]
    return value


def _text(text: str, read: Callable[[str], Any], only: tuple[str, ...], skip: tuple[str, ...]) -> Any:
    def wanted(name: str) -> bool:
        return (not only or name.startswith(only)) and not (skip and name.startswith(skip))

    whole = _PLACE.fullmatch(text.strip())
    if whole and wanted(whole[1]):
        return read(whole[1])
    return _PLACE.sub(lambda match: _written(read(match[1])) if wanted(match[1]) else match[0], text)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def run_values(run: str, start_us: int | None, end_us: int | None, parameters: dict[str, Any]) -> Callable[[str], Any]:
    """Reads what belongs to a run: `run`, `start` and `end` (ISO 8601, UTC), `param.NAME`."""
    values: dict[str, Any] = {"run": run, **{f"param.{name}": value for name, value in parameters.items()}}
    if start_us is not None and end_us is not None:
        values |= {"start": instant_text(start_us), "end": instant_text(end_us)}

    def read(name: str) -> Any:
        if name not in values:
            raise WorkflowError(f"there is no {name!r} in this run", remedy=nearest(name, values))
        return values[name]

    return read


def instant_text(us: int) -> str:
    """An instant for a reader and for SQL: ISO 8601, UTC, as short as it is exact."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return at.isoformat().replace("+00:00", "Z")
