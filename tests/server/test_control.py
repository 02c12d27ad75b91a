"""The REST of workflows over a real deployment's state: who may ask, what is answered, what is told as it happens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from penstock.server.address import listen
from penstock.server.control.access import COOKIE, read_or_make_token
from penstock.server.control.app import make_app
from penstock.workflows.control import Control

TOKEN = "a-token-of-the-tests"
SPEC: dict[str, Any] = {
    "name": "w",
    "schedule": {"cron": "0 4 * * *", "zone": "Asia/Shanghai"},
    "parameters": [{"name": "days", "type": "integer", "default": 7}],
    "nodes": [
        {"name": "one", "kind": "batch", "component": "shell", "parameters": {"command": "echo {{ param.days }}"}},
        {
            "name": "two",
            "kind": "batch",
            "component": "shell",
            "parameters": {"command": "echo {{ dict.words }}"},
            "edges": [{"when": "signal(go)"}, {"when": "watermark(ticks.t) >= now"}],
        },
    ],
}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """A server in a thread, on a free port, and a client that shows its token."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(Control(tmp_path), TOKEN), log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as opened:
        yield opened
    server.should_exit = True
    thread.join(20)
    listener.close()


def ticking(client: httpx.Client) -> None:
    """A workflow with a stream, so that `ticks.t` is a subject; it is not started."""
    edges = [{"action": "start", "when": "signal(never)"}]
    parameters = {"command": "true"}
    node: dict[str, Any] = {"name": "t", "kind": "stream", "component": "stream_command", "parameters": parameters}
    node["edges"] = edges
    assert client.post("/workflows", json={"spec": {"name": "ticks", "nodes": [node]}}).status_code == 200


def test_everything_but_health_and_login_asks_for_the_token(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    asked = 0
    with httpx.Client(base_url=client.base_url) as stranger:
        assert stranger.get("/health").json()["status"] == "up"
        for path, methods in paths.items():
            for method in methods:
                if path not in ("/v1/health", "/v1/login"):
                    filled = path.replace("{", "").replace("}", "").removeprefix("/v1")
                    assert stranger.request(method, filled).status_code == 401, (method, path)
                    asked += 1
        assert stranger.get("/runs", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert stranger.get("/runs", headers={"Cookie": f"{COOKIE}=wrong"}).status_code == 401
    assert asked > 30


def test_a_browser_logs_in_once_and_no_other_page_rides_on_its_cookie(client: httpx.Client) -> None:
    with httpx.Client(base_url=client.base_url) as browser:
        assert browser.post("/login", json={"token": "wrong"}).status_code == 422
        answer = browser.post("/login", json={"token": TOKEN})
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert "SameSite=strict" in answer.headers["set-cookie"]
        assert browser.get("/runs").json() == []
        elsewhere = {"Origin": "https://elsewhere.example"}
        assert browser.post("/signals/go", json={}, headers=elsewhere).status_code == 401


def test_a_workflow_is_applied_shown_compared_and_refused(client: httpx.Client) -> None:
    ticking(client)
    assert client.post("/workflows", json={"spec": SPEC, "reason": "begin"}).json()[0]["version"] == 1
    changed = SPEC | {"priority": 3}
    assert client.post("/workflows", json={"spec": changed, "expect": 1, "author": "ann"}).json()[0]["version"] == 2
    assert client.post("/workflows", json={"spec": SPEC, "expect": 1}).status_code == 422
    assert [c["text"] for c in client.get("/workflows/w/diff").json()] == ["+ priority: 3"]
    assert [v["author"] for v in client.get("/workflows/w/versions").json()] == ["ann", ""]
    broken = SPEC | {"nodes": [*SPEC["nodes"], {"name": "x", "kind": "batch", "component": "shel"}]}
    refusal = client.post("/workflows", json={"spec": broken})
    assert refusal.status_code == 422
    assert "did you mean shell" in refusal.json()["errors"][0]["remedy"]
    assert client.get("/workflows/w").json()["version"] == 2
    assert client.get("/schedules").json()[0]["workflow"] == "w"
    assert client.post("/workflows/w/pause").json()["state"] == "paused"
    assert client.get("/workflows").json()[1]["state"] == "paused"


def test_a_run_is_started_once_by_its_id_and_why_says_what_it_waits_for(client: httpx.Client) -> None:
    ticking(client)
    client.post("/workflows", json={"spec": SPEC})
    body = {"workflow": "w", "run": "r1", "parameters": {"days": 3}, "author": "ann"}
    assert client.post("/runs", json=body).json() == client.post("/runs", json=body).json() | {"state": "waiting"}
    assert len(client.get("/runs").json()) == 1
    assert client.get("/runs/r1").json()["parameters"] == {"days": 3}
    assert "no worker" in client.get("/runs/r1/nodes/one/why").json()["reasons"][0]["text"]
    client.post("/facts", json={"subject": "ticks.t", "kind": "watermark", "value": 5})
    reasons = client.get("/runs/r1/nodes/two/why").json()["reasons"]
    assert [reason["text"] for reason in reasons] == ["signal(go)", "watermark(ticks.t) >= now"]
    assert (reasons[1]["fact"], reasons[1]["present"]) == ("watermark(ticks.t)", 5)
    client.post("/signals/go", json={"id": "once"})
    assert client.post("/signals/go", json={"id": "once"}).json()["new"] is False
    left = client.get("/runs/r1/nodes/two/why").json()["reasons"]
    assert [reason["text"] for reason in left] == ["watermark(ticks.t) >= now"]
    assert client.post("/runs/r1/kill", json={"reason": "enough"}).json()["state"] in ("stopping", "killed")
    assert client.get("/runs/nothing").json()["errors"][0]["remedy"]
    assert client.post("/runs", json={"workflow": "w", "parameters": {"dys": 1}}).status_code == 422


def test_changes_are_told_as_they_are_committed(client: httpx.Client) -> None:
    ticking(client)
    client.post("/workflows", json={"spec": SPEC})
    found: list[dict[str, Any]] = []
    with client.stream("GET", "/events", params={"run": "r2"}) as events:
        lines = events.iter_lines()
        assert next(lines) == ": here"
        client.post("/runs", json={"workflow": "w", "run": "other"})
        client.post("/runs", json={"workflow": "w", "run": "r2"})
        for line in lines:
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                break
    assert (found[0]["table"], found[0]["run"], found[0]["state"]) == ("runs", "r2", "waiting")


def test_the_dictionary_tells_of_its_changes_as_a_fact(client: httpx.Client) -> None:
    client.put("/dictionary/words", json={"value": "a b", "author": "ann", "reason": "begin"})
    assert client.get("/dictionary/words").json()["value"] == "a b"
    (fact,) = client.get("/facts", params={"subject": "dict.words"}).json()
    assert (fact["kind"], fact["value"]) == ("snapshot", 1)
    assert client.put("/dictionary/words", json={"value": 3}).status_code == 422
    assert client.put("/dictionary/words", json={"value": "c", "expect": 0}).status_code == 409


def test_secrets_are_taken_and_never_given(client: httpx.Client) -> None:
    assert client.put("/secrets/key", json={"value": "hush-hush"}).json() == {"name": "key"}
    assert client.get("/secrets").json() == ["key"]
    assert "hush" not in client.put("/secrets/key", json={"value": ["hush-hush"]}).text
    client.delete("/secrets/key")
    assert client.get("/secrets").json() == []


def test_the_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_TOKEN", raising=False)
    token = read_or_make_token(tmp_path)
    assert read_or_make_token(tmp_path) == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("PENSTOCK_TOKEN", "given")
    assert read_or_make_token(tmp_path) == "given"
