"""`penstock lake`: tables of the lake, and SQL over them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output
from penstock.errors import DoorError

__all__ = ["app"]

app = typer.Typer(help="The lake: what retention keeps, as Delta tables.", no_args_is_help=True)


@app.command()
def ls(project: Project = Path(), as_json: AsJson = False) -> None:
    """List tables with their columns and newest version."""
    from penstock.doors.deployment import Deployment
    from penstock.doors.lake_names import plain_names

    out = Output(as_json=as_json)
    with Deployment(project) as deployment:
        lake = deployment.lake
        rows = []
        plain = {full: name for name, full in plain_names(lake.tables()).items()}
        for table in lake.tables():
            schema, versions = lake.schema(table), lake.versions(table)
            rows.append(
                {
                    "table": plain.get(table, table),
                    "full name": table,
                    "columns": len(schema.names),
                    "version": max((v.version for v in versions), default=0),
                    "names": list(schema.names)[:12],
                }
            )
    out.rows(rows, ("table", "columns", "version", "full name", "names"))


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="SQL of DuckDB; tables by the names that `lake ls` shows.")],
    limit: Annotated[int, typer.Option(help="Rows shown on a terminal; --json gives all.", min=1)] = 100,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Ask the lake."""
    from penstock.doors.deployment import Deployment
    from penstock.doors.lake_names import with_full_names
    from penstock.doors.shown import shown_rows

    out = Output(as_json=as_json)
    with Deployment(project) as deployment:
        reader = deployment.lake.sql(with_full_names(query, deployment.lake.tables()))
        if as_json:
            for batch in reader:
                out.stream(shown_rows(batch, as_json=True))
            return
        rows, more = [], False
        for batch in reader:
            rows += list(shown_rows(batch, as_json=True))  # the columns asked for, as they are
            if len(rows) > limit:
                more = True
                break
        out.rows(rows[:limit], list(reader.schema.names))
        if more:
            out.say(f"... more than {limit:,} rows; --limit shows more, --json all")


@app.command()
def sink(
    streams: Annotated[list[str] | None, typer.Argument(help="Topics; by default all.")] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Bring the log's rows into the lake, up to its end."""
    from penstock.doors.deployment import Deployment
    from penstock.names import Name
    from penstock.store.lake.sink import LakeSink

    out = Output(as_json=as_json)
    with Deployment(project) as deployment:
        if not deployment.has_log:
            raise DoorError("there is a log to bring into the lake", found="none", remedy="load or send events first")
        topics = (
            [deployment.stored_topic(name) for name in streams]
            if streams
            else [deployment.log.topic(full) for full in deployment.log.topics()]
        )
        rows = []
        with out.progress("into the lake", len(topics)) as step:
            for done, topic in enumerate(topics):
                name = Name.parse(str(topic.name)).name
                step(done, name)
                found = LakeSink(deployment.log, topic, deployment.lake).drain()
                rows.append({"topic": name, "rows": found.rows})
    out.rows(rows, ("topic", "rows"))
