"""Bodies of requests into rows: a fast way for bodies that fit, and one row by row that says what does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

import msgspec
import pyarrow as pa

from penstock.errors import DataError, nearest
from penstock.plan.expr.types import Type
from penstock.plan.ir import SourcePlan

__all__ = ["MEDIA_TYPES", "Body", "RowDecoder", "Unfit"]

_LETTER_BYTES: Final = 16_384

MEDIA_TYPES: Final = {
    "application/json": "json",
    "text/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/vnd.apache.arrow.stream": "arrow",
}
"""What a body may be, by its content type."""

_PLAIN: Final[dict[str, Any]] = {
    "bool": bool,
    "int": int,
    "float": float,
    "text": str,
    "instant": str,
    "date": str,
    "duration": int,
    "decimal": Decimal,
    "bytes": bytes,
}


@dataclass(frozen=True, slots=True)
class Unfit:
    """A row that is refused: its index, why, and what it was, as plain data."""

    index: int
    reason: str
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Body:
    """A decoded body.

    Attributes:
        rows: decoded objects, or a batch of Arrow.
        refused: rows that are none of this stream.
        indexes: index in the body of each row; None where none was refused.
    """

    rows: Sequence[Any] | pa.RecordBatch
    refused: tuple[Unfit, ...] = ()
    indexes: tuple[int, ...] | None = None

    @property
    def num_rows(self) -> int:
        """Rows that are left."""
        return self.rows.num_rows if isinstance(self.rows, pa.RecordBatch) else len(self.rows)


@dataclass
class RowDecoder:
    """Decodes bodies of one stream or table."""

    source: SourcePlan
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        columns = self.source.schema.columns
        fields: list[Any] = []
        names = {}
        for i, column in enumerate(columns):
            kind = _decoded(column.type)
            if kind is not msgspec.Raw and column.nullable:  # raw JSON may be null as it is
                kind |= None
            fields.append((f"f{i}", kind, None) if column.nullable else (f"f{i}", kind))
            names[f"f{i}"] = column.name
        fields.sort(key=len)  # those that must be there first, as struct fields want it
        row = msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=True, gc=False)
        self._row = msgspec.json.Decoder(row)
        self._rows = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
        self._getters = [_getter(f"f{i}", column.type) for i, column in enumerate(columns)]
        self._kinds = [_carried(c.type) for c in columns]
        self.schema = pa.schema([pa.field(c.name, k) for c, k in zip(columns, self._kinds, strict=True)])

    def decode(self, body: bytes, media: str) -> Body:
        """Rows of a body.

        Args:
            media: json (an object or a list of them), ndjson or arrow.

        Raises:
            DataError: the body as a whole cannot be read.
        """
        if media == "arrow":
            return self._arrow(body)
        try:
            if media == "ndjson":
                return Body(self._row.decode_lines(body))
            if body.lstrip()[:1] == b"{":
                return Body([self._row.decode(body)])
            return Body(self._rows.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._one_by_one(body, media)

    def batch(self, rows: Sequence[Any]) -> pa.RecordBatch:
        """Decoded rows as one batch; times and days are still text.

        Raises:
            DataError: a value does not fit its column.
        """
        arrays = []
        for getter, column in zip(self._getters, self.schema, strict=True):
            try:
                arrays.append(pa.array(map(getter, rows), column.type, size=len(rows)))
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
                raise DataError(
                    f"column {column.name!r} holds {column.type}",
                    found=str(error)[:200],
                    remedy="send values of that type",
                ) from error
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def fitting(self, rows: Sequence[Any]) -> tuple[list[int], list[Unfit]]:
        """Which rows fit by themselves: their indexes, and the others."""
        good: list[int] = []
        refused: list[Unfit] = []
        for i, row in enumerate(rows):
            try:
                self.batch([row])
            except DataError as error:
                refused.append(Unfit(i, f"{error.asked}; found {error.found}", _plain(msgspec.json.encode(row))))
            else:
                good.append(i)
        return good, refused

    def _one_by_one(self, body: bytes, media: str) -> Body:
        good, indexes, refused = [], [], []
        for i, item in enumerate(_items(body, media)):
            try:
                good.append(self._row.decode(item))
                indexes.append(i)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                refused.append(Unfit(i, self._reason(item, str(error)), _plain(item)))
        return Body(good, tuple(refused), tuple(indexes))

    def _reason(self, item: bytes, error: str) -> str:
        """What is wrong with a row, with the names that are near."""
        try:
            value = msgspec.json.decode(item)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return f"no JSON: {error}"
        if not isinstance(value, dict):
            return f"a row is an object, not {type(value).__name__}"
        for name in value:
            if name not in self.schema.names:
                return f"no column is called {name!r}; {nearest(name, self.schema.names)}"
        return error.replace(" - at `$.", " in `").replace("`$.", "`")

    def _arrow(self, body: bytes) -> Body:
        try:
            with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
                table = reader.read_all()
            table.validate(full=True)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                "the body is an Arrow IPC stream", found=str(error)[:200], remedy="write it with pyarrow.ipc.new_stream"
            ) from error
        for name in table.column_names:
            if name not in self.schema.names:
                raise DataError(
                    f"columns are those of {self.source.name.name}",
                    found=repr(name),
                    remedy=nearest(name, self.schema.names),
                )
        batches = table.combine_chunks().to_batches()
        return Body(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema))


def _plain(item: bytes) -> dict[str, Any]:
    """A row as plain data for a dead letter; what is no JSON object stands in `_text`."""
    try:
        value = msgspec.json.decode(item)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = None
    if isinstance(value, dict) and len(item) <= _LETTER_BYTES:
        return value
    return {"_text": item[:_LETTER_BYTES].decode(errors="replace")}


def _items(body: bytes, media: str) -> list[bytes]:
    """Each row's own text.

    Raises:
        DataError: the body is no JSON list.
    """
    if media == "ndjson":
        return [line for line in body.splitlines() if line.strip()]
    if body.lstrip()[:1] == b"{":
        return [body]
    try:
        return [bytes(item) for item in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "the body is a JSON object or a list of them",
            found=f"{error}; {body[:80]!r}",
            remedy="send an object, a list, or NDJSON as application/x-ndjson",
        ) from error


def _getter(name: str, kind: Type) -> Callable[[Any], Any]:
    """What takes a column's value out of a decoded row."""
    get: Callable[[Any], Any] = attrgetter(name)
    if kind.name != "json":
        return get

    def text(row: Any) -> str | None:
        raw = get(row)
        return None if raw is None or bytes(raw) == b"null" else bytes(raw).decode()

    return text


def _decoded(kind: Type) -> Any:
    """What msgspec decodes a value to."""
    if kind.name in _PLAIN:
        return _PLAIN[kind.name]
    if kind.name == "list":
        return list[_decoded(kind.element) | None]  # type: ignore[misc]
    if kind.name == "map":
        return dict[str, _decoded(kind.element) | None]  # type: ignore[misc]
    if kind.name == "json":
        return msgspec.Raw
    return dict[str, Any]


def _carried(kind: Type) -> pa.DataType:
    """The Arrow type in which decoded values travel to the door's conversion."""
    return pa.string() if kind.name in ("instant", "date", "json") else kind.arrow
