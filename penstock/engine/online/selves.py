"""The asking row at request time: it counts in groups that include it, once, whether or not the log has it already."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.algebra.keys import key_hashes
from penstock.algebra.layout import SlotKind, Window, WindowKind
from penstock.algebra.measures import Groups, Reader, measure_groups
from penstock.algebra.table import Rows
from penstock.engine.history.answers import Status
from penstock.engine.history.relations import group_names
from penstock.engine.history.slots import flatten, to_arrow
from penstock.engine.live.flow import alike, origin_of
from penstock.engine.live.frame import set_column, set_columns
from penstock.engine.live.groups import GroupState
from penstock.engine.live.keyed import Found
from penstock.engine.online.reads import STATUSES, Asking, Read, read_group, read_lookup
from penstock.names import Fingerprint
from penstock.plan.asking import counts_reader, read_by
from penstock.plan.ir import (
    ComputePlan,
    EnrichPlan,
    FilterPlan,
    GroupPlan,
    JoinPlan,
    LookupPlan,
    RelationPlan,
    SourcePlan,
)

__all__ = ["read_with_self"]

Int64s = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Selves:
    """Asking rows as rows of a group's input.

    Attributes:
        counts: which of them may count; ids: hashes of their event ids, 0 for none.
    """

    rows: pa.RecordBatch
    counts: Flags
    ids: Int64s


def read_with_self(
    asking: Asking, lookup: LookupPlan, keys: list[pa.Array], requests: pa.RecordBatch, id_column: str | None
) -> Read:
    """A group's columns under the reader's names, each request counting as a row at `q`, after all known at `q`.

    It does not count under another key, where a filter leaves it out, in windows with an offset, or in a window in
    which a row with its id counts.

    Args:
        lookup: of a group, with `self_columns`.
        id_column: of the requests, if they bring ids.
    """
    plan = lookup.source
    assert isinstance(plan, GroupPlan)
    ids = np.zeros(requests.num_rows, np.int64)
    if id_column is not None:
        given = requests.column(id_column).cast(pa.string())
        ids = np.where(np.asarray(given.is_null()), 0, key_hashes([given]).view(np.int64))
    found = _Requests(asking, requests, ids).read_group(plan, keys)
    columns, statuses = {}, {}
    for old, new in zip(lookup.columns, lookup.outputs.names, strict=True):
        columns[new], statuses[new] = found.columns[old], found.statuses[old]
    return Read(columns, statuses, found.age_us)


@dataclass(frozen=True, eq=False)
class _Requests:
    """Asking rows as the log would have them.

    Attributes:
        ids: hashes of their event ids, 0 for none.
    """

    asking: Asking
    rows: pa.RecordBatch
    ids: Int64s
    _made: dict[Fingerprint, tuple[pa.RecordBatch, Flags]] = field(default_factory=dict)

    def read_group(self, plan: GroupPlan, keys: list[pa.Array]) -> Read:
        """A group's features under keys, each asking row counted where the group includes it."""
        keys = alike(keys, plan)
        found = read_group(self.asking, plan, keys)
        if not plan.layout.include_self:
            return found
        rows, counts = self.as_input(plan.input)
        for key, own in zip(keys, alike([rows.column(name) for name in plan.keys], plan), strict=True):
            counts = counts & np.asarray(pc.fill_null(pc.equal(key, own), False))
        return _measured(self.asking, plan, keys, _Selves(rows, counts, self.ids), found) if counts.any() else found

    def as_input(self, relation: RelationPlan) -> tuple[pa.RecordBatch, Flags]:
        """The rows as a relation over their log has them, as far as they bring what it takes, and which it lets
        through."""
        if relation.fingerprint not in self._made:
            self._made[relation.fingerprint] = self._as_input(relation)
        return self._made[relation.fingerprint]

    def _as_input(self, relation: RelationPlan) -> tuple[pa.RecordBatch, Flags]:
        if isinstance(relation, SourcePlan):
            return self.rows, np.ones(self.rows.num_rows, np.bool_)
        rows, counts = self.as_input(relation.observation if isinstance(relation, JoinPlan) else relation.input)
        brought = set(rows.schema.names)
        match relation:
            case FilterPlan():
                counts = counts & np.asarray(pc.fill_null(relation.condition.evaluate(rows), False))
            case ComputePlan():
                for name, expression in relation.columns:
                    if expression.columns <= set(rows.schema.names):
                        rows = set_column(rows, name, expression.evaluate(rows))
            case EnrichPlan(lookup=lookup) if brought >= set(lookup.keys):
                keys = [rows.column(name) for name in lookup.keys]
                if counts_reader(relation):
                    assert isinstance(lookup.source, GroupPlan)
                    read = self.read_group(lookup.source, keys).columns
                    found = {new: read[old] for old, new in zip(lookup.columns, lookup.outputs.names, strict=True)}
                else:
                    found = dict(read_lookup(self.asking, lookup, keys).columns)
                rows = set_columns(rows, found)
            case JoinPlan() if brought >= set(relation.on):
                rows, matched = self._joined(relation, rows)
                counts = counts & matched if relation.emit == "match" else counts
            case GroupPlan() if brought >= read_by(relation):
                features = self.read_group(relation, [rows.column(name) for name in relation.keys]).columns
                rows = set_columns(rows, {name: features[old] for old, name in group_names(relation).items()})
        return rows, counts

    def _joined(self, plan: JoinPlan, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Flags]:
        """The rows with the outcomes that are known now, and whether there are any."""
        t = self.asking.instants(rows.num_rows)
        known = np.minimum(self.asking.moment.known_us, t + plan.within_us + plan.grace_us)
        keys = [rows.column(name) for name in plan.on]
        columns, matched = self.asking.present.join(plan).reduced(keys, t, known)
        return set_columns(rows, columns), matched


def _measured(asking: Asking, plan: GroupPlan, keys: list[pa.Array], selves: _Selves, found: Read) -> Read:
    """All features from the rows that count and the asking rows."""
    n = selves.rows.num_rows
    state = asking.present.group(plan)
    q, a = asking.instants(n), asking.known(origin_of(plan.input).name, n)
    columns, statuses = dict(found.columns), dict(found.statuses)
    seen = selves.counts & False
    made = {}
    for window in sorted({output.window for output in plan.layout.outputs}):
        there, rows = state.visible(keys, q, a, window)
        groups = _groups(plan.layout.windows[window], there, rows, selves, q)
        seen |= groups.sizes > 0
        reader = Reader(state.layout, _with_selves(state, rows, selves.rows, q), state.customs)
        for output in plan.layout.outputs:
            if output.window == window:
                column = measure_groups(reader, plan.layout.measures[output.measure], output.type, groups)
                made[output.name] = (to_arrow(column, output.type), column.status)
    for name, (values, status) in made.items():
        columns[name] = values
        statuses[name] = np.where(seen, STATUSES[status], np.uint8(Status.UNSEEN)).astype(np.uint8)
    return Read(columns, statuses, found.age_us)


def _groups(spec: Window, there: Found, rows: Rows, selves: _Selves, q: Int64s) -> Groups:
    """The rows of each query in order, its asking row among them where it counts: index n + i for query i."""
    stored = rows.values[-1]
    assert stored is not None
    parts = []
    for i, (begin, end) in enumerate(zip(there.offsets[:-1].tolist(), there.offsets[1:].tolist(), strict=True)):
        part = np.arange(begin, end)
        known = selves.ids[i] != 0 and bool((stored[begin:end] == selves.ids[i]).any())
        if selves.counts[i] and spec.offset_us == 0 and not known:
            part = np.insert(part, int((there.t[part] <= q[i]).sum()), there.t.size + i)
            if spec.kind is WindowKind.ROWS:
                part = part[-spec.n :]
        parts.append(part)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Groups(offsets, np.concatenate(parts).astype(np.int64), q - spec.offset_us)


def _with_selves(state: GroupState, rows: Rows, own: pa.RecordBatch, q: Int64s) -> Rows:
    """Rows of the state, then the asking rows."""
    n, values, valid, dictionaries = rows.t.size, [], [], []
    for i, (slot, expression) in enumerate(zip(state.layout.slots[:-1], state.slots[:-1], strict=True)):
        made = expression.evaluate(own)
        stored, flags = rows.values[i], rows.valid[i]
        known = np.ones(n, np.bool_) if flags is None else flags
        dictionary = None
        if slot.kind is SlotKind.CODE and stored is not None and rows.dictionaries is not None:
            words = rows.dictionaries[i]
            assert words is not None
            old = words.take(pa.array(stored, mask=~known)).cast(made.type)
            flat, both, dictionary = flatten(pa.concat_arrays([old, made]), slot.kind)
        else:
            mine, fresh, _ = flatten(made, slot.kind)
            flat = None if stored is None else np.concatenate([stored, mine])  # type: ignore[assignment]
            both = np.concatenate([known, np.ones(own.num_rows, np.bool_) if fresh is None else fresh])
        values.append(flat)
        valid.append(both)
        dictionaries.append(dictionary)
    t = np.concatenate([rows.t, q])
    return replace(
        rows,
        key=np.zeros(t.size, np.int64),
        t=t,
        known_from=np.concatenate([rows.known_from, q]),
        values=[*values, None],
        valid=[*valid, None],
        dictionaries=[*dictionaries, None],
    )
