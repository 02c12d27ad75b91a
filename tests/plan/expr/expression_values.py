"""Values by type, thick at the edges: extremes, nulls, empty text, code points, leap days, clock changes."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from penstock.plan.expr.types import Type

US = dt.timedelta(microseconds=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
TEXTS = [
    "",
    " ",
    "a",
    "A",
    "abc",
    "a,b,,c",
    "aXbX",
    "ß",
    "é",
    "e\u0301",
    "日本語",
    "😀x",
    "İ",
    "%",
    "_",
    "\\",
    "'",
    "a.b",
]
TEXTS += ["12", " -1.5e3 ", "true", "2013-03-10", "x" * 40, "\n", "http://x.org/a?b=1"]
JSONS = ["{}", "[]", "null", "1", '"x"', '{"a": [1, {"b": "c"}], "d": null}', "[1, 2.5, -3]", "{bad", "", "true"]
JSONS += ['{"a":"\\u00e9"}', '{"a": {"b": true}}']
INSTANTS = ["1970-01-01T00:00:00", "1969-12-31T23:59:59.999999", "2012-02-29T12:00:00", "2013-03-10T06:59:59.999999"]
INSTANTS += ["2013-03-10T07:00:00", "2013-11-03T05:30:00", "2013-11-03T07:30:00", "2000-12-31T23:59:59.5"]
INSTANTS += ["2016-01-01T00:00:00", "1999-01-03T00:00:00.000001", "2024-12-30T00:00:00"]
DATES = ["1970-01-01", "1969-12-31", "2012-02-29", "2000-12-31", "2013-01-31", "1900-02-28", "2024-12-30", "2016-01-03"]

_texts = st.one_of(st.sampled_from(TEXTS), st.text(st.sampled_from("aAbB xXéß日😀%_.,-/0123"), max_size=12))
_ints = st.one_of(
    st.integers(-5, 5), st.integers(-100_000, 100_000), st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1, 0, -1]),
)  # fmt: skip
_floats = st.one_of(
    st.sampled_from([0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.285, 1.005, 1e16, 1e300, -1e300, 5e-324, 1e-9, 0.1, 123456.789]),
    st.floats(-1e6, 1e6), st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
_dates = st.one_of(
    st.sampled_from([dt.date.fromisoformat(d) for d in DATES]), st.dates(dt.date(1600, 1, 1), dt.date(2400, 1, 1))
)
_instants = st.one_of(
    st.sampled_from([dt.datetime.fromisoformat(i + "+00:00") for i in INSTANTS]),
    st.integers(-(2**52), 2**53).map(lambda us: EPOCH + us * US),
)
_durations = st.one_of(
    st.sampled_from([0, 1, -1, 86_400_000_000, 3_600_000_000, -60_000_000]), st.integers(-(10**15), 10**15)
).map(lambda us: us * US)


def values(kind: Type) -> st.SearchStrategy[Any]:
    """Values of a type, null among them."""
    return st.one_of(st.none(), _of(kind), _of(kind), _of(kind))


def plain_values(kind: Type) -> st.SearchStrategy[Any]:
    """Values of a type, none of them null."""
    return _of(kind)


def _of(kind: Type) -> st.SearchStrategy[Any]:
    match kind.name:
        case "bool":
            return st.booleans()
        case "int":
            return _ints
        case "float":
            return _floats.map(lambda value: value + 0.0)
        case "decimal":
            top = 10 ** (kind.precision - 1)
            return st.integers(-top, top).map(lambda n: Decimal(n).scaleb(-kind.scale))
        case "text":
            return _texts
        case "date":
            return _dates
        case "instant":
            return _instants
        case "duration":
            return _durations
        case "bytes":
            return st.one_of(st.binary(max_size=6), _texts.map(str.encode))
        case "json":
            return st.sampled_from(JSONS)
        case "list" if kind.element.name == "float":  # sums of these do not depend on who adds them
            return st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6).map(lambda v: round(v, 3) + 0.0)), max_size=5)
        case "list":
            return st.lists(values(kind.element), max_size=5)
        case "map":
            return st.dictionaries(_of(kind.args[0]), values(kind.args[1]), max_size=4).map(
                lambda held: list(held.items())
            )
    raise AssertionError(kind)
