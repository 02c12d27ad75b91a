from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from penstock.doors.client import Client
from penstock.doors.deployment import Deployment
from penstock.errors import DataError, DoorError

DEFINITIONS = """
import penstock as ps
types = {"at": "instant", "n": "int", "user": "text?", "price": "decimal(12,2)?"}
clicks = ps.stream("clicks", time="at", id="n", schema=types)
types = {"ts": "int", "x": "float?", "tags": "list<text>?", "raw": "json?", "user-id": "int?", "day": "date?"}
bare = ps.stream("bare", time="instant_ms(ts)", zone="Asia/Shanghai", schema={**types, "local": "instant?"})
files = ps.stream("files", ps.files("x.csv"), time="at", schema={"at": "instant"})
"""
SERVE = """
import sys
from penstock.doors.deployment import Deployment
from penstock.server.app import Limits
from penstock.server.run import read_token, run_ingest
with Deployment(sys.argv[1]) as d:
    limits = Limits(body_bytes=100_000, body_s=0.5)
    run_ingest(d, port=int(sys.argv[2]), token=read_token(), limits=limits, ready=lambda url: print(url, flush=True))
"""
NOW_MS = int(datetime.now(UTC).timestamp() * 1000)  # noqa: TID251  what a producer would send


def now(second: int = 0) -> str:
    return datetime.fromtimestamp(NOW_MS / 1000 - 3600 + second, UTC).isoformat()


@contextmanager
def server(root: Path, port: int = 0, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(root), str(port)],
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("project")
    (root / "definitions.py").write_text(DEFINITIONS)
    with server(root) as (url, _):
        yield url, root


def rows_of(root: Path, name: str) -> list[dict[str, Any]]:
    found, at = [], 0
    with Deployment(root) as d:
        while (batch := d.topic(name).read(0, at)).rows.num_rows:
            found += batch.rows.to_pylist()
            at = batch.next_offset
    return found


def post(url: str, name: str, body: Any, kind: str = "application/json", **headers: str) -> httpx.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx.post(f"{url}/v1/streams/{name}", content=data, headers={"content-type": kind, **headers})


def test_json_ndjson_and_arrow_are_taken(running: tuple[str, Path]) -> None:
    url, root = running
    one = post(url, "clicks", {"at": now(), "n": 1, "price": "1.25"})
    assert one.status_code == 200 and one.json()["accepted"] == 1
    many = post(url, "clicks", [{"at": now(1), "n": 2, "price": 2.5, "user": None}, {"at": now(2), "n": 3}])
    assert many.json()["accepted"] == 2
    lines = b'{"at": "%b", "n": 4}\n\n{"at": "%b", "n": 5}\n' % (now(3).encode(), now(4).encode())
    assert post(url, "clicks", lines, "application/x-ndjson").json()["accepted"] == 2
    table = pa.table({"n": pa.array([6, 7], pa.int32()), "at": pa.array([NOW_MS, NOW_MS], pa.timestamp("ms", "UTC"))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    arrow = post(url, "clicks", sink.getvalue().to_pybytes(), "application/vnd.apache.arrow.stream")
    assert arrow.json()["accepted"] == 2
    rows = {r["n"]: r for r in rows_of(root, "clicks")}
    assert rows[1]["price"] == Decimal("1.25") and rows[2]["price"] == Decimal("2.50") and rows[1]["_id"] == "1"
    assert {1, 2, 3, 4, 5, 6, 7} <= set(rows)
    assert all(r["_known_time"] > r["_event_time"] for r in rows.values())


def test_refused_rows_are_answered_one_by_one_while_good_rows_go_in(running: tuple[str, Path]) -> None:
    url, root = running
    ahead = datetime.fromtimestamp(NOW_MS / 1000 + 86_400, UTC).isoformat()
    body: list[Any] = [
        {"at": now(), "n": 100},
        {"at": now(), "n": "many"},
        {"at": now(), "nn": 101},
        {"at": "yesterday", "n": 102},
        {"at": now(), "n": 103, "price": "1.234"},
        {"n": 104},
        7,
        {"at": ahead, "n": 105},
        {"at": "2026-01-01T00:00:00", "n": 106},
        {"at": now(), "n": 2**70},
        {"at": now(), "n": 107},
    ]
    answer = post(url, "clicks", body)
    assert answer.status_code == 200, answer.text
    found = {r["index"]: r["reason"] for r in answer.json()["refused"]}
    assert answer.json()["accepted"] == 2 and sorted(found) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert "did you mean n?" in found[2] and "at" in found[3] and "price" in found[4] and "`at`" in found[5]
    assert {100, 107} <= {r["n"] for r in rows_of(root, "clicks")}
    with Deployment(root) as d:
        topic = d.topic("clicks")
        letters = topic.dead_letters()[-9:]
        assert topic.counts().dead == len(topic.dead_letters())
    assert {letter.reason for letter in letters} == set(found.values())
    rows = [dict(letter.row) for letter in letters]
    assert {"at": body[1]["at"], "n": "many"} in rows and {"_text": "7"} in rows and {"n": 104} in rows


def test_a_refused_row_sent_again_is_one_dead_letter(running: tuple[str, Path]) -> None:
    url, root = running
    head = {"penstock_producer": "letters", "penstock_sequence": "0"}
    lines = b'{"ts": 1, "x": 1.0}\n{"ts": "q' + b"y" * 40_000 + b'"}\nnot json\n'
    for _ in range(2):
        assert post(url, "bare", lines, "application/x-ndjson", **head).json()["accepted"] == 1
    with Deployment(root) as d:
        letters = [letter for letter in d.topic("bare").dead_letters() if letter.producer == "letters"]
    assert len(letters) == 2
    assert [letter.row["_text"][:4] for letter in letters] == ['{"ts', "not "]
    assert len(letters[0].row["_text"]) < 20_000 and "no JSON" in letters[1].reason


def test_two_servers_of_one_project_take_events_together(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    with ExitStack() as stack:
        command = [sys.executable, "-c", SERVE, str(tmp_path), "0"]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for process in started:
            stack.callback(process.wait, 10)
            stack.callback(process.send_signal, signal.SIGTERM)
        urls = [process.stdout.readline().strip() for process in started if process.stdout is not None]
        clients = [stack.enter_context(Client(urls[i % 2], batch=9)) for i in range(4)]
        for n in range(400):
            clients[n % 4].emit("clicks", {"at": now(), "n": n})
            clients[(n + 1) % 4].emit("clicks", {"at": now(), "n": n})  # the same event by the other server too
        sent = [client.flush() for client in clients]
        assert sum(s.accepted for s in sent) == 400 and sum(s.duplicates for s in sent) == 400
        for process in started:
            assert process.stdout is not None
            stack.callback(process.stdout.close)
    rows = rows_of(tmp_path, "clicks")
    assert sorted(r["n"] for r in rows) == list(range(400))
    known = [r["_known_time"] for r in rows]
    assert known == sorted(known), "one order, whichever server took them"


def test_when_every_row_is_refused_the_status_says_so(running: tuple[str, Path]) -> None:
    answer = post(running[0], "clicks", [{"n": 1}, {"n": 2}])
    assert answer.status_code == 422 and len(answer.json()["refused"]) == 2


def test_types_zones_and_expressions_of_a_stream(running: tuple[str, Path]) -> None:
    url, root = running
    row = {"ts": NOW_MS, "x": 1.5, "tags": ["a", None], "raw": {"k": [1]}, "user-id": 3, "day": "2026-11-23"}
    answer = post(url, "bare", [row | {"local": "2026-11-23T08:00:00"}, {"ts": NOW_MS, "x": float("inf")}])
    assert answer.status_code == 400 or answer.json()["refused"]  # Infinity is no JSON
    answer = post(url, "bare", row | {"local": "2026-11-23T08:00:00"})
    assert answer.json()["accepted"] == 1, answer.text
    found = rows_of(root, "bare")[-1]
    assert found["_event_time"] == NOW_MS * 1000 and found["tags"] == ["a", None] and found["user-id"] == 3
    assert json.loads(found["raw"]) == {"k": [1]} and str(found["day"]) == "2026-11-23"
    assert found["local"] == datetime(2026, 11, 23, 0, 0, tzinfo=UTC)


def test_a_request_sent_again_is_stored_once(running: tuple[str, Path]) -> None:
    url, root = running
    head = {"penstock_producer": "p1", "penstock_sequence": "0"}
    body = [{"ts": NOW_MS, "x": 41.0}, {"ts": "no"}]
    first, again = post(url, "bare", body, **head).json(), post(url, "bare", body, **head).json()
    assert not first["repeated"] and again["repeated"]
    assert first["refused"] == again["refused"] and first["accepted"] == again["accepted"] == 1
    assert [r["x"] for r in rows_of(root, "bare")].count(41.0) == 1
    gap = post(url, "bare", body, penstock_producer="p1", penstock_sequence="5")
    assert gap.status_code == 409
    last = httpx.get(f"{url}/v1/streams/bare/producers/p1").json()
    assert last == {"last_sequence": 0}
    assert post(url, "bare", body, penstock_producer="p1").status_code == 400


def test_repeated_ids_are_duplicates(running: tuple[str, Path]) -> None:
    body = [{"at": now(), "n": 900}, {"at": now(), "n": 900}]
    assert post(running[0], "clicks", body).json()["duplicates"] == 1
    assert post(running[0], "clicks", body).json()["duplicates"] == 2


@pytest.mark.parametrize(
    ("name", "body", "kind", "expected"),
    [
        ("clickz", b"[]", "application/json", (404, "did you mean clicks")),
        ("files", b"[]", "application/json", (404, "ps.http()")),
        ("clicks", b"[{]", "application/json", (400, "JSON object or a list")),
        ("clicks", b"\xff\xfe", "application/json", (400, "JSON object or a list")),
        ("clicks", b"", "application/json", (400, "JSON object or a list")),
        ("clicks", b"ARROW1", "application/vnd.apache.arrow.stream", (400, "Arrow IPC stream")),
        ("clicks", b"a,b", "text/csv", (415, "text/csv")),
        ("clicks", b"[" + b" " * 200_000 + b"]", "application/json", (413, "100,000 bytes")),
    ],
)
def test_bad_requests_are_told(
    running: tuple[str, Path], name: str, body: bytes, kind: str, expected: tuple[int, str]
) -> None:
    answer = post(running[0], name, body, kind)
    assert answer.status_code == expected[0] and expected[1] in answer.text


def test_a_chunked_body_is_limited_too(running: tuple[str, Path]) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 10_000

    try:
        answer = httpx.post(f"{running[0]}/v1/streams/clicks", content=parts())
        assert answer.status_code == 413
    except httpx.WriteError:  # the server answered and closed before all was sent
        pass


def test_a_slow_client_is_let_go(running: tuple[str, Path]) -> None:
    host, port = running[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /v1/streams/clicks HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[")
        slow.settimeout(5)
        assert b" 408 " in slow.recv(1000)
    assert httpx.get(f"{running[0]}/healthz").status_code == 200


def test_streams_health_and_metrics_are_shown(running: tuple[str, Path]) -> None:
    url, _ = running
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    streams = {s["name"]: s for s in httpx.get(f"{url}/v1/streams").json()["streams"]}
    assert set(streams) == {"clicks", "bare"} and streams["clicks"]["columns"]["price"] == "decimal(12,2)?"
    post(url, "clicks", {"at": now(), "n": 5000})
    text = httpx.get(f"{url}/metrics").text
    assert 'penstock_ingest_rows_total{stream="clicks",outcome="accepted"}' in text
    assert 'penstock_ingest_request_seconds_bucket{le="+Inf"}' in text
    assert httpx.get(f"{url}/v1/streams/clicks").status_code == 405
    assert httpx.get(f"{url}/nothing").status_code == 404


def test_a_token_opens_the_door(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    with server(tmp_path, PENSTOCK_TOKEN="s3cret") as (url, _):
        assert post(url, "clicks", {"at": now(), "n": 1}).status_code == 401
        assert post(url, "clicks", {"at": now(), "n": 1}, authorization="Bearer wrong").status_code == 401
        assert post(url, "clicks", {"at": now(), "n": 1}, authorization="Bearer s3cret").status_code == 200
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/metrics").status_code == 401
        with Client(url, token="s3cret") as client:
            client.emit("clicks", {"at": now(), "n": 2})


def test_others_than_this_machine_need_a_token(tmp_path: Path) -> None:
    from penstock.server.run import run_ingest

    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    with Deployment(tmp_path) as d, pytest.raises(DoorError, match="PENSTOCK_TOKEN"):
        run_ingest(d, host="0.0.0.0")


def test_a_client_sends_what_it_is_given(running: tuple[str, Path]) -> None:
    url, root = running
    with Client(url, batch=7) as client:
        for i in range(100):
            client.emit("clicks", {"at": datetime.now(UTC), "n": 10_000 + i, "price": Decimal("1.5")})  # noqa: TID251
            client.emit("bare", {"ts": NOW_MS, "x": 1000.0 + i})
        client.emit("clicks", {"at": now(), "n": "no"})
        sent = client.flush()
        assert (sent.accepted, sent.refusals) == (200, 1)
        assert b'"no"' in sent.refused[0].event
    assert {r["n"] for r in rows_of(root, "clicks")} >= set(range(10_000, 10_100))
    assert [r["x"] for r in rows_of(root, "bare") if (r["x"] or 0) >= 1000] == [1000.0 + i for i in range(100)]


def test_a_client_tells_what_it_cannot_send(running: tuple[str, Path]) -> None:
    client = Client(running[0])
    with pytest.raises(DataError):
        client.emit("clicks", {"at": object()})
    client.emit("clickz", {"n": 1})
    with pytest.raises(DoorError, match="did you mean clicks"):
        client.flush()
    with pytest.raises(DoorError):
        client.close()
    nobody = Client("http://127.0.0.1:9", give_up_s=0.2)
    nobody.emit("clicks", {"n": 1})
    with pytest.raises(DoorError, match=r"127\.0\.0\.1:9"):
        nobody.close()


def test_nothing_is_lost_or_doubled_when_the_server_is_killed(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    rng = np.random.default_rng(5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, emitted = f"http://127.0.0.1:{port}", 0
    client = Client(url, batch=20, linger_s=0.001, most_waiting=2_000)
    for _ in range(4):
        with server(tmp_path, port) as (_, process):
            until = time.monotonic() + float(rng.uniform(0.2, 0.6))
            while time.monotonic() < until:
                client.emit("bare", {"ts": NOW_MS, "x": float(emitted)})
                emitted += 1
                if emitted % 50 == 0:
                    time.sleep(0.002)
            process.kill()
    with server(tmp_path, port):
        client.close()
    assert client.sent.refusals == 0
    assert [r["x"] for r in rows_of(tmp_path, "bare")] == [float(i) for i in range(emitted)]


def test_a_named_client_goes_on_with_its_numbers(running: tuple[str, Path]) -> None:
    for i in range(3):
        with Client(running[0], producer="web-1") as client:
            client.emit("bare", {"ts": NOW_MS, "x": -1.0 - i})
    assert sorted(r["x"] for r in rows_of(running[1], "bare") if (r["x"] or 0) < 0) == [-3.0, -2.0, -1.0]
