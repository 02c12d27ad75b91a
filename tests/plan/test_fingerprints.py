from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.define import Agg, Definitions, load
from penstock.define.relation import Group
from penstock.define.stream import Stream
from penstock.plan import plan

SCHEMA = {"at": "instant", "k": "int", "a": "decimal(12,2)", "b": "float?", "ok": "bool?"}


def stream(**changes: Any) -> Stream:
    return ps.stream("s", time="at", schema=SCHEMA, **changes)


def fingerprint(group: Group) -> str:
    return plan(Definitions.of(group)).groups[group.name].fingerprint


AGGS = {
    "n": ps.count(),
    "total": ps.sum("a"),
    "top": ps.max("b").where("ok"),
    "part": ps.share("a > 5"),
    "by": ps.count().per("k"),
    "news": ps.last_n(3, "a", "b"),
}


@given(st.permutations(list(AGGS)), st.permutations(list(SCHEMA)))
def test_the_order_in_which_names_are_written_changes_nothing(aggs: list[str], columns: list[str]) -> None:
    source = ps.stream("s", time="at", schema={name: SCHEMA[name] for name in columns})
    written: dict[str, Any] = {name: AGGS[name] for name in aggs}
    plain: dict[str, Any] = dict(AGGS)
    made = source.by("k").over("1h").features("g", **written)
    assert fingerprint(made) == fingerprint(stream().by("k").over("1h").features("g", **plain))


@pytest.mark.parametrize("text", ["SUM", "a+1", " a  +  1 ", "(a + 1)"])
def test_spacing_and_parentheses_change_nothing(text: str) -> None:
    text = "a + 1" if text == "SUM" else text
    wanted = fingerprint(stream().by("k").features("g", x=ps.sum("a + 1")))
    assert fingerprint(stream().by("k").features("g", x=ps.sum(text))) == wanted


def test_neither_the_stored_name_nor_the_lateness_of_a_watermark_is_part_of_what_is_computed() -> None:
    wanted = fingerprint(stream().by("k").features("g", n=ps.count()))
    assert fingerprint(stream().by("k").features("other", n=ps.count())) == wanted
    assert fingerprint(stream(late="5min").by("k").features("g", n=ps.count())) == wanted


BASE = {"agg": ps.sum("a"), "window": "1h", "condition": None, "late": "1h", "stream": {}}
CHANGES: list[dict[str, Any]] = [
    {"agg": ps.mean("a")},
    {"agg": ps.sum("a + 1")},
    {"agg": ps.sum("a").where("ok")},
    {"window": "2h"},
    {"window": ps.window("1h", hop="exact")},
    {"window": ps.window("1h", offset="1h", name="1h")},
    {"window": ps.window("1h", closed="both")},
    {"condition": "ok"},
    {"late": "2h"},
    {"stream": {"known": "at - 1d"}},
    {"stream": {"dedup": "7d"}},
    {"stream": {"max_ahead": "1h"}},
]


def varied(**change: Any) -> str:
    values = {**BASE, **change}
    source: Any = stream(**values["stream"])
    if values["condition"]:
        source = source.where(values["condition"])
    agg: Agg = values["agg"]
    return fingerprint(source.by("k").over(values["window"]).features("g", observations_late=values["late"], x=agg))


def test_whatever_changes_an_answer_changes_the_fingerprint() -> None:
    found = [varied(), *(varied(**change) for change in CHANGES)]
    assert len(set(found)) == len(found)


PROJECT = """
import penstock as ps
source = ps.stream("s", time="at", schema={"at": "instant", "k": "int", "v": "float"})

@ps.function
def twice(x: float) -> float:
    return x * FACTOR

class Top(ps.Aggregate):
    def lift(self, x: float) -> float: return x
    def merge(self, p: float, q: float) -> float: return max(p, q)
    def finalize(self, s: float) -> float: return s + SHIFT

g = source.by("k").over("1h").features("g", x=ps.sum("twice(v)"), n=ps.count())
h = source.by("k").over("1h").features("h", x=Top.of("v"))
v = ps.view("v", ps.inputs(k="int"), g, h)
"""


def project(folder: Path, factor: str = "2", shift: str = "0", text: str = PROJECT) -> dict[str, str]:
    folder.mkdir()
    (folder / "definitions.py").write_text(text.replace("FACTOR", factor).replace("SHIFT", shift))
    made = plan(load(folder))
    return {name: node.fingerprint for name, node in [*made.relations.items(), *made.views.items()]}


def test_the_place_and_the_variables_of_a_definition_change_nothing(tmp_path: Path) -> None:
    moved = "# moved down\n\n" + PROJECT.replace("source", "renamed").replace("\ng =", "\nrenamed_g =")
    moved = moved.replace('int"), g, h', 'int"), renamed_g, h')
    assert project(tmp_path / "a") == project(tmp_path / "b", text=moved)


def test_the_code_of_functions_and_aggregates_is_part_of_what_uses_it(tmp_path: Path) -> None:
    was = project(tmp_path / "a")
    function, aggregate = project(tmp_path / "b", factor="3"), project(tmp_path / "c", shift="1")
    assert {name for name in was if was[name] != function[name]} == {"g", "v"}
    assert {name for name in was if was[name] != aggregate[name]} == {"h", "v"}
