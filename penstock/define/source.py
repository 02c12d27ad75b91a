"""Where data come from. A source is a kind and its options; the doors give the kinds their meaning."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.define.values import here
from penstock.errors import Location

__all__ = ["Source", "files", "hive", "http", "kafka", "source", "sql"]


@dataclass(frozen=True, eq=False)
class Source:
    """A place that rows are read from.

    Attributes:
        kind: the plug-in that reads it.
        options: (name, value) pairs; a `$NAME` in a text is taken from the environment when it is read, never stored.
    """

    kind: str
    options: tuple[tuple[str, str | int | bool | None], ...] = ()
    at: Location | None = field(default=None, repr=False)

    def option(self, name: str) -> str | int | bool | None:
        """The value of an option, or None."""
        return dict(self.options).get(name)


def source(kind: str, **options: str | int | bool | None) -> Source:
    """A source of any kind, a plug-in's included."""
    return Source(kind, tuple(sorted((k, v) for k, v in options.items() if v is not None)), here())


def files(path: str, format: str | None = None, arrivals: str | None = None) -> Source:
    """CSV, NDJSON or Parquet: a file, a pattern, or a folder, `dt=/hour=` folders included.

    Args:
        path: relative to the project's folder.
        format: csv, ndjson or parquet; by the file's ending when left out.
        arrivals: "watch" makes the arrival of a file the known time of its rows.
    """
    return source("files", path=path, format=format, arrivals=arrivals)


def http() -> Source:
    """Events that arrive by `POST /v1/streams/{name}` or `client.emit()`."""
    return source("http")


def kafka(url: str, group: str | None = None) -> Source:
    """A Kafka topic: `kafka("$KAFKA/show")`."""
    return source("kafka", url=url, group=group)


def hive(table: str, partition: str | None = None) -> Source:
    """A Hive table, read by partition."""
    return source("hive", table=table, partition=partition)


def sql(url: str, table: str, cursor: str) -> Source:
    """An SQL table or view, read on by a column that only grows (`cursor`)."""
    return source("sql", url=url, table=table, cursor=cursor)
