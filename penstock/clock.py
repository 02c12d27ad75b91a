"""The one clock of a deployment. Nothing else in Penstock reads the wall clock (a lint rule holds that)."""

from __future__ import annotations

import threading
import time
from typing import Protocol, runtime_checkable

from penstock.errors import EngineError

__all__ = ["Clock", "ReplayClock", "WallClock"]


@runtime_checkable
class Clock(Protocol):
    """Tells the time of the deployment in UTC microseconds since the epoch."""

    def now_us(self) -> int:
        """The present instant, UTC microseconds. Never goes back."""
        ...


class WallClock:
    """The machine's clock, held so that it never goes back."""

    def __init__(self) -> None:
        self._last_us = 0
        self._lock = threading.Lock()

    def now_us(self) -> int:
        """The present instant, UTC microseconds; a step back of the machine's clock is ridden out."""
        with self._lock:
            self._last_us = max(self._last_us, time.time_ns() // 1_000)
            return self._last_us


class ReplayClock:
    """A clock moved by hand: in a replay, to the frontier of the driving topics.

    >>> clock = ReplayClock(5)
    >>> clock.advance_to(7); clock.now_us()
    7
    """

    def __init__(self, start_us: int = 0) -> None:
        self._now_us = start_us
        self._lock = threading.Lock()

    def now_us(self) -> int:
        """The instant the replay has reached, UTC microseconds."""
        with self._lock:
            return self._now_us

    def advance_to(self, instant_us: int) -> None:
        """Moves the clock forward to `instant_us`.

        Raises:
            EngineError: the instant lies before the present one.
        """
        with self._lock:
            if instant_us < self._now_us:
                raise EngineError(
                    "a clock moves forward only",
                    found=f"{instant_us!r} before {self._now_us!r}",
                    remedy="replay rows in the order of their known time",
                )
            self._now_us = instant_us
