"""Where history finds the rows of each source: in the log where they were loaded, else in the source itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from penstock.doors.convert import Converter
from penstock.doors.deployment import Deployment
from penstock.doors.sources import open_source
from penstock.engine.history import BatchRows, LogRows, Resolver, Rows
from penstock.errors import DoorError
from penstock.names import fingerprint
from penstock.plan.ir import SourcePlan
from penstock.semantics.columns import KNOWN_TIME
from penstock.store.lake.whole import WholeTopic

__all__ = ["raw_batches", "resolver_for"]


def resolver_for(deployment: Deployment) -> Resolver:
    """A resolver over a deployment; nothing is written. What was found of a source holds as long as the resolver."""
    found: dict[str, Rows] = {}

    def resolve(source: SourcePlan) -> Rows:
        name = str(source.name)
        if name not in found:
            found[name] = _resolve(deployment, source)
        return found[name]

    return resolve


def _resolve(deployment: Deployment, source: SourcePlan) -> Rows:
    name = source.name.name
    if deployment.has_log and str(source.name) in deployment.log.topics():
        topic = deployment.log.topic(source.name)
        if any(topic.end().offsets) or source.source.kind == "http":
            return LogRows(WholeTopic(topic, lambda: deployment.lake))
    plugin, options = open_source(source.source, deployment.root, source.schema.arrow)
    if plugin.pushed:
        raise DoorError(
            f"the history of {name} is in the log", found="no events of it yet", remedy="send some, or append a file"
        )
    if source.source.kind == "sql" and source.known is None:
        raise DoorError(
            f"rows of {name} are known from the moment they were loaded",
            found="none were loaded, and no known time is declared",
            remedy=f"run `penstock log load {name}`, or say known= in its definition",
        )
    identity = fingerprint([name, dict(source.source.options), str(plugin.schema(options))])

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in raw_batches(deployment, source):
            kept = [n for n in batch.schema.names if n in columns or n == KNOWN_TIME]
            yield batch.select(kept)

    return BatchRows(read, identity=identity)


def raw_batches(deployment: Deployment, source: SourcePlan) -> Iterator[pa.RecordBatch]:
    """The rows of a source as it has them, in the types of its schema; `_known_time` where it knows the arrival."""
    plugin, options = open_source(source.source, deployment.root, source.schema.arrow)
    converter = Converter(source)
    for batch, _ in plugin.read(options):
        rows = converter.typed(batch)
        if KNOWN_TIME in batch.schema.names:
            rows = rows.append_column(KNOWN_TIME, batch.column(KNOWN_TIME))
        yield rows
