"""Versions of a row: which appended rows are accepted, and until when each accepted version counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from penstock.semantics.columns import (
    ID,
    KNOWN_TIME,
    KNOWN_UNTIL,
    NEVER_US,
    OFFSET,
    OP,
    OP_DELETE,
    OP_INSERT,
    OP_UPSERT,
    PARTITION,
)

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ACCEPTED", "DUPLICATE", "NO_ID", "NO_OP", "UNSEEN_US", "Decisions", "Seen", "accept", "resolve_versions"]

ACCEPTED: Final = 0
DUPLICATE: Final = 1
NO_OP: Final = 2
"""A delete of an unknown id."""

NO_ID: Final = -1
"""The code of a row without an id."""
UNSEEN_US: Final = -(2**63)
"""The known time of what an id never had."""

_ROUNDS: Final = 32


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of each id before the rows at hand, by id code.

    Attributes:
        inserted_us: known time of the last accepted insert, `UNSEEN_US` where there was none; `(n_ids,)`.
        versioned_us: known time of the last accepted version, `UNSEEN_US` where there was none; `(n_ids,)`.
    """

    inserted_us: NDArray[np.int64]
    versioned_us: NDArray[np.int64]

    @classmethod
    def nothing(cls, n_ids: int) -> Seen:
        """No id has been seen."""
        return cls(np.full(n_ids, UNSEEN_US, np.int64), np.full(n_ids, UNSEEN_US, np.int64))


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the door decided, row by row; all arrays are `(n_rows,)` in the order of the rows.

    Attributes:
        kind: `ACCEPTED`, `DUPLICATE` or `NO_OP`.
        op: the op in force: an upsert of an unknown id is an insert.
        inserted_us: known time of the id's last accepted insert, once this row is decided.
        previous: index of the accepted row of the same id before this one among these rows, or -1.
        corrects: whether the row is a further version of a known id.
    """

    kind: NDArray[np.int8]
    op: NDArray[np.int8]
    inserted_us: NDArray[np.int64]
    previous: NDArray[np.int64]
    corrects: NDArray[np.bool_]


def accept(
    ids: NDArray[np.int64],
    ops: NDArray[np.int8],
    known_us: NDArray[np.int64],
    dedup_us: int,
    seen: Seen | None = None,
    *,
    corrected_us: int | None = None,
) -> Decisions:
    """Decides which rows are accepted, in the order given.

    A repeated insert is dropped if and only if an accepted insert of its id has `k >= k_now - dedup_us`, even when
    its payload differs; a duplicate never extends the span. An id is known if a version of it was accepted within the
    horizon of corrections. An upsert of an unknown id is an insert, a delete of one does nothing; so it is for rows
    without an id. Inserts without an id are never dropped.

    Args:
        ids: codes from 0, `NO_ID` for none; `(n_rows,)`.
        ops: `OP_INSERT`, `OP_UPSERT` or `OP_DELETE`; `(n_rows,)`.
        known_us: known times, not falling among the rows of one id; `(n_rows,)`.
        dedup_us: D, microseconds.
        seen: what is known of each code; nothing by default.
        corrected_us: the horizon of corrections; None for ever.
    """
    n = len(ids)
    n_ids = int(ids.max()) + 1 if n else 0
    seen = seen or Seen.nothing(n_ids)
    rounds = _Rounds(ids, ops, known_us, (dedup_us, corrected_us), seen)
    order = np.argsort(ids, kind="stable")
    order = order[ids[order] != NO_ID]
    codes = ids[order]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]) if len(codes) else np.empty(0, np.int64)
    ranks = np.arange(len(codes)) - np.repeat(starts, np.diff(np.r_[starts, len(codes)]))
    deepest = int(ranks.max()) if len(ranks) else -1
    for rank in range(min(deepest + 1, _ROUNDS)):
        rounds.decide(order[ranks == rank] if deepest else order)
    if deepest >= _ROUNDS:
        for row in order[ranks >= _ROUNDS]:
            rounds.decide(np.array([row]))
    return Decisions(rounds.kind, rounds.op, rounds.row_inserted_us, rounds.previous, rounds.corrects)


class _Rounds:
    """The state of `accept`: rows of different ids are decided together, rows of one id one after the other."""

    def __init__(
        self,
        ids: NDArray[np.int64],
        ops: NDArray[np.int8],
        known_us: NDArray[np.int64],
        spans_us: tuple[int, int | None],
        seen: Seen,
    ) -> None:
        n = len(ids)
        self.ids, self.known_us = ids, known_us
        self.dedup_us, self.corrected_us = spans_us
        self.inserted_us, self.versioned_us = seen.inserted_us.copy(), seen.versioned_us.copy()
        self.last = np.full(len(self.versioned_us), -1, np.int64)
        without = ids == NO_ID
        self.kind = np.where(without & (ops == OP_DELETE), NO_OP, ACCEPTED).astype(np.int8)
        self.op = np.where(without & (ops == OP_UPSERT), OP_INSERT, ops).astype(np.int8)
        self.corrects = np.zeros(n, np.bool_)
        self.row_inserted_us = np.full(n, UNSEEN_US, np.int64)
        self.previous = np.full(n, -1, np.int64)

    def decide(self, rows: NDArray[np.int64]) -> None:
        """Decides rows of pairwise different ids."""
        codes, known_us, op = self.ids[rows], self.known_us[rows], self.op[rows]
        inserted, versioned = self.inserted_us[codes], self.versioned_us[codes]
        known = versioned != UNSEEN_US
        if self.corrected_us is not None:
            known &= versioned >= known_us - self.corrected_us
        effective = np.where((op == OP_UPSERT) & ~known, OP_INSERT, op).astype(np.int8)
        duplicate = (op == OP_INSERT) & (inserted != UNSEEN_US) & (inserted >= known_us - self.dedup_us)
        no_op = (op == OP_DELETE) & ~known
        taken = ~(duplicate | no_op)
        inserted = np.where(taken & (effective == OP_INSERT), known_us, inserted)
        self.kind[rows] = np.where(duplicate, DUPLICATE, np.where(no_op, NO_OP, ACCEPTED))
        self.op[rows] = effective
        self.row_inserted_us[rows] = inserted
        self.previous[rows] = self.last[codes]
        self.inserted_us[codes] = inserted
        self.versioned_us[codes] = np.where(taken, known_us, versioned)
        self.corrects[rows] = known & taken
        self.last[codes[taken]] = rows[taken]


def resolve_versions(
    rows: pa.RecordBatch | pa.Table,
    *,
    positions: bool = False,
    corrected: bool = True,
    horizon_us: int | None = None,
) -> pa.Table:
    """Accepted rows as versions: deletes taken out, `_known_until` added; the order of the rows stays.

    Of one id, within one partition, the version with the greatest (`k`, offset) counts; a version is over at the
    known time of the next one, be it a correction, a delete or the retraction that a move to another partition left
    behind. Two versions of one commit: the earlier never counts. Rows without an id never end.

    Args:
        rows: accepted rows with `_id`, `_known_time`, `_partition`, `_offset` and `_op`.
        positions: also add `_until_offset` int64, the offset of the version that ends this one, `NEVER_US` if none;
            for knowledge given as log positions.
        corrected: whether the stream takes corrections (it has an `op`); without, each row is an event of its own
            and never ends.
        horizon_us: C, the correction horizon: a row that comes later than that after the newest version of its id is
            a new event, and the former version stays.
    """
    import pyarrow as pa  # loaded with the first batch, so that definitions import without it
    import pyarrow.compute as pc

    table = pa.table(rows) if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    n = table.num_rows
    codes = pc.fill_null(pc.dictionary_encode(table[ID].combine_chunks()).indices, NO_ID) if n else pa.array([])
    ids = np.asarray(codes).astype(np.int64)
    known_us = table[KNOWN_TIME].to_numpy()
    offsets = table[OFFSET].to_numpy()
    partitions = table[PARTITION].to_numpy()
    until_us = np.full(n, NEVER_US, np.int64)
    until_offset = np.full(n, NEVER_US, np.int64)
    if n:
        order = np.lexsort((offsets, known_us, partitions, ids))
        this, after = order[:-1], order[1:]
        same = (ids[this] == ids[after]) & (partitions[this] == partitions[after]) & (ids[this] != NO_ID)
        if horizon_us is not None:
            same &= known_us[after] - known_us[this] <= horizon_us
        same &= corrected
        until_us[this[same]] = known_us[after[same]]
        until_offset[this[same]] = offsets[after[same]]
    table = table.append_column(pa.field(KNOWN_UNTIL, pa.int64(), nullable=False), pa.array(until_us))
    if positions:
        table = table.append_column(pa.field("_until_offset", pa.int64(), nullable=False), pa.array(until_offset))
    return table.filter(pc.not_equal(table[OP], OP_DELETE))
