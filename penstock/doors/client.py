"""Sends events to a Penstock over HTTP: batched in the background, each stored exactly once."""

from __future__ import annotations

import http.client
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

from penstock.errors import DataError, DoorError

__all__ = ["Client", "Refusal", "Sent"]

_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_NDJSON: Final = "application/x-ndjson"
_encode: Final = msgspec.json.Encoder(decimal_format="string").encode


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that the server refused, and why."""

    stream: str
    event: bytes
    reason: str


@dataclass(slots=True)
class Sent:
    """What became of the events of a client so far; `refused` keeps the last 1,000."""

    accepted: int = 0
    duplicates: int = 0
    refusals: int = 0
    refused: deque[Refusal] = field(default_factory=lambda: deque(maxlen=1_000))


class Client:
    """Emits events to the streams of a Penstock.

    `emit` puts an event into a batch and returns; a thread of its own sends batches, waits for the durable commit,
    and sends a batch again, under the same number, when no answer came: each event is stored once. What was not
    flushed when the process dies is lost, so `flush` before you depend on it.

    Args:
        url: of the server, as in "http://127.0.0.1:8700".
        token: shown with every request.
        producer: who sends. By default a new name for each client; with a name of your own a client that starts
            again goes on with the numbers of the last one, so events sent twice by it should carry an id.
        batch: events of a stream that go into one request at most.
        linger_s: how long an event waits for others.
        most_waiting: events that wait at most; above it `emit` waits.
        give_up_s: how long a batch is sent again before `flush` and `emit` raise.

    >>> Client("ftp://x")
    Traceback (most recent call last):
    penstock.errors.DoorError: PS700 a URL of a Penstock; found 'ftp://x'
      -> write http://host:port
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        producer: str | None = None,
        batch: int = 500,
        linger_s: float = 0.05,
        most_waiting: int = 100_000,
        timeout_s: float = 10.0,
        give_up_s: float = 60.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DoorError("a URL of a Penstock", found=repr(url), remedy="write http://host:port")
        self._wire = _Wire(parts, token, timeout_s)
        self._named = producer is not None
        self._producer = producer or f"client-{uuid.uuid4().hex}"
        self._batch, self._linger_s, self._most, self._give_up_s = batch, linger_s, most_waiting, give_up_s
        self._waiting: dict[str, list[bytes]] = {}
        self._since_s: dict[str, float] = {}
        self._sequences: dict[str, int] = {}
        self._n_waiting = 0
        self._changed = threading.Condition()
        self._flushing = self._closed = False
        self._failure: Exception | None = None
        self.sent = Sent()
        self._thread = threading.Thread(target=self._run, name="penstock-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def emit(self, stream: str, event: Mapping[str, Any]) -> None:
        """Hands over one event. Times may be `datetime` with a zone, amounts `Decimal`.

        Raises:
            DataError: the event is no JSON.
            DoorError: the client is closed, or gave up on a batch.
        """
        try:
            data = _encode(event)
        except (TypeError, msgspec.EncodeError, OverflowError) as error:
            raise DataError("an event is JSON data", found=str(error), remedy="send plain values") from error
        with self._changed:
            while self._n_waiting >= self._most and not self._failure and not self._closed:
                self._changed.wait()
            self._check()
            if self._closed:
                raise DoorError("an open client", found="a closed one", remedy="make another")
            events = self._waiting.setdefault(stream, [])
            events.append(data)
            self._n_waiting += 1
            if len(events) == 1:
                self._since_s[stream] = time.monotonic()
            if len(events) == 1 or len(events) >= self._batch:
                self._changed.notify_all()

    def flush(self, timeout_s: float | None = None) -> Sent:
        """Waits until every event emitted so far is answered; what became of all so far.

        Raises:
            DoorError: the client gave up on a batch, or the time is over.
        """
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._n_waiting or self._failure is not None, timeout_s)
            self._flushing = False
            self._check()
            if not done:
                raise DoorError(
                    "all events are answered in time", found=f"{self._n_waiting:,} that are not", remedy="wait longer"
                )
        return self.sent

    def close(self) -> None:
        """Flushes, then ends the thread.

        Raises:
            DoorError: the client gave up on a batch.
        """
        try:
            self.flush()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._thread.join()
            self._wire.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while (due := self._due()) is not None:
            stream, events = due
            try:
                self._send(stream, events)
            except DoorError as error:
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._n_waiting -= len(events)
                self._changed.notify_all()

    def _due(self) -> tuple[str, list[bytes]] | None:
        """The next batch, once it is full, has lingered, or is flushed; None at the end."""
        with self._changed:
            while True:
                now_s = time.monotonic()
                for stream, events in self._waiting.items():
                    waited_s = now_s - self._since_s[stream]
                    if len(events) >= self._batch or waited_s >= self._linger_s or self._flushing or self._closed:
                        taken, rest = events[: self._batch], events[self._batch :]
                        del self._waiting[stream]
                        if rest:  # to the end of the line, so that no stream starves
                            self._waiting[stream] = rest
                            self._since_s[stream] = now_s
                        return stream, taken
                if self._closed:
                    return None
                soonest_s = min((self._since_s[s] for s in self._waiting), default=None)
                self._changed.wait(None if soonest_s is None else max(0.0, soonest_s + self._linger_s - now_s))

    def _send(self, stream: str, events: list[bytes]) -> None:
        """Sends a batch until it is answered."""
        path = f"/v1/streams/{quote(stream, safe='')}"
        body, start_s, wait_s = b"\n".join(events), time.monotonic(), 0.05
        while True:
            found = "no answer"
            try:
                if stream not in self._sequences:
                    self._sequences[stream] = self._first(path)
                status, answer = self._wire.request("POST", path, body, self._producer, self._sequences[stream])
                if status in (200, 422):
                    self._count(stream, events, answer)
                    self._sequences[stream] += 1
                    return
                found = f"{status}: {_shown(answer)}"
                if status not in _AGAIN:
                    raise DoorError(
                        f"events of {stream!r} are taken", found=found, remedy="see what the server says of it"
                    )
            except (OSError, http.client.HTTPException) as error:
                self._wire.close()
                found = f"{type(error).__name__}: {error}"
            if time.monotonic() - start_s > self._give_up_s or self._closed:
                raise DoorError(
                    f"a server answers at {self._wire.shown}",
                    found=found,
                    remedy="start it, or look at the network; the events of this batch are not known to be stored",
                )
            with self._changed:
                self._changed.wait_for(lambda: self._closed, random.uniform(wait_s / 2, wait_s))  # noqa: S311  no secret
            wait_s = min(wait_s * 2, 2.0)

    def _first(self, path: str) -> int:
        """The first number to use: a producer with a name goes on where it stopped."""
        if not self._named:
            return 0
        status, answer = self._wire.request("GET", f"{path}/producers/{quote(self._producer, safe='')}")
        if status in _AGAIN:
            raise ConnectionError(f"{status}: {_shown(answer)}")
        if status != 200:
            raise DoorError("the server knows the stream", found=f"{status}: {_shown(answer)}", remedy="see above")
        return int(answer["last_sequence"]) + 1

    def _count(self, stream: str, events: list[bytes], answer: Mapping[str, Any]) -> None:
        self.sent.accepted += answer["accepted"]
        self.sent.duplicates += answer["duplicates"]
        for refused in answer["refused"]:
            self.sent.refusals += 1
            self.sent.refused.append(Refusal(stream, events[refused["index"]], refused["reason"]))


def _shown(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error:
        return repr(answer)[:200]
    return f"{error['asked']}; found {error['found']} -> {error['remedy']}"


class _Wire:
    """One connection, made anew when it breaks."""

    def __init__(self, url: SplitResult, token: str | None, timeout_s: float) -> None:
        self.shown = f"{url.scheme}://{url.hostname}" + (f":{url.port}" if url.port else "")
        self._url, self._timeout_s = url, timeout_s
        self._prefix = url.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: bytes | None = None, producer: str = "", sequence: int = 0
    ) -> tuple[int, Any]:
        """Status and content of an answer."""
        headers = dict(self._headers)
        if body is not None:
            headers |= {"Content-Type": _NDJSON, "Penstock-Producer": producer, "Penstock-Sequence": str(sequence)}
        if self._connection is None:
            secure = self._url.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        self._connection.request(method, self._prefix + path, body, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        try:
            return answer.status, msgspec.json.decode(data)
        except msgspec.DecodeError:  # something between us and the server answered
            return answer.status if answer.status >= 400 else 502, data[:200].decode(errors="replace")

    def close(self) -> None:
        """Lets go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
