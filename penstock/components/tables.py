"""Results of nodes as tables of the lake: appended once per node run, or merged by a key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.components.contract import Artifact
from penstock.errors import WorkflowError
from penstock.names import Name

if TYPE_CHECKING:
    from penstock.doors.deployment import Deployment

__all__ = ["full_name", "store_table"]


def full_name(deployment: Deployment, table: str) -> str:
    """The full name of a table of the lake: of one that is there, or of one to be made.

    Raises:
        WorkflowError: the rows of a topic go to it, and no others may.
        DefinitionError: it is no legal name.
    """
    from penstock.doors.lake_names import plain_names  # parses SQL, which only tables need

    tables = deployment.lake.tables()
    full = plain_names(tables).get(table, table)
    if full not in tables:
        full = str(Name.parse(table)).replace("/", "__").replace("@", "__v")
    if deployment.has_log and any(deployment.log.topic(t).lake_table() == full for t in deployment.log.topics()):
        raise WorkflowError(
            f"a table {table!r} for results", found="a topic's copy in the lake", remedy="choose another name"
        )
    return full


def store_table(deployment: Deployment, table: str, rows: Path, *, key: str, merge: tuple[str, ...] = ()) -> Artifact:
    """Brings a Parquet file into the lake, exactly once for an idempotency key.

    Args:
        table: plain or full name; the table is made when it is missing.
        rows: the file.
        key: the idempotency key of the node run; a later attempt of it adds nothing again.
        merge: columns of the key by which rows replace older ones; without them rows are added.

    Raises:
        WorkflowError, DataError, StoreError: the table is not for that, or columns do not fit.
    """
    import pyarrow.parquet as pq  # with the lake; only results that go there need them

    full, lake = full_name(deployment, table), deployment.lake
    if full not in lake.tables():
        lake.create_table(full, pq.read_schema(rows))
    if merge:
        commit = lake.merge(full, pq.read_table(rows), list(merge))
    else:
        commit = lake.append(full, lambda: _reader(rows), app_id=f"run {key}", version=1)
    return Artifact(kind="table", uri=table, version=str(commit.version))


def _reader(rows: Path):  # type: ignore[no-untyped-def]  # of pyarrow, which has no types
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(rows)
    return pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(65_536))
