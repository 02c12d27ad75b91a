"""Runs the golden cases of `cases/*.yaml`: each sentence of time.md, by hand, against the oracle.

A case has `given` (definitions in Python), `rows` by stream ([t, k, values, {id, op, partition, ordinal}]), and `ask`:
of a `group` or a `view` the columns it `gives` and their `status`, of `rows` a relation's [t, k, values], of `samples`
[revision, t, k, values], of a `door` its counts. Instants are seconds from 2026-01-01 or text with a zone; `a` is an
instant, `occurred`, or positions by `stream/partition`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

import penstock.define as ps
from penstock.define.project import Definitions
from penstock.define.relation import Group, Joined
from penstock.define.sample import Samples
from penstock.define.stream import Stream, Table
from penstock.define.view import View
from penstock.testing.oracle import Answer, Door, Oracle, Row, samples
from penstock.testing.oracle.answers import plain_value
from penstock.testing.oracle.rows import instant_us
from penstock.testing.spread import Spread

START_US = instant_us(datetime.fromisoformat("2026-01-01T00:00:00+00:00"))


def cases() -> Iterator[Any]:
    for file in sorted((Path(__file__).parent / "cases").glob("*.yaml")):
        for case in yaml.safe_load(file.read_text()):
            yield pytest.param(case, id=f"{file.stem}: {case['title']}")


def us(value: str | float) -> int:
    if isinstance(value, str):
        return instant_us(datetime.fromisoformat(value))
    return START_US + round(value * 1_000_000)


def known(value: Any) -> Any:
    if isinstance(value, dict):
        return {(name.split("/")[0], int(name.split("/")[1])): n for name, n in value.items()}
    return None if value == "occurred" else us(value)


def value_of(given: Any) -> Any:
    """A value as written: `!decimal` is text such as `m"1.50"`, NaN and infinity are YAML's."""
    if isinstance(given, str) and given.startswith('m"'):
        return Decimal(given[2:-1])
    if isinstance(given, dict):
        return {key: value_of(inner) for key, inner in given.items()}
    return [value_of(inner) for inner in given] if isinstance(given, list) else given


def as_row(given: list[Any]) -> Row:
    t, k, values, *more = given
    return Row(us(t), us(k), value_of(values), **(more[0] if more else {}))


def world(case: Mapping[str, Any]) -> tuple[dict[str, Any], Definitions, dict[str, Door], Oracle]:
    names: dict[str, Any] = {"ps": ps, "Spread": Spread, **{name: getattr(ps, name) for name in ps.__all__}}
    exec(case["given"], names)
    kinds = (Stream, Table, Joined, Group, View, Samples)
    made: list[Any] = [value for value in names.values() if isinstance(value, kinds)]
    definitions = Definitions.of(*made)
    doors, arrivals = {}, {}
    for name, rows in case["rows"].items():
        given = [as_row(row) for row in rows]
        definition = definitions[name]
        if isinstance(definition, Stream):
            doors[name] = Door(definition).take(given)
            given = doors[name].accepted
        arrivals[name] = given
    return names, definitions, doors, Oracle(definitions, arrivals)


def agrees(expected: Any, found: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(expected, found, rel_tol=1e-12)
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        return len(expected) == len(found) and all(map(agrees, expected, found))
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(agrees(expected[key], found[key]) for key in expected)
    return type(expected) is type(found) and bool(expected == found)


def compare(ask: Mapping[str, Any], found: Answer) -> None:
    for name, expected in ask["gives"].items():
        value = plain_value(found[name])
        assert agrees(value_of(expected), value), f"{name} is {value!r}, not {expected!r} in {ask}"
    for name, status in ask.get("status", {}).items():
        assert found[name].status == status, f"{name} is {found[name].status}, not {status} in {ask}"


def compare_rows(expected: list[Any], found: list[list[Any]]) -> None:
    assert len(expected) == len(found), found
    for one, two in zip(expected, found, strict=True):
        *times, values = one
        assert [us(time) for time in times] == two[:-1], (one, two)
        shown = {name: two[-1][name] for name in values}
        assert agrees(value_of(values), shown), (one, shown)


@pytest.mark.parametrize("case", list(cases()))
def test_case(case: dict[str, Any]) -> None:
    names, _, doors, oracle = world(case)
    for ask in case["ask"]:
        own = as_row(ask["self"]) if "self" in ask else None
        if "group" in ask:
            group = names[ask["group"]]
            assert isinstance(group, Group)
            compare(ask, oracle.group(group, tuple(ask["key"]), us(ask["q"]), known(ask.get("a", ask["q"])), own))
        elif "view" in ask:
            q, a = us(ask["q"]), known(ask.get("a", ask["q"]))
            compare(ask, oracle.view(names[ask["view"]], ask["inputs"], q, a, own))
        elif "rows" in ask:
            found = oracle.rows(names[ask["rows"]], known(ask["a"]))
            compare_rows(ask["gives"], [[row.t, row.k, row.values] for row in found])
        elif "samples" in ask:
            made = samples(oracle, names[ask["samples"]])
            assert [sample.revision for sample in made] == [given[0] for given in ask["gives"]]
            compare_rows([given[1:4] for given in ask["gives"]], [[s.row.t, s.row.k, s.row.values] for s in made])
        else:
            door = doors[ask["door"]]
            assert door.counts == ask.get("counts", {})
            assert len(door.accepted) == ask["accepted"]
