"""Which event a row is a version of. `time.md`, Versions of a row."""

from __future__ import annotations

from penstock.define.stream import Stream
from penstock.testing.oracle.rows import Row

__all__ = ["Identities"]


class Identities:
    """The ids of a stream in bounded memory: an id is forgotten once its correction horizon has passed.

    Attributes:
        corrected: whether rows may be corrected at all. horizon_us: within which time of a version; None: for ever.
    """

    def __init__(self, stream: Stream) -> None:
        self.corrected, self.horizon_us = stream.op is not None, stream.corrected_us
        self._newest: dict[tuple[int, str], tuple[int, int]] = {}
        self._events = 0

    def event(self, row: Row) -> int:
        """The event of the next row in order of arrival: that of the version it corrects, or a new one."""
        self._events += 1
        if not self.corrected or row.id is None:
            return self._events
        event, k = self._newest.get((row.partition, row.id), (self._events, row.k))
        if self.horizon_us is not None and k < row.k - self.horizon_us:
            event = self._events
        self._newest[row.partition, row.id] = (event, row.k)
        return event

    def forget(self, frontier_us: int) -> None:
        """Drops the ids that no row after the frontier can correct."""
        if self.horizon_us is not None:
            past = frontier_us - self.horizon_us
            self._newest = {identity: found for identity, found in self._newest.items() if found[1] >= past}
