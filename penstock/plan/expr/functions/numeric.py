"""Functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Any

import numpy as np
import pyarrow.compute as pc

from penstock.plan.expr.casts import quantized, rescale
from penstock.plan.expr.kernels import INT_MAX, INT_MIN, Kernel, arrow, clean, cleaned, numpy_float, one, rowwise
from penstock.plan.expr.operators import remainder
from penstock.plan.expr.registry import Family, Site
from penstock.plan.expr.types import FLOAT, INT, Type, decimal

__all__ = ["NUMERIC"]

NUMERIC = Family("numeric", "Numbers")
_add = NUMERIC.add
_WIDE = Context(prec=100)


def _identity(values: Any) -> Any:
    return values


def _absolute(value: int) -> int | None:
    return abs(value) if value != INT_MIN else None


_add(
    "abs(int) -> int",
    "Absolute value.",
    row=_absolute,
    duckdb="TRY(abs({0}))",
    nulls="maybe",
    rule="null for the least int, which has no positive",
)
_add("abs(float) -> float", kernel=arrow("abs"))
_add("abs(decimal) -> decimal", kernel=arrow("abs"), result=lambda site: site.types[0])
_add("sign(int) -> int", "-1, 0 or 1.", row=lambda v: (v > 0) - (v < 0))
_add("sign(float) -> int", row=lambda v: (v > 0) - (v < 0))
_add("sign(decimal) -> int", row=lambda v: (v > 0) - (v < 0))


def _whole(site: Site) -> Type:
    kind = site.types[0]
    return decimal(min(38, kind.precision - kind.scale + 1), 0)


def _rounded(mode: str) -> Callable[[Site], Kernel]:
    def make(site: Site) -> Kernel:
        return rowwise(lambda v: v.quantize(Decimal(1), rounding=mode, context=_WIDE), site.types, site.result)

    return make


def _towards(name: str, doc: str, mode: str, aliases: tuple[str, ...] = ()) -> None:
    _add(f"{name}(int) -> int", doc, kernel=_identity, duckdb="{0}", aliases=aliases)
    _add(f"{name}(float) -> float", kernel=cleaned(arrow(name)))
    _add(f"{name}(decimal) -> decimal", make=_rounded(mode), result=_whole)


_towards("ceil", "Least whole number not below.", ROUND_CEILING, ("ceiling",))
_towards("floor", "Greatest whole number not above.", ROUND_FLOOR)
_towards("trunc", "Whole part, toward zero.", ROUND_DOWN)


def _places(site: Site) -> int:
    return int(site.constants[1]) if len(site.constants) > 1 else 0


def _round_float(site: Site) -> Kernel:
    places = _places(site)
    if not -300 <= places <= 300:
        raise site.refuse(1, "digits are -300 to 300", "write fewer")
    scale = 10.0 ** abs(places)

    def run(values: Any) -> Any:
        if places == 0:
            return clean(_half_away(values))
        shifted = _multiply(values, scale) if places > 0 else _divide(values, scale)
        near = _half_away(shifted)
        back = _divide(near, scale) if places > 0 else _multiply(near, scale)
        # a value too great to shift has no digits there
        return clean(_if_else(_is_finite(shifted), back, values))

    return run


_half_away = arrow("round", pc.RoundOptions(0, "half_towards_infinity"))
_multiply, _divide, _if_else, _is_finite = arrow("multiply"), arrow("divide"), arrow("if_else"), arrow("is_finite")


def _round_sql(texts: list[str]) -> str:
    return f"round({texts[0]}, CAST({texts[1]} AS INTEGER))" if len(texts) > 1 else f"round({texts[0]})"


def _round_int(site: Site) -> Kernel:
    places = _places(site)
    if places >= 0:
        return _identity
    unit = 10 ** min(-places, 30)

    def one(value: int) -> int:
        magnitude: int = (abs(value) + unit // 2) // unit * unit
        return magnitude if value >= 0 else -magnitude

    return rowwise(one, (INT,), INT)


def _round_decimal_type(site: Site) -> Type:
    kind, places = site.types[0], _places(site)
    scale = min(kind.scale, max(0, places))
    return decimal(min(38, kind.precision - kind.scale + scale + (scale < kind.scale)), scale)


def _round_decimal(site: Site) -> Kernel:
    places = _places(site)
    if places >= 0:
        return (
            rescale(site.result)
            if places >= site.types[0].scale
            else rowwise(lambda v: quantized(v, site.result), (site.types[0],), site.result)
        )
    unit = Decimal(1).scaleb(-places)

    def one(value: Decimal) -> Any:
        return quantized((value / unit).quantize(Decimal(1), rounding=ROUND_HALF_UP, context=_WIDE) * unit, site.result)

    return rowwise(one, (site.types[0],), site.result)


_add(
    "round(float, int!?) -> float",
    "Nearest number with that many digits after the point (0), halves away from zero.",
    make=_round_float,
    duckdb=_round_sql,
    rule="digits may be negative; a literal",
)
_add("round(int, int!?) -> int", make=_round_int, duckdb=lambda t: f"TRY({_round_sql(t)})", nulls="maybe")
_add(
    "round(decimal, int!?) -> decimal",
    make=_round_decimal,
    duckdb=_round_sql,
    result=_round_decimal_type,
    nulls="maybe",
)


def _float(name: str, doc: str, kernel: Kernel, *, duckdb: str = "", rule: str = "", alias: str = "") -> None:
    text, aliases = duckdb or f"TRY({name}({{0}}))", (alias,) if alias else ()
    _add(f"{name}(float) -> float", doc, kernel=kernel, duckdb=text, nulls="maybe", rule=rule, aliases=aliases)


_float("sqrt", "Square root.", cleaned(arrow("sqrt")), rule="null below 0")
_float("cbrt", "Cube root.", numpy_float(np.cbrt))
_float("exp", "e to that power.", cleaned(arrow("exp")), rule="null on overflow")
_float("expm1", "exp(x) - 1, exact near 0.", numpy_float(np.expm1), duckdb="TRY(exp({0}) - 1)")
_float("ln", "Natural logarithm.", cleaned(arrow("ln")), rule="null at 0 and below")
_float(
    "log1p", "ln(1 + x), exact near 0.", numpy_float(np.log1p), duckdb="TRY(ln(1 + {0}))", rule="null at -1 and below"
)
_float("log10", "Decimal logarithm.", cleaned(arrow("log10")), rule="null at 0 and below", alias="log")
_float("log2", "Binary logarithm.", cleaned(arrow("log2")), rule="null at 0 and below")
for _name, _doc in (
    ("sin", "Sine of radians."), ("cos", "Cosine of radians."), ("tan", "Tangent of radians."), ("asin", "Arc sine."),
    ("acos", "Arc cosine."), ("atan", "Arc tangent."),
):  # fmt: skip
    _float(_name, _doc, cleaned(arrow(_name)), rule="null outside -1 to 1" if _name in ("asin", "acos") else "")
_float("sinh", "Hyperbolic sine.", numpy_float(np.sinh))
_float("cosh", "Hyperbolic cosine.", numpy_float(np.cosh))
_float("tanh", "Hyperbolic tangent.", numpy_float(np.tanh))
_float("cot", "Cotangent of radians.", numpy_float(lambda v: 1.0 / np.tan(v)))
_float("degrees", "Radians in degrees.", numpy_float(lambda v: v * (180.0 / math.pi)))
_float("radians", "Degrees in radians.", numpy_float(lambda v: v * (math.pi / 180.0)))
_float(
    "sigmoid",
    "1 / (1 + e^-x).",
    numpy_float(lambda v: 1.0 / (1.0 + np.exp(-v))),
    duckdb="TRY(1 / (1 + exp(-{0})))",
    rule="0 or 1 in the far tails",
)
_float(
    "logit",
    "ln(p / (1 - p)).",
    numpy_float(lambda p: np.log(p / (1.0 - p))),
    duckdb="TRY(ln({0} / (1 - {0})))",
    rule="null outside 0 to 1, ends included",
)
_add("atan2(float, float) -> float", "Angle of (y, x) in radians.", kernel=cleaned(arrow("atan2")))
_add(
    "pow(float, float) -> float",
    "x to the power y, as x ^ y.",
    kernel=cleaned(arrow("power")),
    nulls="maybe",
    duckdb="TRY(pow({0}, {1}))",
    rule="null where there is no finite real result",
    aliases=("power",),
)
_add(
    "fmod(float, float) -> float",
    "Remainder with the sign of x, as x % y.",
    kernel=numpy_float(np.fmod),
    duckdb="({0} % {1})",
    nulls="maybe",
    rule="null for y = 0",
)
_add(
    "mod(int, int) -> int",
    "Remainder with the sign of x, as x % y.",
    kernel=remainder,
    duckdb="TRY({0} % nullif({1}, 0))",
    nulls="maybe",
    rule="null for y = 0",
)
_add("mod(float, float) -> float", kernel=numpy_float(np.fmod), duckdb="({0} % {1})", nulls="maybe")
_add("pi() -> float", "The number pi.", kernel=lambda: one(math.pi, FLOAT), nulls="never")
_add("e() -> float", "The number e.", kernel=lambda: one(math.e, FLOAT), nulls="never", duckdb="exp(1)")


def _gcd(a: int, b: int) -> int | None:
    found = math.gcd(a, b)
    return found if found <= INT_MAX else None


_add(
    "gcd(int, int) -> int",
    "Greatest common divisor.",
    row=_gcd,
    duckdb="TRY(gcd({0}, {1}))",
    nulls="maybe",
    aliases=("greatest_common_divisor",),
)
_add(
    "lcm(int, int) -> int",
    "Least common multiple.",
    row=math.lcm,
    duckdb="TRY(lcm({0}, {1}))",
    nulls="maybe",
    rule="null on overflow",
    aliases=("least_common_multiple",),
)
_add(
    "factorial(int) -> int",
    "Product of 1 to n.",
    row=lambda n: math.factorial(n) if 0 <= n <= 20 else None,
    duckdb="CASE WHEN {0} BETWEEN 0 AND 20 THEN factorial(CAST({0} AS INTEGER)) END",
    nulls="maybe",
    rule="null below 0 and above 20",
)
_add(
    "even(float) -> float",
    "Next even whole number away from zero.",
    row=lambda v: math.copysign(-2.0 * (-abs(v) // 2.0), v),
)


def _clip(site: Site) -> Kernel:
    low, high = (
        arrow("max_element_wise", pc.ElementWiseAggregateOptions(skip_nulls=False)),
        arrow("min_element_wise", pc.ElementWiseAggregateOptions(skip_nulls=False)),
    )
    return lambda values, least, most: high(low(values, least), most)


_add(
    "clip(T, T, T) -> T",
    "The value held between a least and a greatest.",
    make=_clip,
    duckdb="CASE WHEN {0} IS NULL OR {1} IS NULL OR {2} IS NULL THEN NULL ELSE least(greatest({0}, {1}), {2}) END",
    rule="the greatest wins where the two cross",
)


def _bucket(value: float, edges: list[float | None]) -> int:
    return sum(edge is not None and value >= edge for edge in edges)


_add(
    "bucketize(float, list<float>) -> int",
    "How many edges lie at or below the value: its bucket, from 0.",
    row=_bucket,
    duckdb="CASE WHEN {0} IS NOT NULL THEN len(list_filter({1}, lambda e: e <= {0})) END",
)
