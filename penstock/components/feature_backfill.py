"""Computes features over history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from penstock.components.artifacts import local_path
from penstock.components.contract import Artifact, BatchComponent, BatchContext, Parameters
from penstock.components.tables import store_table
from penstock.errors import WorkflowError

if TYPE_CHECKING:
    from penstock.doors.deployment import Deployment
    from penstock.engine.history import Progress, Result

__all__ = ["FeatureBackfill", "FeatureBackfillParameters"]


class FeatureBackfillParameters(Parameters):
    """Parameters of `feature_backfill`."""

    group: str | None = Field(default=None, description="A group of the project")
    view: str | None = Field(default=None, description="Or a view")
    queries: str | None = Field(default=None, description="Parquet of the project with keys and instants")
    at: str | None = Field(default=None, description="Every key at this instant; the interval's end by default")
    q: str = Field(default="q", description="The queries' column that cuts event time")
    a: str | None = Field(default=None, description="The queries' column that cuts knowledge; q by default")
    statuses: bool = Field(default=False, description="Also why a value is null")
    table: str | None = Field(default=None, description="Lake table that takes the rows; else they become a file")
    memory_mb: int | None = Field(default=None, ge=64, description="Above it rows spill to disk")
    threads: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.group is None) == (self.view is None):
            raise ValueError("say either group or view")
        return self


class FeatureBackfill(BatchComponent):
    """Features of a group or a view, point in time: for a table of queries, or for every key at an instant.

    Queries are a file of the project, or the input `queries`. The rows become the output `rows`: a Parquet file, or a
    version of a lake table, to which they are added exactly once.
    """

    name = "feature_backfill"
    parameters = FeatureBackfillParameters
    outputs: ClassVar[dict[str, str]] = {"rows": "file", "count": "integer"}
    facts = ("rows", "snapshot")
    preload = ("penstock.doors.deployment", "penstock.doors.project", "penstock.doors.rows", "penstock.engine.history")

    def run(self, context: BatchContext, parameters: FeatureBackfillParameters) -> None:
        """Computes and stores them."""
        from penstock.doors.deployment import Deployment  # loaded once by the template of this component

        file = context.output("rows") if parameters.table is None else Path("rows.parquet")
        with Deployment(context.project) as deployment:
            found = _ask(context, parameters, deployment)
            count = found.write_parquet(file, statuses=parameters.statuses)
            if parameters.table is not None:
                made = store_table(deployment, parameters.table, file, key=context.idempotency_key)
                context.put("rows", made)
                context.fact("snapshot", int(made.version))
        context.put("count", count)
        context.fact("rows", count)
        context.log(f"{count:,} rows")


def _ask(context: BatchContext, parameters: FeatureBackfillParameters, deployment: Deployment) -> Result:
    from penstock.doors.project import read_instant_us
    from penstock.doors.rows import resolver_for
    from penstock.engine.history import History

    def told(progress: Progress) -> None:
        context.progress(progress.fraction, 1.0, progress.stage)

    history = History(
        deployment.plan,
        resolver_for(deployment),
        clock=deployment.clock,
        memory_bytes=None if parameters.memory_mb is None else parameters.memory_mb << 20,
        work=Path("work"),
        threads=parameters.threads,
        progress=told,
    )
    queries = _queries(context, parameters)
    if parameters.view is not None:
        if queries is None:
            raise WorkflowError("queries for a view", found="none", remedy="give a file, or an input called queries")
        return history.view(parameters.view, queries, q=parameters.q, a=parameters.a)
    assert parameters.group is not None
    if queries is not None:
        return history.group(parameters.group, queries, q=parameters.q, a=parameters.a)
    at_us = context.interval_end_us if parameters.at is None else read_instant_us(parameters.at)
    return history.all_keys(parameters.group, deployment.clock.now_us() if at_us is None else at_us)


def _queries(context: BatchContext, parameters: FeatureBackfillParameters) -> Any:
    given = context.inputs.get("queries")
    if isinstance(given, Artifact):
        return local_path(given)
    if given is not None:
        raise WorkflowError("queries are a Parquet file", found=repr(given)[:200], remedy="hand over a file")
    return None if parameters.queries is None else context.project / parameters.queries
