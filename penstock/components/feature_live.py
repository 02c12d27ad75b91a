"""Keeps groups live on the log, exactly once: a live job as a stream node."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from penstock.components.contract import Parameters, StreamComponent, StreamContext

__all__ = ["FeatureLive", "FeatureLiveParameters"]

_PAUSE_US = 1_000_000


class FeatureLiveParameters(Parameters):
    """What is kept, and what is put out."""

    emit: list[str] = Field(default=[], description="Joins and groups whose rows go to a topic of their name")
    serve: list[str] | None = Field(default=None, description="Groups and views kept for online reads; all by default")


class FeatureLive(StreamComponent):
    """Keeps groups of the project live on the log and puts rows out, exactly once.

    Facts, of the node and of each join or group it puts out: `watermark` (event time reached), `frontier` (known time
    reached), `rows` (put out since the process began), `lag` (rows not yet taken). Of the streams it reads: how far
    all of them are, as `watermark` and `frontier`.
    """

    name = "feature_live"
    parameters = FeatureLiveParameters

    def run(self, context: StreamContext, parameters: FeatureLiveParameters) -> None:
        """Runs micro-batches until told to stop; `reload` takes the definitions anew."""
        from penstock.doors.deployment import Deployment  # the registry reads this file; only a job needs the engine

        again = True
        while again:
            with Deployment(context.project) as deployment:
                job = deployment.live_job(parameters.emit, parameters.serve)
                again = self._run(job, context, parameters)

    def _run(self, job: Any, context: StreamContext, parameters: FeatureLiveParameters) -> bool:
        """Until asked to end; whether to begin anew."""
        paused = False
        try:
            while True:
                for command in context.commands():
                    match command:
                        case "pause" | "resume":
                            paused = command == "pause"
                        case "drain":
                            job.drain()
                    if command in ("stop", "drain", "reload"):
                        job.checkpoint(wait=True)
                        self._tell(job, context, parameters)
                        return command == "reload"
                moved = not paused and job.step()
                self._tell(job, context, parameters)
                if paused:
                    context.wait(_PAUSE_US)
                elif not moved:
                    job.wait()  # rows wake it; a command waits for so long at most
        finally:
            job.close()

    def _tell(self, job: Any, context: StreamContext, parameters: FeatureLiveParameters) -> None:
        metrics = job.metrics
        told = {"watermark": metrics.watermark_us, "frontier": metrics.frontier_us}
        told |= {"rows": metrics.rows_out, "lag": metrics.lag_rows}
        for kind, value in told.items():
            if value is not None:
                context.report(kind, value)
                for name in (*parameters.emit, *(job.source_names if kind in ("watermark", "frontier") else ())):
                    context.report(kind, value, subject=name)
