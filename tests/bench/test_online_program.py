"""The online benchmark runs, and finds the answers of its peers equal to ours."""

from __future__ import annotations

import json

import pytest

from bench.report import Peer, last_line
from tests.bench import lines

QUICK = ("--n", "5000", "--reads", "300")


def test_online_beside_duckdb() -> None:
    found = lines.last_line("online", *QUICK, "--peers", "duckdb")
    duckdb = found["peers"]["duckdb"]
    assert duckdb["rows_compared"] > 100
    assert duckdb["equal"]
    assert found["ours"]["values"] == 30


def test_a_hundred_keys_at_once() -> None:
    found = lines.last_line("online", *QUICK, "--at-once", "100", "--peers", "")
    assert found["ours"]["figure"] == round(found["ours"]["other_process"]["hundred"]["p50_us"], 1)
    assert found["ratio"] is None


def test_a_peer_that_does_not_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    peers = {"a": Peer("1.0", 4.0, 10, True), "b": Peer("2.0", None, note="no interpreter")}
    found = json.loads(last_line("x", 2.0, "us", {}, peers, mode="m", more_is_better=False))
    assert found["peers"]["b"] == {
        "version": "2.0", "figure": None, "rows_compared": 0, "equal": None, "why": "no interpreter"
    }  # fmt: skip
    assert found["ratio"] == 2.0
    assert "b 2.0: no interpreter" in capsys.readouterr().out


def test_a_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    redis = lines.last_line("online", *QUICK, "--peers", "redis")["peers"]["redis"]
    assert redis["figure"] is None
    assert "redis-server is not installed" in redis["why"]
