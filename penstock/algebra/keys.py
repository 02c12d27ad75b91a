"""Keys: canonical bytes, the published hash, shards, and dense codes. `docs/design/keys.md` is the contract.

A key is a tuple of int, text, bool and date parts. Its bytes are, per part, a tag (1, 4, 2, 3) and the value: 8 bytes
of an int, 1 of a bool, 4 of a date (days since 1970-01-01), or a length of 4 bytes and UTF-8 of a text; little-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from penstock.algebra.binding import ffi, lib
from penstock.errors import DataError, EngineError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SHARDS", "KeyEncoder", "key_bytes", "key_hash", "key_hashes", "shard_of", "xxh64"]

SHARDS: Final = 1024
KeyPart = int | str | bool | date
_EPOCH: Final = date(1970, 1, 1)
_INT, _BOOL, _DATE, _TEXT = 1, 2, 3, 4


def key_bytes(key: Sequence[KeyPart]) -> bytes:
    """Canonical bytes of a key.

    >>> key_bytes([11, "a"]).hex()
    '010b00000000000000040100000061'

    Raises:
        DataError: a part is of another type (float keys are refused), null, or an int beyond 64 bits.
    """
    return b"".join(_part_bytes(part) for part in key)


def _part_bytes(part: KeyPart) -> bytes:
    if isinstance(part, bool):
        return bytes([_BOOL, part])
    if isinstance(part, int) and -(2**63) <= part < 2**63:
        return bytes([_INT]) + part.to_bytes(8, "little", signed=True)
    if isinstance(part, str):
        text = part.encode()
        return bytes([_TEXT]) + len(text).to_bytes(4, "little") + text
    if type(part) is date:
        return bytes([_DATE]) + (part - _EPOCH).days.to_bytes(4, "little", signed=True)
    raise DataError("a key part", found=repr(part), remedy="use int (64 bits), text, bool or date")


def xxh64(data: bytes, seed: int = 0) -> int:
    """XXH64 of bytes.

    >>> hex(xxh64(b"abc"))
    '0x44bc2cf5ad770999'
    """
    return int(lib.ps_xxh64(data, len(data), seed))


def key_hash(key: Sequence[KeyPart]) -> int:
    """The published 64-bit hash of a key: XXH64, seed 0, of its canonical bytes."""
    return xxh64(key_bytes(key))


def shard_of(hashes: npt.NDArray[np.uint64] | int) -> Any:
    """Virtual shard, 0 to 1023, of one hash or of many: the top 10 bits.

    >>> shard_of(2**64 - 1)
    1023
    """
    return hashes >> 54 if isinstance(hashes, int) else (hashes >> np.uint64(54)).astype(np.int32)


def key_hashes(columns: Sequence[pa.Array]) -> npt.NDArray[np.uint64]:
    """Hashes of the keys whose parts are the columns' values; at nulls the hash means nothing.

    Raises:
        DataError: a column is of another type than int, text, bool or date.
    """
    parts = _Parts(columns)
    out = np.empty(parts.n, np.uint64)
    if lib.ps_key_hashes(parts.pointer, len(columns), parts.n, ffi.cast("uint64_t *", out.ctypes.data)) < 0:
        raise EngineError("hashing keys", found="not enough memory", remedy="hash fewer rows at a time")
    return out


class KeyEncoder:
    """Dense int64 codes of keys, from 0 by first appearance; keys of later batches go on where the last ended."""

    def __init__(self) -> None:
        made = lib.ps_encoder_new()
        if made == ffi.NULL:
            raise EngineError("encoding keys", found="not enough memory")
        self._encoder = ffi.gc(made, lib.ps_encoder_free)
        self._kinds: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return int(lib.ps_encoder_size(self._encoder))

    def encode(self, columns: Sequence[pa.Array], *, add: bool = True) -> npt.NDArray[np.int64]:
        """Codes of a batch of keys; -1 where a part is null and, unless `add`, where the key is unknown.

        Raises:
            DataError: a column is of another type than int, text, bool or date, or than in the first batch.
        """
        parts = _Parts(columns)
        if self._kinds not in (None, parts.kinds):
            raise DataError("keys of the same types in every batch", found=f"{[str(c.type) for c in columns]}")
        self._kinds = parts.kinds
        codes = np.empty(parts.n, np.int64)
        valid = ffi.NULL if parts.valid is None else ffi.cast("uint8_t *", parts.valid.ctypes.data)
        out = ffi.cast("int64_t *", codes.ctypes.data)
        if lib.ps_encode(self._encoder, parts.pointer, len(columns), parts.n, valid, int(add), out) < 0:
            raise EngineError("encoding keys", found="not enough memory, or 2**31 keys", remedy="split the keys")
        return codes


class _Parts:
    """Arrow key columns as the kernel reads them."""

    def __init__(self, columns: Sequence[pa.Array]) -> None:
        self.n = len(columns[0])
        self._keep: list[Any] = []
        self.pointer = ffi.new("ps_part[]", len(columns))
        self.valid: npt.NDArray[np.uint8] | None = None
        kinds = []
        for i, column in enumerate(columns):
            plain = _plain(column)
            kinds.append(self._part(self.pointer[i], plain))
            if plain.null_count:
                flags = plain.is_valid().to_numpy(zero_copy_only=False).view(np.uint8)
                self.valid = flags if self.valid is None else self.valid & flags
        self.kinds = tuple(kinds)

    def _part(self, part: Any, column: pa.Array) -> int:
        import pyarrow as pa

        kind, buffers = column.type, column.buffers()
        if pa.types.is_large_string(kind) or pa.types.is_string(kind):
            wide = pa.types.is_large_string(kind)
            size, data = (8 if wide else 4), buffers[2]
            part.kind, part.wide = _TEXT, int(wide)
            part.offsets = ffi.cast("void *", buffers[1].address + column.offset * size)
            part.values = ffi.cast("void *", data.address) if data is not None else ffi.NULL
            self._keep.append(buffers)
            return _TEXT
        if pa.types.is_boolean(kind):
            return self._flat(part, _BOOL, column.fill_null(False).to_numpy(zero_copy_only=False).view(np.uint8))
        days = pa.types.is_date32(kind)
        column = column.cast(pa.int32()) if days else column
        values = (column.fill_null(0) if column.null_count else column).to_numpy()
        return self._flat(part, _DATE if days else _INT, values if days else values.astype(np.int64, copy=False))

    def _flat(self, part: Any, kind: int, values: npt.NDArray[Any]) -> int:
        values = np.ascontiguousarray(values)
        part.kind, part.values = kind, ffi.cast("void *", values.ctypes.data)
        self._keep.append(values)
        return kind


def _plain(column: pa.Array) -> pa.Array:
    """The column as one array of int64, bool, date32, string or large_string.

    Raises:
        DataError: it is of another type.
    """
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return column if kind == pa.int64() else column.cast(pa.int64())
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if any(
        test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_date32)
    ):
        return column
    raise DataError("a key of int, text, bool or date parts", found=f"a column of {kind}", remedy="cast the column")
