"""The asking row: what a request must bring so that a group which includes it can count it."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.plan.ir import (
    AsOfPlan,
    ComputePlan,
    EnrichPlan,
    FilterPlan,
    GroupPlan,
    JoinPlan,
    RelationPlan,
    SourcePlan,
)

__all__ = ["asking_row", "source_of", "sources_of"]


def source_of(relation: RelationPlan) -> SourcePlan:
    """The stream or table whose rows a relation's rows are: of a join, the observations'."""
    match relation:
        case SourcePlan():
            return relation
        case JoinPlan():
            return source_of(relation.observation)
    return source_of(relation.input)


def sources_of(read: RelationPlan | AsOfPlan) -> Iterator[SourcePlan]:
    """The streams and tables that a relation or an as-of read rests on, those behind its reads included."""
    match read:
        case SourcePlan():
            yield read
        case AsOfPlan():
            yield from sources_of(read.relation)
        case JoinPlan():
            yield from sources_of(read.observation)
            yield from sources_of(read.outcome)
        case EnrichPlan():
            yield from sources_of(read.input)
            yield from sources_of(read.lookup.source)
        case _:
            yield from sources_of(read.input)


def asking_row(group: GroupPlan) -> frozenset[str] | None:
    """Columns of the source from which a row of the group's input is made: its key, which must be the one read, too.

    None where no request can bring such a row: joined rows are made later, and rows of a group need its state.
    """
    return _needed(group.input, frozenset(c for slot in group.slots for c in slot.columns) | set(group.keys))


def _needed(relation: RelationPlan, columns: frozenset[str]) -> frozenset[str] | None:
    match relation:
        case SourcePlan():
            return columns
        case FilterPlan():
            return _needed(relation.input, columns | relation.condition.columns)
        case ComputePlan():
            for name, made in reversed(relation.columns):
                if name in columns:
                    columns = (columns - {name}) | made.columns
            return _needed(relation.input, columns)
        case EnrichPlan():
            read = columns & set(relation.lookup.outputs)
            return _needed(relation.input, (columns - read) | (set(relation.lookup.keys) if read else set()))
    return None
