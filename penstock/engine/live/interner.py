"""Interned values: text, bytes and nested values of slots as int64 codes that stand for ever, kept in the arena."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.algebra.layout import Layout
from penstock.algebra.program import compile_program
from penstock.engine.live.keyed import KeyedState

__all__ = ["Interner"]

_TAG_BYTES = 5  # a text part of a key: its tag and its length
Codes = npt.NDArray[np.int64]


class Interner:
    """Codes of values; a code is where the arena keeps the value's bytes, so that a reader finds it without a table."""

    def __init__(self, handle: Any, root: int, *, reader: bool = False) -> None:
        self._state = KeyedState(handle, compile_program(Layout((), (), (), ())), root, reader=reader)
        self._known: dict[int, bytes] = {}

    def codes(self, values: pa.Array) -> Codes:
        """The code of each value; 0 for a null."""
        if pa.types.is_nested(values.type):
            keys = pa.array([None if v is None else _packed(v, values.type) for v in values.to_pylist()], pa.binary())
        else:
            keys = values
        encoded = keys.dictionary_encode() if not pa.types.is_dictionary(keys.type) else keys
        records, _ = self._state.find([_as_text(encoded.dictionary)], create=True)
        if not len(records):
            return np.zeros(len(values), np.int64)
        codes: Codes = records.astype(np.int64)[np.asarray(pc.fill_null(encoded.indices, 0))]
        if encoded.null_count:
            codes[np.asarray(pc.is_null(encoded.indices))] = 0
        return codes

    def dictionary(self, codes: Codes, kind: pa.DataType) -> tuple[pa.Array, Codes]:
        """The values of codes, each once, and for each code the index of its value; 0 stands for null."""
        places: dict[int, int] = {}
        at = np.array([places.setdefault(code, len(places)) for code in codes.tolist()], np.int64)
        found: list[Any] = [None if code == 0 else self._bytes(code) for code in places]
        if pa.types.is_nested(kind):
            return pa.array([None if v is None else _unpacked(v, kind) for v in found], kind), at
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        plain = pa.array(found, pa.binary())
        return (plain.cast(pa.string()).cast(kind) if text else plain.cast(kind)), at

    def text(self, code: int) -> str:
        """The text that a code stands for."""
        return self._bytes(code).decode()

    def _bytes(self, code: int) -> bytes:
        known = self._known.get(code)
        if known is None:
            if len(self._known) > 1 << 20:
                self._known.clear()
            known = self._known[code] = self._state.key_bytes(code)[_TAG_BYTES:]
        return known


def _as_text(values: pa.Array) -> pa.Array:
    """Bytes under the type of text, without looking whether they are UTF-8: the kernel only takes bytes."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return values
    values = values.cast(pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), values.buffers(), values.null_count, values.offset)


def _packed(value: Any, kind: pa.DataType) -> bytes:
    batch = pa.record_batch([pa.array([value], kind)], ["v"])
    return bytes(batch.serialize())


def _unpacked(data: bytes, kind: pa.DataType) -> Any:
    schema = pa.schema([pa.field("v", kind)])
    return pa.ipc.read_record_batch(pa.py_buffer(data), schema).column(0)[0].as_py()
