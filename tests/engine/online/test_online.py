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
from penstock.errors import DataError, EngineError, StoreError
from penstock.plan import plan
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.testing.conformance import Case
from penstock.testing.oracle import Row
from tests.engine.online.tempo import feed, topics

SECOND = 1_000_000


@pytest.fixture
def online(tmp_path: Path) -> Iterator[Online]:
    ev = ps.stream("ev", time="at", schema={"a": "int?", "s": "text?", "x": "float?", "at": "instant"})
    g = ev.by("a", "s").over("10s", ps.rows(3)).features("g", n=ps.count(), mean=ps.mean("x"), top=ps.max("x"))
    newest = ev.by("a").over(ps.lifetime()).features("newest", words=ps.last_n(2, "s"))
    view = ps.view("v", ps.inputs(a="int?", s="text", at="instant?"), g, newest)
    definitions = Definitions.of(view)
    rows = [
        Row(i * SECOND, i * SECOND, {"a": i % 3, "s": "é" * (i % 2), "x": i / 2, "at": i * SECOND}, offset=i)
        for i in range(1, 30)
    ]
    planned, clock = plan(definitions), ReplayClock(0)
    with EmbeddedLog.open(tmp_path / "log", clock=clock, durability="process") as log:
        topics(log, planned)
        feed(log, planned, Case(definitions, {"ev": rows}), 0, 29 * SECOND)
        options = Options(memory_dir=tmp_path, reserve_bytes=1 << 28)
        job = LiveJob(planned, log, tmp_path / "state", clock, options=options)
        job.drain()
        online = Online(planned, tmp_path / "state", clock)
        yield online
        online.close()
        job.close()


def test_a_prepared_read_is_a_group_read(online: Online) -> None:
    prepared = online.prepare("g")
    for key in [(0, ""), (1, "é"), (2, "é"), (7, "nobody"), (None, ""), (0, None)]:
        row = online.group("g", *key).table().to_pylist()[0]
        assert prepared.get_one(*key) == tuple(row[name] for name in prepared.names)


@pytest.mark.parametrize("key", [(1,), (1, "é", 2), ("1", "é"), (True, "é"), (2**63, "é")])
def test_a_prepared_read_refuses_other_keys(online: Online, key: tuple[Any, ...]) -> None:
    with pytest.raises(DataError):
        online.prepare("g").get_one(*key)


def test_one_instant_for_all(online: Online) -> None:
    answers = online.view("v", [{"a": a, "s": "", "at": None} for a in (0, 1, None)])
    assert answers.q_us == answers.known_us == 29 * SECOND
    assert answers.positions == {"ev": [29]}
    assert answers.words("g.n_10s").to_pylist() == ["ok", "ok", "unseen"]
    assert answers.columns["newest.words_lifetime"].to_pylist()[2] is None
    assert len(answers) == 3


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"a": 1, "s": ""}, "no at"),
        ({"a": 1, "s": "", "at": None, "b": 1}, "'b'"),
        ({"a": "1", "s": "", "at": None}, "'1'"),
        ({"a": True, "s": "", "at": None}, "True"),
        ({"a": 1, "s": None, "at": None}, "null"),
    ],
)
def test_requests_that_do_not_fit_are_refused(online: Online, request_: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        online.view("v", request_)


def test_what_is_not_kept_is_refused(online: Online, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="did you mean newest"):
        online.group("newst", 1)
    with pytest.raises(EngineError, match="valid names: v"):
        online.view("w", {})
    with pytest.raises(EngineError, match="ask history"):
        online.group("g", 1, "", q_us=-(2**40))
    with pytest.raises(EngineError, match=r"last_n|words"):
        online.prepare("newest")
    with pytest.raises(DataError, match="2 parts"):
        online.group("newest", 1, 2)
    with pytest.raises(StoreError, match="none"):
        Online(online.plan, tmp_path / "elsewhere", online.clock)
