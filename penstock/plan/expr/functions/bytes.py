"""Text as bytes and back."""

from __future__ import annotations

import base64
import binascii

from penstock.plan.expr.registry import Family

__all__ = ["BYTES_FAMILY"]

BYTES_FAMILY = Family("bytes", "Bytes")
_add = BYTES_FAMILY.add


def _decode(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _unhex(value: str) -> bytes | None:
    try:
        return binascii.unhexlify("0" * (len(value) % 2) + value)
    except ValueError:
        return None


def _from_base64(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        return None


_add("encode(text) -> bytes", "The bytes of the text in UTF-8.", row=str.encode)
_add(
    "decode(bytes) -> text",
    "The text of bytes in UTF-8.",
    row=_decode,
    nulls="maybe",
    duckdb="TRY(decode({0}))",
    rule="null where they are none",
)
_add("octet_count(bytes) -> int", "Number of bytes.", row=len, duckdb="octet_length({0})")
_add(
    "hex(text) -> text",
    "Bytes as hexadecimal digits, upper case; of an int, its 64 bits without leading zeros.",
    row=lambda v: v.encode().hex().upper(),
    aliases=("to_hex",),
)
_add("hex(bytes) -> text", row=lambda v: v.hex().upper())
_add("hex(int) -> text", row=lambda v: f"{v & 0xFFFF_FFFF_FFFF_FFFF:X}")
_add(
    "unhex(text) -> bytes",
    "The bytes of hexadecimal digits.",
    row=_unhex,
    nulls="maybe",
    duckdb="TRY(unhex({0}))",
    rule="null where they are none",
    aliases=("from_hex",),
)
_add("to_base64(bytes) -> text", "Bytes in base 64.", row=lambda v: base64.b64encode(v).decode(), aliases=("base64",))
_add(
    "from_base64(text) -> bytes",
    "The bytes of base 64.",
    row=_from_base64,
    nulls="maybe",
    duckdb="TRY(from_base64({0}))",
    rule="null where it is none",
)
_add(
    "bin(int) -> text",
    "The 64 bits of an int as binary digits without leading zeros.",
    row=lambda v: f"{v & 0xFFFF_FFFF_FFFF_FFFF:b}",
    aliases=("to_binary",),
)
