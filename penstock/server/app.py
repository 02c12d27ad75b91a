"""The HTTP door: events in, an answer after the durable commit. Raw ASGI, so that a request costs little."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from penstock.doors.convert import Converter
from penstock.doors.deployment import Deployment
from penstock.errors import DataError, DoorError, PenstockError, StoreError, nearest
from penstock.server.committer import Committer, Door, Pending
from penstock.server.decode import MEDIA_TYPES, RowDecoder
from penstock.server.metrics import Metrics
from penstock.store.log import AppendResult, ProducerId

__all__ = ["IngestApp", "Limits"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer: TypeAlias = tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]

_JSON: Final = (b"content-type", b"application/json")
_PREFIX: Final = "/v1/streams/"
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        body_bytes: of one request. waiting_bytes: of all requests that wait for their commit; above it a request is
            answered 503 and comes again.
        body_s: in which a body must have come. answer_s: in which a request is answered unless it says otherwise.
    """

    body_bytes: int = 16 << 20
    waiting_bytes: int = 128 << 20
    body_s: float = 30.0
    answer_s: float = 10.0


class IngestApp:
    """Takes events for the streams of a deployment that are fed by HTTP.

    Args:
        deployment: whose log takes them.
        token: that requests must show; None: requests from this machine need none, others are refused.
    """

    def __init__(self, deployment: Deployment, *, token: str | None = None, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self._token = token.encode() if token else None
        self._doors: dict[str, Door] = {}
        self._others: dict[str, str] = {}
        for name, source in deployment.sources.items():
            if source.source.kind != "http":
                self._others[name] = source.source.kind
                continue
            self._doors[name] = Door(name, deployment.topic(name), RowDecoder(source), Converter(source))
        self._log = deployment.log
        self._committer: Committer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's event, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            status, body, headers = await self._answer(scope, receive)
            length = (b"content-length", str(len(body)).encode())
            await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
            await send({"type": "http.response.body", "body": body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._committer is not None:
                    await asyncio.to_thread(self._committer.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _start(self) -> Committer:
        if self._committer is None:
            self._committer = Committer(self._log, self.metrics, asyncio.get_running_loop())
            self._committer.start()
        return self._committer

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        if path == "/healthz":
            return _answer(200, {"status": "ok"})
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if not self._may_enter(scope, headers):
            return _error(401, DoorError("a request shows the token", remedy="send Authorization: Bearer TOKEN"))
        if path == "/metrics" and method == "GET":
            text = self.metrics.text(self._start().waiting_bytes).encode()
            return 200, text, ((b"content-type", b"text/plain; version=0.0.4"),)
        if path == "/v1/streams" and method == "GET":
            return _answer(200, {"streams": [_described(door) for door in self._doors.values()]})
        if path.startswith(_PREFIX):
            name, _, rest = path[len(_PREFIX) :].partition("/")
            door = self._doors.get(name)
            if door is None:
                return _error(404, self._unknown(name))
            if not rest and method == "POST":
                return await self._timed(door, headers, receive)
            if rest.startswith("producers/") and method == "GET":
                last = door.topic.last_sequence(ProducerId(rest[len("producers/") :]))
                return _answer(200, {"last_sequence": last})
            if not rest:
                return _error(405, DoorError("events are sent by POST", found=method, remedy="use POST"))
        return _error(404, DoorError("there is such a path", found=path, remedy="POST /v1/streams/{name}"))

    def _may_enter(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        if self._token is not None:
            kind, _, shown = headers.get(b"authorization", b"").partition(b" ")
            return kind.lower() == b"bearer" and hmac.compare_digest(shown.strip(), self._token)
        client = scope.get("client")
        try:
            return client is None or ipaddress.ip_address(client[0]).is_loopback
        except ValueError:  # a UNIX socket
            return True

    def _unknown(self, name: str) -> DoorError:
        if name in self._others:
            return DoorError(
                f"the stream {name!r} takes events by HTTP",
                found=f"a source of kind {self._others[name]!r}",
                remedy="define it with ps.http(), or without a source",
            )
        return DoorError(f"no stream is called {name!r}", remedy=nearest(name, self._doors))

    async def _timed(self, door: Door, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        start_s = time.perf_counter()
        size = 0
        try:
            request = _Request.of(headers, self.limits)
            async with asyncio.timeout(self.limits.body_s):
                body = await _read(receive, request.length, self.limits.body_bytes)
            size = len(body)
            found = await self._take(door, request, body)
        except TimeoutError:
            found = _error(408, DoorError("the body comes in time", remedy="send it faster, or in smaller parts"))
        except _RefusedError as refusal:
            found = refusal.answer
        except DataError as error:
            found = _error(400, error)
        except StoreError as error:
            found = _error(_store_status(error), error)
        except PenstockError as error:
            found = _error(400, error)
        self.metrics.answer(found[0], size, time.perf_counter() - start_s)
        return found

    async def _take(self, door: Door, request: _Request, data: bytes) -> Answer:
        committer = self._start()
        if committer.waiting_bytes + len(data) > self.limits.waiting_bytes:
            busy = DoorError("the log keeps up", remedy="send it again in a second, with the same sequence")
            return _error(503, busy, (b"retry-after", b"1"))
        body = door.decoder.decode(data, request.media)
        done: asyncio.Future[AppendResult] = asyncio.get_running_loop().create_future()
        pending = Pending(door, body, len(data), request.producer, request.sequence, request.epoch, done)
        committer.put(pending)
        try:
            async with asyncio.timeout(request.answer_s):
                result = await done
        except TimeoutError:
            late = DoorError(
                "the commit is made in time",
                found=f"none within {request.answer_s:g} s; it may still be made",
                remedy="send it again, with the same producer and sequence",
            )
            return _error(504, late)
        return self._accepted(door, pending, result)

    def _accepted(self, door: Door, pending: Pending, result: AppendResult) -> Answer:
        refused = _refused(pending, result)
        metrics = self.metrics
        if not result.repeated:
            metrics.rows(door.name, "accepted", result.accepted)
            metrics.rows(door.name, "duplicate", result.duplicates)
            metrics.rows(door.name, "dead", result.dead)
        answer = {
            "accepted": result.accepted,
            "duplicates": result.duplicates,
            "no_ops": result.no_ops,
            "refused": [{"index": index, "reason": reason} for index, reason in refused],
            "known_time_us": result.known_time,
            "repeated": result.repeated,
        }
        nothing = refused and not (result.accepted or result.duplicates or result.no_ops)
        return _answer(422 if nothing else 200, answer)


@dataclass(frozen=True)
class _Request:
    """What the headers of a request say."""

    media: str
    length: int | None
    producer: ProducerId | None
    sequence: int
    epoch: int
    answer_s: float

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes], limits: Limits) -> _Request:
        kind = headers.get(b"content-type", b"application/json").decode("latin-1").partition(";")[0].strip().lower()
        if kind not in MEDIA_TYPES:
            wrong = DoorError("a body of a known kind", found=repr(kind), remedy=nearest(kind, MEDIA_TYPES))
            raise _RefusedError(_error(415, wrong))
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise _RefusedError(
                _error(415, DoorError("a body as it is", found="an encoding", remedy="send it unpacked"))
            )
        producer = headers.get(b"penstock-producer", b"").decode("latin-1") or None
        sequence = _number(headers, b"penstock-sequence", None if producer else 0)
        wait_s = _number(headers, b"penstock-timeout-ms", int(limits.answer_s * 1000)) / 1000
        length = _number(headers, b"content-length", 0) if b"content-length" in headers else None
        epoch = _number(headers, b"penstock-epoch", 0)
        return cls(MEDIA_TYPES[kind], length, ProducerId(producer) if producer else None, sequence, epoch, wait_s)


class _RefusedError(Exception):
    """A request that is answered without looking at its body."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def _number(headers: Mapping[bytes, bytes], name: bytes, default: int | None) -> int:
    text = headers.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdigit() or len(text) > 18:
        raise _RefusedError(
            _error(
                400,
                DoorError(
                    f"the header {name.decode()} is a whole number from 0 on",
                    found=repr(text and text.decode("latin-1")),
                    remedy="a producer numbers its requests to a stream 0, 1, 2...",
                ),
            )
        )
    return int(text)


async def _read(receive: Receive, length: int | None, most: int) -> bytes:
    too_long = DoorError("a body within the limit", found=f"more than {most:,} bytes", remedy="send smaller batches")
    if length is not None and length > most:
        raise _RefusedError(_error(413, too_long, (b"connection", b"close")))
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedError(
                _error(400, DoorError("a whole body", found="the connection closed", remedy="send again"))
            )
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _RefusedError(_error(413, too_long, (b"connection", b"close")))
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _refused(pending: Pending, result: AppendResult) -> list[tuple[int, str]]:
    """All refused rows by their index in the body: those that did not decode, did not fit, or that the log refused."""
    body = pending.body

    def of_body(index: int) -> int:
        return index if body.indexes is None else body.indexes[index]

    def of_decoded(index: int) -> int:
        return index if pending.kept is None else pending.kept[index]

    found = [(unfit.index, unfit.reason) for unfit in body.refused]
    found += [(of_body(unfit.index), unfit.reason) for unfit in pending.refused]
    found += [(of_body(of_decoded(r.row)), r.reason) for r in result.refused]
    return sorted(found)


def _store_status(error: StoreError) -> int:
    """A sequence or an epoch that does not fit is a conflict of the sender's; the rest is ours."""
    return 409 if "sequence" in error.asked or "epoch" in error.asked else 503


def _described(door: Door) -> dict[str, Any]:
    counts = door.topic.counts()
    return {
        "name": door.name,
        "columns": {c.name: f"{c.type}{'?' if c.nullable else ''}" for c in door.decoder.source.schema.columns},
        "id": door.decoder.source.id,
        "accepted": counts.accepted,
        "duplicates": counts.duplicates,
        "dead": counts.dead,
    }


def _answer(status: int, content: Any) -> Answer:
    return status, _encode(content), (_JSON,)


def _error(status: int, error: PenstockError, *headers: tuple[bytes, bytes]) -> Answer:
    content = {"code": error.code, "asked": error.asked, "found": error.found, "remedy": error.remedy}
    return status, _encode({"error": content | {"where": str(error.where or "")}}), (_JSON, *headers)
