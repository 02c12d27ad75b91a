"""kill -9 of everything under load: the laws hold, in the database and in what tasks wrote."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from bench.chaos import Chaos
from bench.chaos_laws import violations


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Chaos:
    """After half a minute of it, when everything has ended."""
    one = Chaos(tmp_path_factory.mktemp("chaos") / "project", seed=7)
    try:
        found = one.go(25.0)
    finally:
        one.close()
    assert found["violations"] == [], json.dumps(found.data, indent=1) + one.log.read_text()[-3000:]
    assert sum(found["kills"].values()) >= 10
    return one


def _change(chaos: Chaos, *statements: str) -> None:
    with sqlite3.connect(chaos.project / ".penstock" / "meta.db") as database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement


def test_nothing_is_lost_or_done_twice_whatever_dies(chaos: Chaos) -> None:
    assert {"fan", "chain", "slow"} <= {run.partition(".")[0] for run in chaos.asked.runs}
    assert chaos.asked.signals
    assert not chaos.pids("worker")
    assert not chaos.pids("server")


def test_the_laws_see_what_is_broken(chaos: Chaos) -> None:
    """Each breach, put by hand into the database, is found."""
    for words, statement in (
        ("signals", "DELETE FROM consumptions WHERE workflow = 'signalled'"),
        ("gap", "UPDATE consumptions SET revision = revision + 1 WHERE workflow = 'every' AND revision % 4000000 = 0"),
        ("went on together", "UPDATE runs SET started_us = 1, ended_us = 9000000000000000 WHERE workflow = 'chain'"),
        ("has outputs", "UPDATE node_runs SET attempt = attempt + 1 WHERE state = 'done' AND workflow = 'fan'"),
        ("began again", "UPDATE node_runs SET ended_us = 1 WHERE state = 'done' AND workflow = 'fan'"),
        ("is running", "UPDATE runs SET state = 'running' WHERE workflow = 'fan'"),
        ("newest on record", "UPDATE streams SET epoch = 0"),
    ):  # fmt: skip
        database = chaos.project / ".penstock" / "meta.db"
        before = database.read_bytes()
        _change(chaos, statement)
        assert any(words in one for one in violations(chaos.project, chaos.asked)), words
        for suffix in ("-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        database.write_bytes(before)
    assert violations(chaos.project, chaos.asked) == []
