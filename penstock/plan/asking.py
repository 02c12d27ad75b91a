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

__all__ = ["asking_row", "counts_reader", "log_of", "read_by", "source_of", "sources_of"]


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


def asking_row(group: GroupPlan) -> frozenset[str]:
    """Columns of the source from which a row of the group's input is made: its key, which must be the one read, too."""
    return _needed(group.input, _counted(group))


def counts_reader(relation: EnrichPlan) -> bool:
    """Whether a relation's rows, reading a group over the log that they are of, count there themselves."""
    source = relation.lookup.source
    if not isinstance(source, GroupPlan) or not source.layout.include_self:
        return False
    return log_of(source.input) is log_of(relation.input)


def log_of(relation: RelationPlan) -> SourcePlan | JoinPlan:
    """The source or join whose log a relation's rows are of."""
    while not isinstance(relation, SourcePlan | JoinPlan):
        relation = relation.input
    return relation


def read_by(group: GroupPlan) -> frozenset[str]:
    """What a row of a group's input must have so that the group answers it."""
    return _counted(group) if group.layout.include_self else frozenset(group.keys)


def _counted(group: GroupPlan) -> frozenset[str]:
    """What a row of a group's input is counted by."""
    return frozenset(c for slot in group.slots for c in slot.columns) | set(group.keys)


def _needed(relation: RelationPlan, columns: frozenset[str]) -> frozenset[str]:
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
            found = _needed(relation.input, (columns - read) | (set(relation.lookup.keys) if read else set()))
            if read and counts_reader(relation):
                assert isinstance(relation.lookup.source, GroupPlan)
                found |= asking_row(relation.lookup.source)
            return found
        case JoinPlan():
            folded = columns & {reducer.name for reducer in relation.reducers}
            matched = set(relation.on) if folded or relation.emit == "match" else set()
            return _needed(relation.observation, (columns - folded) | matched)
    read = columns - set(relation.input.schema)
    return _needed(relation.input, (columns - read) | (read_by(relation) if read else frozenset()))
