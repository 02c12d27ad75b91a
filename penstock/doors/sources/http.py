"""Events that arrive by themselves, over HTTP: nothing to read, only a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from penstock.doors.sources.interface import Options, SourcePosition
from penstock.errors import DoorError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["HttpSource"]


class HttpSource:
    """The source of streams that producers send to."""

    kind: ClassVar[str] = "http"
    option_names: ClassVar[tuple[str, ...]] = ()
    pushed: ClassVar[bool] = True

    def schema(self, options: Options) -> pa.Schema:
        """Refused: the columns are pinned by the definition."""
        raise _pushed()

    def read(
        self, options: Options, position: SourcePosition | None = None
    ) -> Iterator[tuple[pa.RecordBatch, SourcePosition]]:
        """Refused: rows come by POST /v1/streams/{name}."""
        raise _pushed()

    def sample(self, options: Options, n: int) -> pa.Table:
        """Refused: rows come by POST /v1/streams/{name}."""
        raise _pushed()


def _pushed() -> DoorError:
    return DoorError(
        "events of this stream are sent, not read",
        found="a source of kind 'http'",
        remedy='pin its columns with schema={...} and send events: penstock.Client(url).emit("stream", {...})',
    )
