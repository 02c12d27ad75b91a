"""Changes as server-sent events: states of runs and nodes, facts, streams, as they are committed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from penstock.store.meta.rows import FactRow, NodeRow, Row, RowChange, RunRow, StreamRow, WorkflowRow
from penstock.workflows.control import Control

__all__ = ["event_of", "events", "plain_row"]

_TOLD: Final = (RunRow, NodeRow, FactRow, StreamRow, WorkflowRow)
_TEXTS: Final = frozenset({"value", "outputs", "facts", "parameters", "components", "edges", "truths"})
_MOST_WAITING: Final = 10_000
_STILL_S: Final = 15.0


def plain_row(row: Row) -> dict[str, Any]:
    """A row as JSON data; what it holds as JSON text is read."""
    data: dict[str, Any] = msgspec.structs.asdict(row)
    for name in _TEXTS & data.keys():
        data[name] = msgspec.json.decode(data[name])
    return data


def event_of(row: Row) -> dict[str, Any] | None:
    """A row as an event with its `table`, or None for what is not told."""
    return {"table": row.TABLE, **plain_row(row)} if isinstance(row, _TOLD) else None


async def events(
    control: Control, *, run: str | None = None, tables: frozenset[str] = frozenset()
) -> AsyncIterator[bytes]:
    """Frames of server-sent events from now on; a comment every 15 s keeps the line open.

    A reader that does not keep up is let go: it comes again and reads the present state first.

    Args:
        control: whose changes.
        run: only of this run.
        tables: only of these: runs, node_runs, facts, streams, workflows; all if empty.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_MOST_WAITING)

    def put(found: list[dict[str, Any]]) -> None:
        try:
            for event in found:
                waiting.put_nowait(event)
        except asyncio.QueueFull:
            with contextlib.suppress(asyncio.QueueEmpty):
                while True:
                    waiting.get_nowait()
            waiting.put_nowait(None)

    def take(changes: list[RowChange]) -> None:
        found = [event for change in changes if change.after is not None and (event := event_of(change.after))]
        found = [e for e in found if (run is None or e.get("run") == run) and (not tables or e["table"] in tables)]
        if found:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(put, found)

    end = control.subscribe(take)
    try:
        yield b": here\n\n"
        while True:
            try:
                event = await asyncio.wait_for(waiting.get(), _STILL_S)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if event is None:
                return
            yield b"event: " + event["table"].encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
    finally:
        end()
