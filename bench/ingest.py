"""Events per second through the HTTP door, durable, in batches of 100, and how long an answer takes.

A generator process of its own sends prepared batches over kept connections; the server is `penstock.server` over a real
deployment in a fresh folder. The peer does the same work as it is usually built: a Starlette handler that inserts each
batch into SQLite (WAL, synchronous=FULL) in a transaction of its own. Run: python -m bench.ingest [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import Peer, last_line

BATCH = 100
DEFINITIONS = """
import penstock as ps
types = {"at": "instant", "event_id": "text", "user_id": "int", "amount": "decimal(12,2)?", "category": "text?"}
events = ps.stream("events", time="at", id=ID, schema=types)
"""
SERVE = """
import sys
from penstock.doors.deployment import Deployment
from penstock.server.run import run_ingest
with Deployment(sys.argv[1]) as d:
    run_ingest(d, port=0, ready=lambda url: print(url, flush=True))
"""


def batch(rng: random.Random, number: int, now_s: float) -> bytes:
    rows = [
        {
            "at": f"{time.strftime('%FT%T', time.gmtime(now_s - rng.random() * 60))}.{rng.randrange(10**6):06d}Z",
            "event_id": f"e{number * BATCH + i:012d}",
            "user_id": int(rng.paretovariate(0.8)) % 100_000,
            "amount": f"{rng.lognormvariate(3, 1):.2f}",
            "category": f"c{rng.randrange(50)}",
        }
        for i in range(BATCH)
    ]
    return json.dumps(rows).encode()


async def connection(
    port: int, bodies: list[bytes], name: str, until_s: float, spans_s: list[tuple[float, float]]
) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    rows = 0
    for sequence, body in enumerate(bodies):
        head = (
            f"POST /v1/streams/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Penstock-Producer: {name}\r\nPenstock-Sequence: {sequence}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        start_s = time.perf_counter()
        if start_s > until_s:
            break
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        if b" 200 " not in answer[:20]:
            raise RuntimeError(content.decode())
        spans_s.append((start_s, time.perf_counter()))
        rows += BATCH
    writer.close()
    return rows


def generate(port: int, connections: int, seconds: float, seed: int, out: Any) -> None:
    rng = random.Random(seed)
    now_s = time.time()  # noqa: TID251  events carry the wall's time
    prepared = [[batch(rng, (c * 10_000) + i, now_s) for i in range(int(120 * seconds))] for c in range(connections)]
    spans_s: list[tuple[float, float]] = []

    async def run() -> None:
        until_s = time.perf_counter() + seconds
        await asyncio.gather(
            *(connection(port, bodies, f"c{c}", until_s, spans_s) for c, bodies in enumerate(prepared))
        )

    asyncio.run(run())
    out.put(spans_s)


def measure(port: int, pid: int, connections: int, seconds: float) -> dict[str, float]:
    out: Any = multiprocessing.Queue()
    cpu_s = cpu_of(pid)
    process = multiprocessing.Process(target=generate, args=(port, connections, seconds, 1, out))
    process.start()
    spans_s = out.get()
    process.join()
    cpu_s = cpu_of(pid) - cpu_s
    start_s, end_s = min(s for s, _ in spans_s), max(e for _, e in spans_s)
    lasted = sorted(e - s for s, e in spans_s)
    rows = len(spans_s) * BATCH
    return {
        "events_per_s": round(rows / (end_s - start_s)),
        "events_per_server_cpu_s": round(rows / cpu_s),
        "p50_ms": round(lasted[len(lasted) // 2] * 1000, 2),
        "p99_ms": round(lasted[int(len(lasted) * 0.99)] * 1000, 2),
        "rows": rows,
    }


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ours(connections: int, seconds: float, ids: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        text = DEFINITIONS.replace("id=ID", 'id="event_id"' if ids else "id=None")
        (Path(folder) / "definitions.py").write_text(text)
        server = subprocess.Popen([sys.executable, "-c", SERVE, folder], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        found = measure(port, server.pid, connections, seconds)
        server.send_signal(signal.SIGTERM)
        server.wait()
        from penstock.doors.deployment import Deployment

        with Deployment(folder) as d:
            stored = d.topic("events").counts().accepted
        assert stored == found["rows"], (stored, found)
        return found


def serve_peer(folder: str, ready: Any) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    database = sqlite3.connect(f"{folder}/events.db", isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table events (at text, event_id text, user_id integer, amount text, category text)")

    async def take(request: Request) -> JSONResponse:
        rows = await request.json()
        database.execute("begin")
        database.executemany("insert into events values (:at, :event_id, :user_id, :amount, :category)", rows)
        database.execute("commit")
        return JSONResponse({"accepted": len(rows)})

    app = Starlette(routes=[Route("/v1/streams/events", take, methods=["POST"])])
    config = uvicorn.Config(app, port=0, log_level="error", access_log=False)
    sock = config.bind_socket()
    ready.put(sock.getsockname()[1])
    uvicorn.Server(config).run(sockets=[sock])


def peer(connections: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        ready: Any = multiprocessing.Queue()
        server = multiprocessing.Process(target=serve_peer, args=(folder, ready))
        server.start()
        port = ready.get()
        found = measure(port, server.pid or 0, connections, seconds)
        server.terminate()
        server.join()
        with sqlite3.connect(f"{folder}/events.db") as database:
            stored = database.execute("select count(*) from events").fetchone()[0]
        database.close()
        assert stored == found["rows"], (stored, found)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=8)
    args = parser.parse_args()
    plain, ided = ours(args.connections, args.seconds, False), ours(args.connections, args.seconds, True)
    other = peer(args.connections, args.seconds)
    import starlette

    version = f"starlette {starlette.__version__}, sqlite {sqlite3.sqlite_version}"
    note = ", ".join(f"{name} {value:,}" for name, value in other.items())
    # `equal`: every row that was acknowledged lies in the store, here and there (asserted above)
    peers = {"starlette+sqlite": Peer(version, other["events_per_s"], int(other["rows"]), True, note)}
    mode = "durable: answered after fdatasync (ours), after a synced WAL commit (starlette+sqlite)"
    shown = {"without_ids": plain, "with_ids": ided, "connections": args.connections}
    last_line("ingest", plain["events_per_s"], f"events/s in batches of {BATCH}", shown, peers, mode=mode)


if __name__ == "__main__":
    main()
