"""Appends rows that are brought by hand: a file, or lines on stdin."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Final

import pyarrow as pa

from penstock.doors.convert import Converter
from penstock.doors.deployment import Deployment
from penstock.doors.sources import Options
from penstock.doors.sources.files import FilesSource
from penstock.doors.sources.ndjson import read_ndjson
from penstock.errors import DataError, nearest
from penstock.plan.ir import SourcePlan
from penstock.semantics.columns import KNOWN_TIME
from penstock.store.log import AppendResult, ProducerId

__all__ = ["append_file", "append_lines"]

_LINES_BYTES: Final = 1 << 20


def append_file(deployment: Deployment, name: str, file: Path, producer: str | None = None) -> Iterator[AppendResult]:
    """Appends the rows of one file, batch by batch.

    Args:
        producer: numbers the batches, so that the same file appended again changes nothing.

    Raises:
        DoorError: there is no such file.
        DataError: the file is damaged, or has a column that the stream lacks.
    """
    source = deployment.source(name)
    options = Options({"path": str(file.absolute())}, pinned=source.schema.arrow)
    plugin = FilesSource()
    _check(source, plugin.schema(Options(options.values)))
    yield from _append(deployment, source, (batch for batch, _ in plugin.read(options)), producer)


def append_lines(deployment: Deployment, name: str, lines: IO[bytes], producer: str | None) -> Iterator[AppendResult]:
    """Appends NDJSON lines as they come, a batch per MiB or per pause of the writer."""
    source = deployment.source(name)

    def batches() -> Iterator[pa.RecordBatch]:
        rest = b""
        while part := lines.read1(_LINES_BYTES):  # type: ignore[attr-defined]
            whole, mark, rest = (rest + part).rpartition(b"\n")
            if mark:
                yield from (b for b, _ in read_ndjson(BytesIO(whole + mark), "stdin", source.schema.arrow, 0, 32_768))
        if rest.strip():
            yield from (b for b, _ in read_ndjson(BytesIO(rest), "stdin", source.schema.arrow, 0, 32_768))

    yield from _append(deployment, source, batches(), producer)


def _check(source: SourcePlan, found: pa.Schema) -> None:
    for name in found.names:
        if name not in source.schema.names:
            raise DataError(
                f"columns are those of {source.name.name}", found=repr(name), remedy=nearest(name, source.schema.names)
            )


def _append(
    deployment: Deployment, source: SourcePlan, batches: Iterator[pa.RecordBatch], producer: str | None
) -> Iterator[AppendResult]:
    topic, converter = deployment.topic(source.name.name), Converter(source)
    for sequence, batch in enumerate(batches):
        rows = converter.convert(batch)
        if converter.from_rows:
            rows = rows.sort_by(KNOWN_TIME)
        yield topic.append(rows, producer=ProducerId(producer) if producer else None, sequence=sequence)
