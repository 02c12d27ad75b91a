"""Counts and times of the HTTP door, in the text that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

__all__ = ["Metrics"]

_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class _Histogram:
    """Times in buckets."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def lines(self, name: str, labels: str = "") -> list[str]:
        found, total = [f"# TYPE {name} histogram"], 0
        for bound, n in zip([*map(str, _BOUNDS_S), "+Inf"], self.counts, strict=True):
            total += n
            found.append(f'{name}_bucket{{{labels}le="{bound}"}} {total}')
        return [*found, f"{name}_sum {self.sum_s:.6f}", f"{name}_count {total}"]


class Metrics:
    """What the door has done since it started. Counters are only added to, by one thread each."""

    def __init__(self) -> None:
        self._rows: Counter[tuple[str, str]] = Counter()
        self._answers: Counter[int] = Counter()
        self._bytes = 0
        self._request = _Histogram()
        self._commit = _Histogram()
        self._requests_committed = 0

    def rows(self, stream: str, outcome: str, n: int) -> None:
        """Counts rows of a stream by outcome: accepted, duplicate, dead."""
        if n:
            self._rows[stream, outcome] += n

    def answer(self, status: int, size: int, seconds: float) -> None:
        """Counts an answer to events sent, the bytes of its request, and how long it took."""
        self._answers[status] += 1
        self._bytes += size
        self._request.add(seconds)

    def commit(self, requests: int, seconds: float) -> None:
        """Counts a commit, the requests it served, and how long it took."""
        self._requests_committed += requests
        self._commit.add(seconds)

    def text(self, waiting_bytes: int) -> str:
        """Everything, as Prometheus reads it."""
        lines = ["# TYPE penstock_ingest_rows_total counter"]
        lines += [
            f'penstock_ingest_rows_total{{stream="{stream}",outcome="{outcome}"}} {n}'
            for (stream, outcome), n in sorted(self._rows.items())
        ]
        lines.append("# TYPE penstock_ingest_requests_total counter")
        lines += [
            f'penstock_ingest_requests_total{{status="{status}"}} {n}' for status, n in sorted(self._answers.items())
        ]
        lines += ["# TYPE penstock_ingest_bytes_total counter", f"penstock_ingest_bytes_total {self._bytes}"]
        lines += ["# TYPE penstock_ingest_waiting_bytes gauge", f"penstock_ingest_waiting_bytes {waiting_bytes}"]
        lines += self._request.lines("penstock_ingest_request_seconds")
        lines += self._commit.lines("penstock_ingest_commit_seconds")
        lines += [
            "# TYPE penstock_ingest_commit_requests_total counter",
            f"penstock_ingest_commit_requests_total {self._requests_committed}",
        ]
        return "\n".join(lines) + "\n"
