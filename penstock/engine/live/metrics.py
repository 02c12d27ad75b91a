"""How a live job is doing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Metrics"]


@dataclass(slots=True)
class Metrics:
    """Counts since the process began, and the present state; read it from any thread.

    Attributes:
        batches, rows_in, rows_out: micro-batches run, rows taken and derived rows appended, replayed ones left out.
        replayed: micro-batches run again at the start. recovery_s: how long going back to work took.
        batch_s: seconds spent in micro-batches.
        frontier_us: everything known at or before it has been applied. watermark_us: greatest event time applied
            less the lateness declared, least of all sources; None before the first row.
        lake_rows: rows read from the lake, as the log no longer had them.
        lag_rows: rows in the topics that were not taken, when last looked.
        state_bytes: used in the arena. keys, rows: held by all groups together.
        checkpoints, checkpoint_bytes, journal_bytes: written since the process began.
        begun_anew: how often the state was made again, as rows had been erased from a source.
        late_observations: rows that came later than their group's `observations_late` (of a join: more than a day
            after its window and grace), so that history answered them; since the state began, each once.
    """

    batches: int = 0
    rows_in: int = 0
    rows_out: int = 0
    replayed: int = 0
    recovery_s: float = 0.0
    batch_s: float = 0.0
    frontier_us: int | None = None
    watermark_us: int | None = None
    lake_rows: int = 0
    lag_rows: int = 0
    state_bytes: int = 0
    keys: int = 0
    rows: int = 0
    checkpoints: int = 0
    checkpoint_bytes: int = 0
    journal_bytes: int = 0
    late_observations: int = 0
    begun_anew: int = 0
