"""What a lake promises: tables in versions, appends that never double, streamed reads, erasure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Lake", "LakeCommit", "TableVersion"]


@dataclass(frozen=True, slots=True)
class LakeCommit:
    """What an append made: the table's version, and whether it had been made before (nothing was written then)."""

    version: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class TableVersion:
    """A version of a table; its commit time is the known time of its rows where the table gives none."""

    version: int
    committed_us: int
    operation: str
    details: Mapping[str, str]


@runtime_checkable
class Lake(Protocol):
    """Tables of rows in versions, in one place."""

    url: str

    def create_table(self, table: str, schema: pa.Schema) -> None:
        """A new, empty table, or nothing when it is there with the same schema."""
        ...

    def tables(self) -> list[str]:
        """The names of all tables, sorted."""
        ...

    def schema(self, table: str) -> pa.Schema:
        """The columns of a table."""
        ...

    def append(
        self,
        table: str,
        rows: pa.RecordBatch | pa.Table | Callable[[], pa.RecordBatchReader],
        *,
        app_id: str | None = None,
        version: int | None = None,
        details: Mapping[str, str] | None = None,
    ) -> LakeCommit:
        """Adds rows in one commit; with `app_id`, only if no commit of it had this version or a greater one."""
        ...

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        *,
        version: int | None = None,
        where: Mapping[str, Any] | None = None,
        between: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> pa.RecordBatchReader:
        """Streams rows; `where` keeps those whose columns equal its values, `between` those in [first, last)."""
        ...

    def additions(
        self, table: str, columns: Sequence[str] | None = None, *, version: int | None = None
    ) -> Iterator[tuple[TableVersion, pa.RecordBatch]]:
        """Streams the rows that each version added, oldest first; of files that a vacuum left."""
        ...

    def versions(self, table: str) -> list[TableVersion]:
        """All versions still known, oldest first."""
        ...

    def merge(self, table: str, rows: pa.Table, key: Sequence[str]) -> LakeCommit:
        """Replaces rows of equal key and adds the others."""
        ...

    def erase(self, table: str, key: Mapping[str, Any], *, reason: str, versions: bool = False) -> int:
        """Takes rows whose columns equal `key`, with `versions` also former ones of their events, out of all files."""
        ...

    def compact(self, table: str) -> int:
        """Joins small files; how many files fewer."""
        ...

    def vacuum(self, table: str, keep_us: int) -> int:
        """Deletes files that no version younger than `keep_us` uses; how many."""
        ...

    def sql(self, query: str, versions: Mapping[str, int] | None = None) -> pa.RecordBatchReader:
        """Streams the result of a query over the tables, some at a given version."""
        ...
