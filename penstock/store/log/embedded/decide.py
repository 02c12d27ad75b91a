"""What becomes of each row of a commit: refused, a duplicate, or stored, and where; the id index follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.semantics.columns import OP_DELETE
from penstock.semantics.versions import ACCEPTED, NO_ID, UNSEEN_US, Decisions, Seen, accept
from penstock.store.log.embedded.gather import Rows, Stored
from penstock.store.log.embedded.ids import Entries, IdIndex, pack_places, unpack_places

__all__ = ["DEAD", "Decided", "decide"]

DEAD: Final = 3
"""Beside the kinds of `Decisions`: the row went to dead letters."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What is stored by partition, and each row's kind, `(n_rows,)`."""

    kind: NDArray[np.int8]
    stored: dict[int, Stored]

    @property
    def n_retractions(self) -> int:
        """Retractions stored beside the rows."""
        return sum(int(stored.retractions.sum()) for stored in self.stored.values())


def decide(rows: Rows, index: IdIndex | None, next_offsets: dict[int, int], settled_us: int) -> Decided:
    """Decides all rows of a commit in their order, and adds the accepted ones to the index.

    Args:
        rows: of all appends.
        index: the topic's ids; None where it keeps none.
        next_offsets: by partition, the next free offset.
        settled_us: no later row of the topic, in whichever partition, is known before it.
    """
    kind = np.zeros(len(rows), np.int8)
    kind[list(rows.reasons)] = DEAD
    if index is None:
        alive = np.flatnonzero(kind == ACCEPTED)
        return Decided(kind, _place(alive, rows.ops[alive], rows.partitions[alive], None, next_offsets))
    alive = np.flatnonzero(kind == ACCEPTED)
    hashes = rows.hashes[alive]
    codes, first = _codes(hashes)
    config = rows.spec.topic_config()
    known = index.lookup(hashes[first, 0], hashes[first, 1])
    seen = Seen(known.inserted_us, known.versioned_us)
    decisions = accept(
        codes, rows.ops[alive], rows.known_us[alive], config.dedup_us, seen, corrected_us=config.corrected_us
    )
    kind[alive] = decisions.kind
    moves = _Moves(codes, decisions, rows.partitions[alive].copy(), known.places)
    retracted = moves.find() if config.corrected else []
    taken = np.flatnonzero(decisions.kind == ACCEPTED)
    stored = _place(
        alive[taken], decisions.op[taken], moves.partitions[taken], [(alive[i], p) for i, p in retracted], next_offsets
    )
    _index(index, rows, stored, (codes, alive, decisions), settled_us)
    return Decided(kind, stored)


def _codes(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dense codes of hashes, `NO_ID` for (0, 0), and for each code a row that has it."""
    with_id = np.flatnonzero(hashes.any(axis=1))
    order = with_id[np.lexsort((hashes[with_id, 1], hashes[with_id, 0]))]
    ordered = hashes[order]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    codes = np.full(len(hashes), NO_ID, np.int64)
    codes[order] = np.cumsum(fresh) - 1
    return codes, order[fresh]


class _Moves:
    """Finds rows whose former version lies in another partition."""

    def __init__(
        self,
        codes: NDArray[np.int64],
        decisions: Decisions,
        partitions: NDArray[np.int64],
        places: NDArray[np.int64],
    ) -> None:
        self.partitions = partitions
        self._codes, self._decisions = codes, decisions
        self._old_partitions, _, self._old_deleted = unpack_places(places)

    def find(self) -> list[tuple[int, int]]:
        """(row, old partition) where a retraction is due; a delete is sent to where its row lies instead."""
        decisions, retracted = self._decisions, []
        for row in np.flatnonzero(decisions.corrects).tolist():
            previous, code = int(decisions.previous[row]), int(self._codes[row])
            if previous >= 0:
                old, gone = int(self.partitions[previous]), bool(decisions.op[previous] == OP_DELETE)
            else:
                old, gone = int(self._old_partitions[code]), bool(self._old_deleted[code])
            if decisions.op[row] == OP_DELETE:
                self.partitions[row] = old
            elif old != self.partitions[row] and not gone:
                retracted.append((row, old))
        return retracted


def _place(
    rows: NDArray[np.int64],
    ops: NDArray[np.int8],
    partitions: NDArray[np.int64],
    retracted: list[tuple[int, int]] | None,
    next_offsets: dict[int, int],
) -> dict[int, Stored]:
    """Rows by partition, in their order; a retraction takes the place its row would have had."""
    retractions = np.zeros(len(rows), np.bool_)
    if retracted:
        moved = np.array(retracted, np.int64)
        rows = np.r_[rows, moved[:, 0]]
        partitions = np.r_[partitions, moved[:, 1]]
        ops = np.r_[ops, np.full(len(moved), OP_DELETE, np.int8)]
        retractions = np.r_[retractions, np.ones(len(moved), np.bool_)]
        order = np.argsort(rows, kind="stable")
        rows, partitions, ops, retractions = rows[order], partitions[order], ops[order], retractions[order]
    stored = {}
    for partition in np.unique(partitions).tolist():
        here = slice(None) if len(next_offsets) == 1 else partitions == partition
        stored[partition] = Stored(rows[here], ops[here], retractions[here], next_offsets[partition])
    return stored


def _index(
    index: IdIndex,
    rows: Rows,
    stored: dict[int, Stored],
    decided: tuple[NDArray[np.int64], NDArray[np.int64], Decisions],
    settled_us: int,
) -> None:
    """Adds the last accepted version of each id."""
    codes, alive, decisions = decided
    accepted = np.flatnonzero((decisions.kind == ACCEPTED) & (codes != NO_ID))
    if not len(accepted):
        return
    partitions = np.zeros(len(rows), np.int64)
    offsets = np.zeros(len(rows), np.int64)
    for partition, here in stored.items():
        own = ~here.retractions
        partitions[here.rows[own]] = partition
        offsets[here.rows[own]] = here.first_offset + np.flatnonzero(own)
    # Codes count the hashes in their order, so the last row of each code, by code, is sorted by hash.
    order = accepted[np.argsort(codes[accepted], kind="stable")]
    last = order[np.r_[codes[order][1:] != codes[order][:-1], True]]
    at = alive[last]
    config = rows.spec.topic_config()
    span_us: int | None = config.dedup_us
    if config.corrected:
        span_us = None if config.corrected_us is None else max(config.dedup_us, config.corrected_us)
    index.add(
        Entries(
            rows.hashes[at, 0],
            rows.hashes[at, 1],
            decisions.inserted_us[last],
            rows.known_us[at],
            pack_places(partitions[at], offsets[at], decisions.op[last] == OP_DELETE),
        ),
        None if span_us is None else max(settled_us - span_us, UNSEEN_US),
    )
