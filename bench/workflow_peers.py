"""The schedulers beside ours, each in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable

from bench.report import Peer

__all__ = ["PEERS"]

PEERS: dict[str, Callable[[str, int], Peer | None]] = {}
