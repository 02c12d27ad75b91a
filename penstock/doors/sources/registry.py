"""Finds sources: those of Penstock and those that other packages bring by entry point."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

from penstock.define.source import Source
from penstock.doors.sources.interface import Options, SourcePlugin, check_options
from penstock.errors import DoorError, NotBuiltError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["GROUP", "BrokenSource", "find_source", "open_source", "sources"]

GROUP: Final = "penstock.sources"
"""The entry-point group in which a package names its source: `kind = "package.module:Class"`."""

_BUILT_IN: Final = {
    "files": "penstock.doors.sources.files:FilesSource",
    "http": "penstock.doors.sources.http:HttpSource",
    "sql": "penstock.doors.sources.sql:SqlSource",
}
_LATER: Final = {"kafka": "the scale-out stores", "hive": "the cluster engines"}


@dataclass(frozen=True, slots=True)
class BrokenSource:
    """A source that could not be loaded, and why; the others work."""

    kind: str
    origin: str
    reason: str


def sources(found: tuple[EntryPoint, ...] | None = None) -> Mapping[str, SourcePlugin | BrokenSource]:
    """Every source by kind, broken ones included.

    Args:
        found: the entry points to load; those installed by default.
    """
    if found is None:
        return _installed()
    loaded: dict[str, SourcePlugin | BrokenSource] = {kind: _built_in(target) for kind, target in _BUILT_IN.items()}
    for point in found:
        if point.name in _BUILT_IN:
            reason = f"{point.name!r} is a source of Penstock itself; the plug-in needs another name"
            loaded[f"{point.name} ({point.value})"] = BrokenSource(point.name, point.value, reason)
        else:
            loaded[point.name] = _load(point)
    return loaded


def _built_in(target: str) -> SourcePlugin:
    module, _, name = target.partition(":")
    plugin: SourcePlugin = getattr(importlib.import_module(module), name)()
    return plugin


@cache
def _installed() -> Mapping[str, SourcePlugin | BrokenSource]:
    return sources(tuple(entry_points(group=GROUP)))


def _load(point: EntryPoint) -> SourcePlugin | BrokenSource:
    try:
        plugin = point.load()()
    except Exception as error:  # noqa: BLE001  a stranger's module may raise anything; it must not take the others down
        return BrokenSource(point.name, point.value, f"{type(error).__name__}: {error}")
    if not isinstance(plugin, SourcePlugin):
        missing = [n for n in ("kind", "option_names", "pushed", "schema", "read", "sample") if not hasattr(plugin, n)]
        return BrokenSource(point.name, point.value, f"it lacks {', '.join(missing)}")
    return plugin


def find_source(kind: str) -> SourcePlugin:
    """The source of that kind.

    Raises:
        DoorError: there is none, or it is broken.
        NotBuiltError: it is a kind that Penstock does not read yet.
    """
    found = sources().get(kind)
    if isinstance(found, BrokenSource):
        raise DoorError(
            f"the source plug-in {kind!r} ({found.origin}) loads",
            found=found.reason,
            remedy="mend or uninstall the package that brings it; the other sources work",
        )
    if found is None:
        if kind in _LATER:
            raise NotBuiltError(
                f"a source of kind {kind!r} comes with {_LATER[kind]}",
                remedy="read files or an SQL table, or send events by HTTP",
            )
        working = [k for k, v in sources().items() if not isinstance(v, BrokenSource)]
        raise DoorError(f"no source is called {kind!r}", found=f"{len(working)} sources", remedy=nearest(kind, working))
    return found


def open_source(
    source: Source, root: str | Path = ".", pinned: pa.Schema | None = None
) -> tuple[SourcePlugin, Options]:
    """The plug-in of a source and its options, checked.

    Raises:
        DoorError: the kind or an option is unknown.
    """
    plugin = find_source(source.kind)
    options = Options.of(source, root, pinned)
    check_options(plugin, options)
    return plugin, options
