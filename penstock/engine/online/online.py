"""Views and groups at the present, for one key or thousands, from the state of a live job in another process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.clock import Clock
from penstock.engine.history.answers import Status
from penstock.engine.hops import fold, listed_keys
from penstock.engine.online.answers import Answers
from penstock.engine.online.prepared import PreparedGroup, PreparedView
from penstock.engine.online.present import Moment, Present
from penstock.engine.online.readlog import ReadLog
from penstock.engine.online.reads import Asking, Read, read_group, read_lookup
from penstock.engine.online.requests import Requests, request_batch, scalar_columns
from penstock.engine.online.selves import read_with_self
from penstock.errors import EngineError, nearest
from penstock.plan.asking import source_of
from penstock.plan.expr.expression import Expression
from penstock.plan.expr.types import Schema
from penstock.plan.ir import GroupPlan, LookupPlan, Plan, TwoHopPlan, ViewPlan

__all__ = ["Online"]


class Online:
    """Answers out of what a live job keeps. For one thread; another opens its own.

    All keys and groups of one call are answered at one `q` and out of one committed batch. History asked with the
    positions of the answer gives the same.

    Args:
        plan: the checked project, as the job runs it.
        state_dir: of the live job.
        clock: the deployment's.
        reads: takes every read, so that history can be asked the same later.

    Raises:
        StoreError: no live job has its state there.
    """

    def __init__(self, plan: Plan, state_dir: Path | str, clock: Clock, *, reads: ReadLog | None = None) -> None:
        self.plan, self.clock, self._reads = plan, clock, reads
        self._present = Present(state_dir)

    def close(self) -> None:
        """Lets go of the state."""
        self._present.close()

    def moment(self) -> Moment:
        """The last batch committed, which the next answer rests on."""
        return self._present.moment()

    def view(self, name: str, requests: Requests, *, q_us: int | None = None) -> Answers:
        """The columns of a view.

        Args:
            requests: the view's inputs, as a mapping, several mappings, or Arrow; a null key answers as unseen.
            q_us: the instant; by default the later of the clock and what is known.

        Raises:
            EngineError: there is no such view, or the job does not keep what it reads.
            DataError: the requests do not fit.
        """
        plan = self._view(name)
        batch = request_batch(requests, plan.inputs, optional_inputs(plan), f"view {name}")

        def reading(moment: Moment) -> Answers:
            asking = Asking(self._present, moment, self._q(moment, q_us))
            made = _answer_view(asking, plan, batch)
            columns = {column: made.columns[column] for column in plan.outputs.names}
            statuses = {column: made.statuses[column] for column in columns if column in made.statuses}
            return _answers(asking, columns, statuses, made.ages, plan.fingerprint)

        return self._logged("view", name, batch, self._present.read(reading))

    def group(self, name: str, *keys: Any, q_us: int | None = None) -> Answers:
        """The features of a group by their plain names.

        Args:
            keys: one value per part of the key, or one sequence of values per part for several keys.
            q_us: as in `view`.

        Raises:
            EngineError: there is no such group, or the job does not keep it.
            DataError: the keys do not fit.
        """
        plan = self._group(name)
        types = [kind.arrow for kind in plan.key_types]
        batch = scalar_columns(keys, plan.key_names, types, f"group {name}")

        def reading(moment: Moment) -> Answers:
            asking = Asking(self._present, moment, self._q(moment, q_us))
            found = read_group(asking, plan, batch.columns)
            return _answers(asking, found.columns, found.statuses, {name: found.age_us}, plan.fingerprint)

        return self._logged("group", name, batch, self._present.read(reading))

    def prepare(self, group: str, columns: Sequence[str] | None = None) -> PreparedGroup:
        """A reader of one key of a group at a time, as fast as can be; its reads are not logged.

        Args:
            columns: names of features; all by default.

        Raises:
            EngineError: there is no such group or feature, or one is no number, truth or text, or computed from rows.
        """
        return PreparedGroup(self._present, self._group(group), self.clock, columns)

    def prepare_view(self, name: str) -> PreparedView:
        """The same of a view, for one request at a time.

        Raises:
            EngineError: there is no such view, or it reads more than numbers, truths and text by plain keys.
        """
        return PreparedView(self._present, self._view(name), self.clock)

    def _logged(self, kind: str, name: str, requests: pa.RecordBatch, answers: Answers) -> Answers:
        if self._reads is not None:
            self._reads.append(kind, name, requests, answers)
        return answers

    def _q(self, moment: Moment, q_us: int | None) -> int:
        return max(self.clock.now_us(), moment.known_us) if q_us is None else q_us

    def _view(self, name: str) -> ViewPlan:
        plan = self.plan.views.get(name)
        if plan is None:
            raise EngineError("no view has this name", found=repr(name), remedy=nearest(name, self.plan.views))
        return plan

    def _group(self, name: str) -> GroupPlan:
        plan = self.plan.groups.get(name)
        if plan is None:
            raise EngineError("no group has this name", found=repr(name), remedy=nearest(name, self.plan.groups))
        return plan


def _answers(
    asking: Asking,
    columns: Mapping[str, pa.Array],
    statuses: Mapping[str, npt.NDArray[np.uint8]],
    ages: Mapping[str, npt.NDArray[np.int64]],
    fingerprint: str,
) -> Answers:
    moment = asking.moment
    return Answers(
        columns, statuses, ages, asking.q_us, moment.known_us, moment.batch, moment.positions, fingerprint
    )  # fmt: skip


@dataclass
class _Made:
    """A view on the way: the columns of the requests, with what was read beside them."""

    requests: pa.RecordBatch
    columns: dict[str, pa.Array] = field(default_factory=dict)
    statuses: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    ages: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns.update(zip(self.requests.schema.names, self.requests.columns, strict=True))

    def take(self, lookup: LookupPlan, found: Read) -> None:
        self.columns.update(found.columns)
        self.statuses.update(found.statuses)
        label = _label(lookup)
        if label in self.ages and lookup.outputs.names:
            label = lookup.outputs.names[0]
        self.ages[label] = found.age_us

    def keys(self, lookup: LookupPlan) -> list[pa.Array]:
        """What a read goes by: columns of the requests, or of reads before it."""
        return [self.columns[name] for name in lookup.keys]

    def evaluate(self, expression: Expression) -> pa.Array:
        """Of the columns made so far."""
        names = list(expression.columns)
        if not names:
            return expression.evaluate(self.requests)
        return expression.evaluate(pa.RecordBatch.from_arrays([self.columns[name] for name in names], names=names))


def _label(lookup: LookupPlan) -> str:
    source = lookup.source
    if isinstance(source, GroupPlan):
        return source.name.name
    relation: Any = source.relation
    while not hasattr(relation, "name"):
        relation = relation.input
    return str(relation.name.name)


def optional_inputs(plan: ViewPlan) -> Schema:
    """What a request may bring beside the inputs: its event's id, where it counts as a row itself."""
    if plan.observation is None or all(lookup.self_columns is None for lookup in plan.lookups):
        return Schema()
    source = source_of(plan.observation)
    return Schema() if source.id is None or source.id in plan.inputs else source.schema.select([source.id])


def _answer_view(asking: Asking, plan: ViewPlan, requests: pa.RecordBatch) -> _Made:
    made = _Made(requests)
    id_column = None if plan.observation is None else source_of(plan.observation).id
    if id_column not in requests.schema.names:
        id_column = None
    for lookup in plan.lookups:
        if plan.observation is not None and lookup.self_columns is not None:
            made.take(lookup, read_with_self(asking, lookup, made.keys(lookup), requests, id_column))
        else:
            made.take(lookup, read_lookup(asking, lookup, made.keys(lookup)))
    for hop in plan.two_hops:
        values = _two_hop(asking, hop, made)
        made.columns[hop.name] = values
        made.statuses[hop.name] = np.asarray(pc.is_null(values)).astype(np.uint8) * np.uint8(Status.EMPTY)
    for name, expression in plan.expressions:
        made.columns[name] = made.evaluate(expression)
    return made


def _two_hop(asking: Asking, hop: TwoHopPlan, made: _Made) -> pa.Array:
    """One more value per request: the answers of all keys in all lists are read at once."""
    found = read_lookup(asking, hop.keys, made.keys(hop.keys))
    elements, parents = listed_keys(hop, found.columns[hop.list_column])
    output = hop.value.outputs.columns[0]
    if len(parents):
        values = read_lookup(asking, hop.value, [elements]).columns[output.name]
    else:
        values = pa.nulls(0, output.type.arrow)
    return fold(values, parents, made.requests.num_rows, hop.op, hop.type.arrow)
