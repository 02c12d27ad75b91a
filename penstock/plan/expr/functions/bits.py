"""Functions of the bits of ints."""

from __future__ import annotations

from penstock.plan.expr.kernels import arrow
from penstock.plan.expr.registry import Family

__all__ = ["BITS"]

BITS = Family("bits", "Bits")
BITS.add("xor(int, int) -> int", "Bits set in exactly one of the two.", kernel=arrow("bit_wise_xor"))
BITS.add("bit_count(int) -> int", "Number of bits set, of 64.", row=lambda v: (v & 0xFFFF_FFFF_FFFF_FFFF).bit_count())
BITS.add(
    "bit_test(int, int) -> bool",
    "True if bit n (from 0, the lowest) is set.",
    row=lambda v, n: bool(v >> n & 1) if 0 <= n < 64 else None,
    duckdb="CASE WHEN {1} BETWEEN 0 AND 63 THEN ({0} >> {1}) & 1 = 1 END",
    nulls="maybe",
    rule="null unless 0 <= n < 64",
)
