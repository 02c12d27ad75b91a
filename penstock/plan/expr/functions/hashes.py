"""Hashes. They are published algorithms, so that a value hashed elsewhere is the same."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any

from penstock.plan.expr.kernels import Kernel, rowwise
from penstock.plan.expr.registry import Family, Site
from penstock.plan.expr.types import Type

__all__ = ["HASHES"]

HASHES = Family("hashes", "Hashes")
_add = HASHES.add


def _digest(name: str) -> Callable[[str | bytes], str]:
    make = getattr(hashlib, name)

    def run(value: str | bytes) -> str:
        found: str = make(value.encode() if isinstance(value, str) else value, usedforsecurity=False).hexdigest()
        return found

    return run


for _name in ("md5", "sha1", "sha256"):
    _add(f"{_name}(text) -> text", f"{_name.upper()} of the bytes in UTF-8, as hexadecimal digits.", row=_digest(_name))
    _add(f"{_name}(bytes) -> text", row=_digest(_name))


def _bytes_of(kind: Type) -> Callable[[Any], bytes]:
    if kind.name == "int":
        return lambda value: b"i" + int(value).to_bytes(8, "little", signed=True)
    if kind.name == "bytes":
        return lambda value: b"b" + bytes(value)
    return lambda value: b"t" + str(value).encode()


def _hash64(kind: Type) -> Callable[[Any], int]:
    prepare = _bytes_of(kind)

    def run(value: Any) -> int:
        return int.from_bytes(hashlib.blake2b(prepare(value), digest_size=8).digest(), "little", signed=True)

    return run


def _make_hash(site: Site) -> Kernel:
    return rowwise(_hash64(site.types[0]), site.types[:1], site.result)


def _make_bucket(site: Site) -> Kernel:
    buckets = site.constants[1]
    if buckets < 1:
        raise site.refuse(1, "there is at least one bucket", "write hash_bucket(x, 1000)")
    hashed = _hash64(site.types[0])
    return rowwise(lambda value: (hashed(value) & 0xFFFF_FFFF_FFFF_FFFF) % buckets, site.types[:1], site.result)


_RULE = "BLAKE2b of 8 bytes, little end first, over b't' + UTF-8, b'i' + 8 bytes, or b'b' + bytes"
for _kind in ("int", "text", "bytes"):
    _add(f"hash64({_kind}) -> int", "A hash of 64 bits.", make=_make_hash, duckdb=None, rule=_RULE)
    _add(
        f"hash_bucket({_kind}, int!) -> int",
        "A hash of the value in 0 to n - 1.",
        make=_make_bucket,
        duckdb=None,
        rule="hash64(x), read without sign, modulo n",
    )
_add("crc32(text) -> int", "CRC-32 of the bytes in UTF-8.", row=lambda v: zlib.crc32(v.encode()), duckdb=None)
