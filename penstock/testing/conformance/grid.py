"""The grid: every operator with every modifier over every kind of window, on one fixed set of rows."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any

import penstock.define as ps
from penstock.define.aggregate import Agg
from penstock.define.project import Definitions
from penstock.define.stream import Stream
from penstock.define.window import Window
from penstock.testing.conformance.cases import Case, GroupQuery, Query, RowsQuery, Tempo
from penstock.testing.conformance.matrix import MATRIX, Matrix
from penstock.testing.conformance.suite import check
from penstock.testing.oracle import Door, Row
from penstock.testing.spread import Spread

__all__ = ["END_US", "check_grid", "grid"]

SECOND = 1_000_000
START_US = 1_767_225_600 * SECOND  # 2026-01-01 00:00 UTC
END_US = 2**61
"""A known time after everything."""

PLAIN: dict[str, Agg] = {
    "count": ps.count(), "count_x": ps.count("x"), "sum": ps.sum("x"), "sum_i": ps.sum("i"), "sum_m": ps.sum("m"),
    "mean": ps.mean("x"), "mean_m": ps.mean("m"), "share": ps.share("x > 2"), "min": ps.min("x"), "min_m": ps.min("m"),
    "max": ps.max("i"), "max_m": ps.max("m"), "variance": ps.variance("x"), "std": ps.std("i"), "first": ps.first("x"),
    "first_w": ps.first("w"), "last": ps.last("w"), "last_m": ps.last("m"), "last_n": ps.last_n(3, "i"),
    "last_n_two": ps.last_n(2, "w", "x"), "distinct": ps.distinct("i"), "distinct_w": ps.distinct("w"),
    "distinct_approx": ps.distinct("i", approx=True), "decayed_sum": ps.decayed_sum("x", "30s"),
    "decayed_count": ps.decayed_count("1min"), "ratio": ps.ratio("x", "i"), "ratio_m": ps.ratio("m", "i"),
    "custom": Spread.of("i"),
}  # fmt: skip
WINDOWS: dict[str, tuple[Window, ...]] = {
    "exact": (ps.window("50s", hop="exact"), ps.window("5min", hop="exact")),
    "hopped": (ps.window("5min"), ps.window("50s", hop="15s")),
    "offset": (ps.window("50s", hop="exact", offset="20s"), ps.window("5min", offset="30s"),
        ps.rows(3).with_defaults(None, "20s", None)),
    "ahead": (ps.window("50s", hop="exact", offset="-20s"),),
    "rows": (ps.rows(1), ps.rows(4)),
    "lifetime": (ps.lifetime(),),
    "calendar": (ps.today("Asia/Shanghai"), ps.this_month("America/New_York")),
    "right": (ps.window("50s", hop="exact", closed="right"), ps.window("5min", closed="right")),
    "both": (ps.window("50s", hop="exact", closed="both"), ps.lifetime().with_defaults(None, None, "both")),
}  # fmt: skip


def _modified() -> dict[str, Any]:
    return {
        **PLAIN,
        **{f"{name}_where": agg.where("flag") for name, agg in PLAIN.items()},
        **{f"{name}_per": agg.per("w") for name, agg in PLAIN.items()},
    }


def _rows(stream: Stream, random: Random) -> tuple[Row, ...]:
    k, door = START_US, Door(stream)
    for number in range(60):
        k += random.choice((0, 1, 1, 5, 20)) * SECOND
        t = k - random.choice((0, 0, 0, 1, 10, 60, -2)) * SECOND
        values = {
            "a": random.choice((1, 1, 2, None)),
            "x": random.choice((0.5, 1.25, 3.0, 7.5, None)),
            "i": random.choice((1, 2, 3, 5, None)),
            "m": random.choice((Decimal("0.10"), Decimal("12.34"), None)),
            "w": random.choice(("a", "b", "", None)),
            "flag": random.choice((True, True, False, None)),
        }
        known = random.randrange(number + 1)
        id, op = random.choice(
            ((f"e{number}", "insert"), (f"e{number}", "insert"), (f"e{known}", "upsert"), (f"e{known}", "delete"))
        )
        door.take([Row(t, k, {**values, "at": t, "known_at": k, "id": id, "op": op}, id, op, 0, random.choice((0, 1)))])
    return tuple(door.accepted)


def _queries(group: str, rows: tuple[Row, ...], random: Random, own: bool) -> list[Query]:
    queries: list[Query] = []
    for row in random.sample([row for row in rows if row.values["a"] is not None], 10):
        if own and row.op != "delete":
            queries.append(GroupQuery(group, (row.values["a"],), row.t, row.t, row))
        q = row.t + random.choice((0, 1, 50, 20, 70, 300)) * SECOND
        queries.append(GroupQuery(group, (row.values["a"],), q, q + random.choice((0, 0, 0, 30, -10)) * SECOND))
    end = rows[-1].k
    queries += [GroupQuery(group, (1,), end + 1, end + 1), GroupQuery(group, (9,), end, end)]
    return [*queries, RowsQuery(group, END_US)]


@cache
def grid() -> tuple[Case, ...]:
    """A case for each kind of window, with every operator and modifier."""
    return tuple(_grid())


def _grid() -> Iterator[Case]:
    schema = {"a": "int?", "x": "float?", "i": "int?", "m": "decimal(12,2)?", "w": "text?", "flag": "bool?",
              "at": "instant", "known_at": "instant", "id": "text?", "op": "text?"}  # fmt: skip
    stream = ps.stream("ev", time="at", known="known_at", id="id", op="op", schema=schema)
    rows = _rows(stream, Random(7))  # noqa: S311 a fixed set of rows
    for kind, windows in WINDOWS.items():
        group = stream.by("a").over(*windows).features(f"g_{kind}", **_modified())
        queries = _queries(group.name, rows, Random(11), own=False)  # noqa: S311
        yield Case(Definitions.of(group), {"ev": rows}, queries, f"grid: {kind}")
    windows = (ps.window("50s", hop="exact"), ps.window("5min"), *WINDOWS["rows"], ps.lifetime())
    group = stream.by("a").over(*windows, include_self=True).features("g_self", **_modified())
    queries = _queries(group.name, rows, Random(11), own=True)  # noqa: S311
    yield Case(Definitions.of(group), {"ev": rows}, queries, "grid: include_self")


def check_grid(tempo: Tempo, matrix: Matrix = MATRIX) -> int:
    """Compares a tempo with the oracle over the whole grid; from then on an empty cell fails the test run."""
    matrix.require(tempo.name)
    return sum(check(case, tempo, matrix) for case in grid())
