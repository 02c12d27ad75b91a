"""Who waits for which fact: an index, so that a change wakes those whom it concerns and nobody else."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from penstock.workflows.core.state import State
from penstock.workflows.spec.predicate import FactRef, Predicate, Scope

__all__ = ["Owner", "Watching", "watch"]

Owner = tuple[Any, ...]
"""("edge", run, node, i), ("stream", job, i), ("condition" or "bare", workflow, i), ("schedule", workflow)."""


class Watching:
    """Owners of predicates by the facts that may change them.

    A predicate that only asks whether a growing fact has passed a value lies in a heap by that value: a fact that
    grows wakes those it has passed, however many wait.
    """

    def __init__(self) -> None:
        self.changes: dict[FactRef, dict[Owner, None]] = {}
        self.local: dict[tuple[str, str], dict[Owner, None]] = {}
        """(run, node) -> edges of the same run that read it."""
        self.heaps: dict[FactRef, list[tuple[int, int, Owner]]] = {}
        self.unmet: dict[tuple[str, str], set[int]] = {}
        """(run, node) that waits -> its edges that are not true."""
        self.moved: dict[FactRef, None] = {}
        """Facts whose smallest awaited value may be another."""
        self._of: dict[Owner, tuple[tuple[FactRef, ...], tuple[tuple[str, str], ...]]] = {}
        self._order = 0

    def __contains__(self, owner: Owner) -> bool:
        return owner in self._of

    def add(
        self,
        owner: Owner,
        facts: Iterable[FactRef],
        local: Iterable[tuple[str, str]] = (),
        thresholds: Iterable[tuple[FactRef, int]] = (),
    ) -> None:
        """Lets an owner wait: for any change of `facts`, for nodes of its run, for growing facts to pass values."""
        kept = (tuple(facts), tuple(local))
        self._of[owner] = kept
        for ref in kept[0]:
            self.changes.setdefault(ref, {})[owner] = None
        for node in kept[1]:
            self.local.setdefault(node, {})[owner] = None
        for ref, value in thresholds:
            self._order += 1
            heapq.heappush(self.heaps.setdefault(ref, []), (value, self._order, owner))
            self.moved[ref] = None

    def remove(self, owner: Owner) -> None:
        """Lets an owner wait no more; what it has in heaps is passed over later."""
        kept = self._of.pop(owner, None)
        if kept is None:
            return
        for ref in kept[0]:
            _drop(self.changes, ref, owner)
        for node in kept[1]:
            _drop(self.local, node, owner)

    def passed(self, ref: FactRef, value: Any) -> list[Owner]:
        """The owners whose value a growing fact has now passed; they are not told again."""
        heap, found = self.heaps.get(ref), []
        while heap and heap[0][0] <= value:
            owner = heapq.heappop(heap)[2]
            if owner in self._of:
                found.append(owner)
        if found:
            self.moved[ref] = None
        return found

    def smallest(self, ref: FactRef) -> int | None:
        """The smallest value that somebody waits for."""
        heap = self.heaps.get(ref)
        while heap and heap[0][2] not in self._of:
            heapq.heappop(heap)
        if not heap:
            self.heaps.pop(ref, None)
            return None
        return heap[0][0]


def watch(
    watching: Watching,
    state: State,
    owner: Owner,
    predicate: Predicate,
    scope: Scope,
    *,
    local: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> None:
    """Lets the owner of a predicate wait for whatever may change it.

    Args:
        watching: the index.
        state: tells which values are passed already.
        owner: who waits.
        predicate: what it waits for.
        scope: fixes the interval and the parameters; `now` is not waited for here.
        local: subject -> (run, node) of nodes of the same run.
    """
    facts = [ref for ref in predicate.watched(scope) if ref.kind == "interval" or ref.subject not in local]
    nodes = [local[ref.subject] for ref in predicate.reads if ref.kind != "interval" and ref.subject in local]
    thresholds = []
    for kind, subject, value in predicate.thresholds(scope):
        present = state.values.get((kind, subject))
        if subject not in local and (not isinstance(present, int | float) or present < value):
            thresholds.append((FactRef(kind, subject), value))
    watching.add(owner, facts, dict.fromkeys(nodes), thresholds)


def _drop(index: dict[Any, dict[Owner, None]], key: Any, owner: Owner) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(owner, None)
        if not members:
            del index[key]
