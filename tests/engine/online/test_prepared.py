"""What is prepared answers as what is asked in bulk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import penstock.define as ps
from penstock.clock import ReplayClock
from penstock.define.project import Definitions
from penstock.engine.live.job import LiveJob, Options
from penstock.engine.online import Online
from penstock.errors import DataError, EngineError
from penstock.plan import plan
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.testing.conformance import Case
from penstock.testing.oracle import Row
from tests.engine.online.tempo import feed, topics

SECOND = 1_000_000


def definitions() -> Definitions:
    ev = ps.stream("ev", time="at", schema={"a": "int?", "s": "text?", "x": "float?", "ok": "bool?", "at": "instant"})
    known = {"a": "int?", "city": "text?", "age": "int?", "vip": "bool", "cost": "decimal(9,2)", "at": "instant"}
    people = ps.table("people", key="a", time="at", known="at", schema=known)
    by_a = ev.by("a").over("10s", ps.rows(3)).features(
        "by_a", n=ps.count(), mean=ps.mean("x"), word=ps.last("s"), ok=ps.last("ok")
    )  # fmt: skip
    by_s = ev.by("s").over("20s").features("by_s", top=ps.max("x"), n=ps.count())
    by_city = ev.with_columns(city="s").by("city").over("20s").features("by_city", m=ps.mean("x"))
    v = ps.view("v", ps.inputs(a="int?", s="text", x="float?", at="instant?"), by_a, by_s,
                people.asof("a", within="15s")["city", "age", "vip"],
                by_city,  # by the city that was found
                more="by_a.n_10s - by_s.n_20s", big="case when x > by_a.mean_10s then 'high' else 'low' end",
                double="more * 2", year="year(at)", always="1 + 1")  # fmt: skip
    decimals = ps.view("decimals", ps.inputs(a="int?"), people.asof("a")["cost"])
    return Definitions.of(v, decimals)


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Online]:
    folder: Path = tmp_path_factory.mktemp("prepared")
    made = definitions()
    words = (None, "", "é", "long enough to be no key by itself")
    rows = [
        Row(i * SECOND, i * SECOND, {"a": i % 3 if i % 7 else None, "s": words[i % 4], "x": i / 2 if i % 5 else None,
                                     "ok": (None, True, False)[i % 3], "at": i * SECOND}, offset=i)
        for i in range(1, 30)
    ]  # fmt: skip
    facts = [(0, "Paris", 3, True, 4), (1, None, None, False, 20), (2, "é", 7, True, 25), (0, "Rome", None, False, 26)]
    people = [
        Row(at * SECOND, at * SECOND, {"a": a, "city": city, "age": age, "vip": vip, "cost": 1, "at": at * SECOND},
            offset=i)
        for i, (a, city, age, vip, at) in enumerate(facts)
    ]  # fmt: skip
    planned, clock = plan(made), ReplayClock(0)
    with EmbeddedLog.open(folder / "log", clock=clock, durability="process") as log:
        topics(log, planned)
        feed(log, planned, Case(made, {"ev": rows, "people": people}), 0, 29 * SECOND)
        options = Options(memory_dir=folder, reserve_bytes=1 << 28)
        job = LiveJob(planned, log, folder / "state", clock, options=options)
        job.drain()
        online = Online(planned, folder / "state", clock)
        yield online
        online.close()
        job.close()


def requests() -> Iterator[dict[str, Any]]:
    for a in (0, 1, 2, 99, None):
        for s in ("", "é", "long enough to be no key by itself", "nobody"):
            for x in (3, 2.5, None):
                yield {"a": a, "s": s, "x": x, "at": None if x is None else 40 * SECOND}


def test_a_prepared_view_is_a_view(online: Online) -> None:
    prepared = online.prepare_view("v")
    assert online.view("v", {"a": 2, "s": "", "x": None, "at": None}).rows()[0]["by_city.m_20s"] is not None
    for request in requests():
        (row,) = online.view("v", request).rows()
        assert dict(zip(prepared.names, prepared.get_one(request), strict=True)) == row
        assert [type(value) for value in prepared.get_one(request)] == [type(value) for value in row.values()]


def test_some_features_of_a_group(online: Online) -> None:
    prepared = online.prepare("by_s", ["n_20s"])
    assert prepared.get_one("") == tuple(online.group("by_s", "").columns["n_20s"].to_pylist())
    with pytest.raises(EngineError, match="did you mean n_20s"):
        online.prepare("by_s", ["n_2s"])


def test_text_and_truths_of_a_prepared_group(online: Online) -> None:
    prepared = online.prepare("by_a")
    for a in (0, 1, 2, 99, None):
        (row,) = online.group("by_a", a).rows()
        assert dict(zip(prepared.names, prepared.get_one(a), strict=True)) == row


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": "1"}, "'1'"),
        ({"a": True}, "True"),
        ({"a": 2**63}, "9223372036854775808"),
        ({"s": None}, "null"),
        ({"b": 1}, "'b'"),
    ],
)
def test_requests_that_do_not_fit_are_refused(online: Online, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        online.prepare_view("v").get_one({"a": 1, "s": "", "x": 1.0, "at": None} | change)


def test_a_missing_input_is_named(online: Online) -> None:
    with pytest.raises(DataError, match="no x"):
        online.prepare_view("v").get_one({"a": 1, "s": "", "at": None})


def test_what_is_no_number_truth_or_text_is_refused(online: Online) -> None:
    with pytest.raises(EngineError, match="decimal"):
        online.prepare_view("decimals")
    with pytest.raises(EngineError, match="no view"):
        online.prepare_view("w")
