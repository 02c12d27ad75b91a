"""What a source promises: a schema, rows from a position on, a sample."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from penstock.clock import Clock, WallClock
from penstock.define.source import Source
from penstock.errors import DoorError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Options", "SourcePlugin", "SourcePosition", "check_options"]

SourcePosition: TypeAlias = dict[str, Any]
"""Where to go on: plain JSON data, made by the source and read by it alone."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Options:
    """The options of one source, with what it needs from its surroundings.

    A `$NAME` in a text is replaced from the environment each time it is read; the value is never kept, and `scrub`
    takes it out of messages.

    Attributes:
        values: as written.
        root: relative paths start here.
        pinned: the column types to read text files as; None: told from the data.
        clock: tells the arrival of files.
    """

    values: Mapping[str, str | int | bool | None]
    root: Path = field(default_factory=Path)
    pinned: pa.Schema | None = None
    clock: Clock = field(default_factory=WallClock)

    @classmethod
    def of(cls, source: Source, root: str | Path = ".", pinned: pa.Schema | None = None) -> Options:
        """The options of a source as a definition names it."""
        return cls(dict(source.options), Path(root), pinned)

    def text(self, name: str, default: str | None = None) -> str:
        """An option as text, environment variables replaced.

        Raises:
            DoorError: it is missing and has no default, or names a variable that is not set.
        """
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise DoorError(
                    f"the source needs the option {name!r}",
                    found=f"options {sorted(self.values)}",
                    remedy=f"write {name}=...",
                )
            return default
        return _VARIABLE.sub(lambda m: _environment(m.group(1) or m.group(2), name), str(value))

    def shown(self, name: str) -> str:
        """An option as it was written, fit to be shown."""
        return str(self.values.get(name))

    def scrub(self, text: str) -> str:
        """`text` with every value taken from the environment put back as its `$NAME`."""
        names = {a or b for value in self.values.values() for a, b in _VARIABLE.findall(str(value))}
        for name in sorted(names):
            value = os.environ.get(name)
            if value:
                text = text.replace(value, f"${name}")
        return text


def _environment(variable: str, option: str) -> str:
    try:
        return os.environ[variable]
    except KeyError:
        raise DoorError(
            f"the option {option!r} names the environment variable {variable}",
            found="it is not set",
            remedy=f"export {variable}=... before this command",
        ) from None


@runtime_checkable
class SourcePlugin(Protocol):
    """A kind of place that rows are read from. One object serves all sources of its kind and holds no state.

    A batch may carry `_known_time` (int64 UTC microseconds) beside the source's columns where the source itself knows
    when each row arrived.

    Attributes:
        kind: its name in `penstock.define.source(kind, ...)`.
        option_names: the options it takes.
        pushed: rows come by themselves (HTTP) and cannot be read.
    """

    kind: ClassVar[str]
    option_names: ClassVar[tuple[str, ...]]
    pushed: ClassVar[bool]

    def schema(self, options: Options) -> pa.Schema:
        """The columns, from metadata or the head of the data.

        Raises:
            DoorError: there is nothing to read.
            DataError: what is there is damaged.
        """
        ...

    def read(
        self, options: Options, position: SourcePosition | None = None
    ) -> Iterator[tuple[pa.RecordBatch, SourcePosition]]:
        """Batches from a position on, each with the position after it, until there is no more for now.

        A position stays good when rows were added since; calling again with the last one gives what is new. Memory is
        bounded by a batch, whatever the size of the source.
        """
        ...

    def sample(self, options: Options, n: int) -> pa.Table:
        """The first `n` rows, or all when there are fewer."""
        ...


def check_options(plugin: SourcePlugin, options: Options) -> None:
    """Refuses options that the source does not take.

    Raises:
        DoorError: there is one; the error names the nearest.
    """
    for name in options.values:
        if name not in plugin.option_names:
            raise DoorError(
                f"the source {plugin.kind!r} has no option {name!r}",
                found=repr(sorted(options.values)),
                remedy=nearest(name, plugin.option_names),
            )
