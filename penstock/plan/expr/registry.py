"""The functions of expressions: their signatures, kernels, DuckDB equivalents and words, in families.

A signature is written `name(text, int?, list<T>) -> T`: `?` ends an argument that may be left out, `!` one that must
be a literal (its Python value reaches the maker, not the kernel), `*` one that repeats. T, K and V are type variables,
`decimal` any decimal, `number` an int, float or decimal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from penstock.errors import ExpressionError
from penstock.plan.expr.bound import Template
from penstock.plan.expr.kernels import Kernel, rowwise
from penstock.plan.expr.types import FLOAT, INT, NULL, TEXT, Type, decimal

__all__ = ["Family", "Function", "Overload", "Site", "common_type", "functions", "match"]

Maker: TypeAlias = "Callable[[Site], Kernel]"
Result: TypeAlias = "Type | Callable[[Site], Type]"


@dataclass(slots=True)
class Site:
    """One call being bound: what a maker of kernels may look at.

    Attributes:
        types: the types of the arguments, converted to the signature's.
        constants: the Python value of each `!` argument, None for others.
        zone: where dates and instants meet, the zone of what names none.
        refuse: makes the error for an argument: (index, reason, remedy).
        result: the type of the result.
    """

    types: tuple[Type, ...]
    constants: tuple[Any, ...]
    zone: str
    refuse: Callable[[int, str, str], ExpressionError]
    result: Type = NULL


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a signature."""

    pattern: Pattern
    constant: bool = False
    optional: bool = False
    repeats: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A type with variables: `list<T>`."""

    name: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature of a function.

    Attributes:
        signature: as written.
        params: its parameters.
        result: the type of the result, or its pattern, or a function of the site.
        make: from a site to the kernel over the arguments that are not `!`.
        duckdb: DuckDB text with the same values; None where there is none.
        nulls: `strict` (null if an argument is), `maybe`, `never`, or `all` (null if all arguments are).
    """

    signature: str
    params: tuple[Param, ...]
    result: Pattern | Callable[[Site], Type]
    make: Maker
    duckdb: Template
    nulls: str


@dataclass(slots=True)
class Function:
    """A function by its canonical name."""

    name: str
    family: str
    doc: str
    rule: str = ""
    aliases: tuple[str, ...] = ()
    overloads: list[Overload] = field(default_factory=list)


class Family:
    """Functions of one kind; modules under `functions/` make one each and fill it."""

    def __init__(self, name: str, title: str) -> None:
        self.name, self.title = name, title
        self.functions: dict[str, Function] = {}

    def add(
        self,
        signature: str,
        doc: str = "",
        *,
        kernel: Kernel | None = None,
        row: Callable[..., Any] | None = None,
        make: Maker | None = None,
        result: Callable[[Site], Type] | None = None,
        duckdb: Template = "",
        nulls: str = "strict",
        rule: str = "",
        aliases: Sequence[str] = (),
    ) -> None:
        """Adds a function, or one more signature of one already added.

        Args:
            signature: `name(args) -> result`.
            doc: one line for the reader; on the first signature.
            kernel: a kernel over the arguments, or
            row: a Python function of one row's values, null arguments skipped, or
            make: what makes the kernel for a site.
            result: the type of the result, where the signature cannot say it.
            duckdb: text with {0}, {1}...; empty for the same name in DuckDB; None for no equivalent.
            nulls: see `Overload`.
            rule: frozen semantics at the edges.
            aliases: other names.
        """
        name, params, returns = _read_signature(signature)
        if make is None:
            make = _always(kernel) if kernel is not None else _rows(row)
        if duckdb == "":
            duckdb = _same_name(name)
        function = self.functions.setdefault(name, Function(name, self.name, doc, rule, tuple(aliases)))
        function.overloads.append(Overload(signature, params, result or returns, make, duckdb, nulls))


def _always(kernel: Kernel) -> Maker:
    return lambda _site: kernel


def _rows(row: Callable[..., Any] | None) -> Maker:
    if row is None:
        raise AssertionError("a function needs a kernel, a row function or a maker")

    def make(site: Site) -> Kernel:
        kinds = [kind for kind, constant in zip(site.types, site.constants, strict=True) if constant is None]
        return rowwise(row, kinds, site.result)

    return make


def _same_name(name: str) -> Callable[[list[str]], str]:
    return lambda texts: f"{name}({', '.join(texts)})"


_SIGNATURE = re.compile(r"(\w+)\((.*)\) -> (.+)\Z")


def _read_signature(text: str) -> tuple[str, tuple[Param, ...], Pattern]:
    found = _SIGNATURE.match(text)
    assert found, text
    params = []
    for part in _split(found[2]):
        bare = part.rstrip("?!*")
        flags = part[len(bare) :]
        params.append(Param(_pattern(bare), "!" in flags, "?" in flags, "*" in flags, part))
    return found[1], tuple(params), _pattern(found[3])


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char in "<(") - (char in ">)")
        if char == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()] if text.strip() else []


@lru_cache(maxsize=512)
def _pattern(text: str) -> Pattern:
    name, _, inside = text.partition("<")
    if name == "struct":
        return Pattern(name)
    return Pattern(name, tuple(_pattern(part) for part in _split(inside[:-1])) if inside else ())


@lru_cache(maxsize=1)
def functions() -> dict[str, Function]:
    """Every function by canonical name and by alias."""
    from penstock.plan.expr.functions import FAMILIES

    found: dict[str, Function] = {}
    for family in FAMILIES:
        for function in family.functions.values():
            for name in (function.name, *function.aliases):
                assert name not in found, f"{name} is registered twice"
                found[name] = function
    return found


# matching


def common_type(left: Type, right: Type) -> Type | None:
    """The type that holds the values of both, or None: int < decimal < float, text with json, list by element."""
    if right in (left, NULL):
        return left
    if left == NULL:
        return right
    names = {left.name, right.name}
    if names <= {"int", "decimal"}:
        scale = max(left.scale, right.scale)
        whole = max(left.precision - left.scale, right.precision - right.scale)
        return decimal(min(38, whole + scale), scale)
    if names <= {"int", "decimal", "float"}:
        return FLOAT
    if names == {"text", "json"}:
        return TEXT
    if left.name == right.name and left.name in ("list", "map") and len(left.args) == len(right.args):
        parts = [common_type(a, b) for a, b in zip(left.args, right.args, strict=True)]
        return None if None in parts else Type(left.name, tuple(parts))
    return None


def match(overload: Overload, types: Sequence[Type]) -> tuple[int, tuple[Type, ...], dict[str, Type]] | None:
    """How well arguments fit a signature: (cost of the conversions, types to convert to, type variables), or None."""
    params = _spread(overload.params, len(types))
    if params is None:
        return None
    cost, variables = 0, {}  # type: int, dict[str, Type]
    for param, kind in zip(params, types, strict=True):
        step = _fit(param.pattern, kind, variables)
        if step is None:
            return None
        cost += step
    return cost, tuple(fill(p.pattern, k, variables) for p, k in zip(params, types, strict=True)), variables


def _spread(params: tuple[Param, ...], n: int) -> tuple[Param, ...] | None:
    if len(params) == n:
        return params
    if params and params[-1].repeats and n >= len(params) - 1:
        return params[:-1] + (params[-1],) * (n - len(params) + 1)
    if n < len(params) and all(p.optional for p in params[n:]):
        return params[:n]
    return None


def spread(overload: Overload, n: int) -> tuple[Param, ...]:
    """The parameters of a call with n arguments that fits."""
    return _spread(overload.params, n) or ()


_WIDENINGS = {
    ("int", "float"): 2,
    ("decimal", "float"): 3,
    ("int", "decimal"): 1,
    ("json", "text"): 1,
    ("text", "json"): 2,
}


def _fit(pattern: Pattern, kind: Type, variables: dict[str, Type]) -> int | None:
    name = pattern.name
    if len(name) == 1:
        held = variables.get(name)
        joined = kind if held is None else common_type(held, kind)
        if joined is None:
            return None
        variables[name] = joined
        return 0 if held is None or held == kind else 1
    if kind == NULL:
        return 0
    if name == kind.name:
        if name in ("list", "map") and pattern.args:
            steps = [_fit(p, t, variables) for p, t in zip(pattern.args, kind.args, strict=True)]
            return None if None in steps else sum(step or 0 for step in steps)
        return 0
    if name == "number":
        return 0 if kind.numeric else None
    return _WIDENINGS.get((kind.name, name))


def fill(pattern: Pattern, kind: Type, variables: dict[str, Type]) -> Type:
    """The type a pattern stands for, given the variables; `kind` is the argument's own."""
    name = pattern.name
    if len(name) == 1:
        return variables.get(name, NULL)
    if name == "number":
        return FLOAT if kind == NULL else kind
    if name == "decimal":
        if kind.name == "decimal":
            return kind
        return decimal(19, 0) if kind == INT else decimal(18, 3)
    if name in ("list", "map"):
        held = kind.args if kind.name == name else (NULL,) * len(pattern.args)
        return Type(name, tuple(fill(p, t, variables) for p, t in zip(pattern.args, held, strict=True)))
    if name == "struct":
        return kind
    return Type(name)
