"""Asks the lake and files in SQL of DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field, JsonValue

from penstock.components.artifacts import local_path
from penstock.components.contract import Artifact, BatchComponent, BatchContext, Parameters
from penstock.components.tables import store_table
from penstock.errors import WorkflowError

if TYPE_CHECKING:
    import duckdb

    from penstock.doors.deployment import Deployment

__all__ = ["Sql", "SqlParameters"]

_BATCH_ROWS: Final = 65_536


class SqlParameters(Parameters):
    """Parameters of `sql`."""

    query: str = Field(
        min_length=1,
        description="One SELECT; inputs, files and lake tables by name",
        json_schema_extra={"widget": "sql"},
    )
    files: dict[str, str] = Field(
        default={}, description="Name -> Parquet, CSV or NDJSON of the project; * and ** match many"
    )
    values: dict[str, JsonValue] = Field(default={}, description="For $name in the query, with inputs that are values")
    table: str | None = Field(default=None, description="Lake table that takes the rows; else they become a file")
    merge: tuple[str, ...] = Field(default=(), description="Key columns: rows replace those of equal key")
    memory_mb: int = Field(default=1024, ge=64, description="Above it the query spills to disk")
    threads: int = Field(default=1, ge=1)


class Sql(BatchComponent):
    """Runs a query of DuckDB over tables of the lake, files, and what former nodes made.

    An input that is a file is a view of its name, one that is a table is that version of it, a value is `$name`. The
    rows become the output `rows`: a Parquet file, or a version of a lake table, to which they are added exactly once.
    """

    name = "sql"
    parameters = SqlParameters
    outputs: ClassVar[dict[str, str]] = {"rows": "file", "count": "integer"}
    example: ClassVar[dict[str, str]] = {"query": "SELECT 1 AS one"}
    facts = ("rows", "snapshot")
    preload = (
        "duckdb",
        "pyarrow.parquet",
        "penstock.doors.deployment",
        "penstock.doors.lake_names",
        "penstock.store.lake",
    )

    def run(self, context: BatchContext, parameters: SqlParameters) -> None:
        """Asks, and stores what comes."""
        from penstock.doors.deployment import Deployment  # loaded once by the template of this component

        file = context.output("rows") if parameters.table is None else Path("rows.parquet")
        with Deployment(context.project) as deployment:
            count = _ask(context, parameters, deployment, file)
            if parameters.table is not None:
                made = store_table(
                    deployment, parameters.table, file, key=context.idempotency_key, merge=parameters.merge
                )
                context.put("rows", made)
                context.fact("snapshot", int(made.version))
        context.put("count", count)
        context.fact("rows", count)
        context.log(f"{count:,} rows")


def _ask(context: BatchContext, parameters: SqlParameters, deployment: Deployment, file: Path) -> int:
    """Writes the rows of the query to a Parquet file; how many."""
    import duckdb
    import pyarrow.parquet as pq

    connection = duckdb.connect()
    try:
        connection.execute(f"SET memory_limit = '{parameters.memory_mb}MB'")
        connection.execute(f"SET threads = {parameters.threads}")
        connection.execute("SET temp_directory = 'spilled'")
        values = _bind(connection, context, parameters, deployment)
        asked = {n: v for n, v in values.items() if f"${n}" in parameters.query}
        found = connection.sql(parameters.query, params=asked or None)
        if found is None:
            raise WorkflowError("one SELECT", found="a statement without rows", remedy="say table= to store rows")
        reader: Any = found.to_arrow_reader(_BATCH_ROWS)
        count = 0
        with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
                count += len(batch)
                context.progress(count)
    except duckdb.Error as error:
        raise WorkflowError(
            "a query that DuckDB can run", found=str(error)[:1000], remedy="`penstock lake ls` lists tables"
        ) from error
    finally:
        connection.close()
    return count


def _bind(
    connection: duckdb.DuckDBPyConnection, context: BatchContext, parameters: SqlParameters, deployment: Deployment
) -> dict[str, Any]:
    """Gives names to tables and files; the values that are left over."""
    from penstock.doors.lake_names import plain_names

    values: dict[str, Any] = dict(parameters.values)
    views = {name: str(context.project / pattern) for name, pattern in parameters.files.items()}
    versions: dict[str, tuple[str, int | None]] = {}
    for name, value in context.inputs.items():
        match value:
            case Artifact(kind="file"):
                views[name] = str(local_path(value))
            case Artifact(kind="folder"):
                views[name] = f"{local_path(value)}/**/*.parquet"
            case Artifact(kind="table"):
                versions[name] = value.uri, int(value.version) if value.version else None
            case Artifact():
                raise WorkflowError("an input that SQL can read", found=f"{value.kind} {value.uri}")
            case _:
                values[name] = value
    for name, path in views.items():
        _view(connection, name, path)
    if (deployment.state / "lake").exists():
        tables = plain_names(deployment.lake.tables())
        versions = {n: (n, None) for n in tables if n in parameters.query and n not in views} | versions
        for name, (table, version) in versions.items():
            connection.register(name, deployment.lake.dataset(tables.get(table, table), version))
    return values


def _view(connection: duckdb.DuckDBPyConnection, name: str, path: str) -> None:
    suffix = Path(path).name.removesuffix(".gz").rpartition(".")[2]
    reader = {"csv": "read_csv", "tsv": "read_csv", "json": "read_json", "ndjson": "read_json", "jsonl": "read_json"}
    quoted_name, quoted_path = name.replace('"', '""'), path.replace("'", "''")
    call = f"{reader.get(suffix, 'read_parquet')}('{quoted_path}')"
    connection.execute(f'CREATE VIEW "{quoted_name}" AS SELECT * FROM {call}')  # noqa: S608  quoted
