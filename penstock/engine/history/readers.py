"""What relations read: joins of outcomes, lookups at a row's own position, groups as relations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from penstock.engine.history.arrange import KeyedRows
from penstock.engine.history.frame import column, system
from penstock.engine.history.groups import Asked, answer_group
from penstock.engine.history.joins import joined_rows
from penstock.engine.history.knowledge import Own, log_name
from penstock.engine.history.lookups import OwnPosition, read_columns, read_lookup
from penstock.engine.history.relations import group_names, rows_of, whole
from penstock.engine.history.run import Run
from penstock.engine.history.selves import Selves
from penstock.names import fingerprint
from penstock.plan.ir import EnrichPlan, GroupPlan, JoinPlan
from penstock.semantics.columns import EVENT_TIME, KNOWN_TIME, OFFSET, PARTITION

__all__ = ["KeyedReads"]


class KeyedReads:
    """The reads of the history engine."""

    def joined(self, run: Run, plan: JoinPlan, wanted: frozenset[str]) -> Iterator[pa.Table]:
        """The rows of a join."""
        yield from joined_rows(run, self, plan, wanted)

    def enriched(self, run: Run, plan: EnrichPlan | GroupPlan, wanted: frozenset[str]) -> Iterator[pa.Table]:
        """Rows with what a lookup or a group says at their own instant and position."""
        if isinstance(plan, GroupPlan):
            yield from self._features(run, plan, wanted)
            return
        lookup = plan.lookup
        own = wanted - set(lookup.outputs.names) | set(lookup.keys)
        if isinstance(lookup.source, GroupPlan) and lookup.source.layout.include_self:
            own |= read_columns(lookup.source, lookup.columns) & set(plan.input.schema.names)
        rows = rows_of(run, self, plan.input, own)
        tag = f"-{fingerprint(sorted(own))[:8]}"  # the same rows may be read with other columns, too
        yield from read_lookup(run, self, [lookup], rows, OwnPosition(log_name(plan.input)), tag=tag)

    def _features(self, run: Run, plan: GroupPlan, wanted: frozenset[str]) -> Iterator[pa.Table]:
        """One row per input row: computed at (q = t, a = own position), itself counted where the group says so."""
        names = group_names(plan)
        needed = read_columns(plan, ()) | (wanted - set(names.values()))
        log = log_name(plan.input)
        stage = f"rows-{plan.name.name}-{fingerprint([plan.fingerprint, sorted(needed)])[:8]}"
        exchange = run.exchange(whole(run, self, plan.input, needed), plan.keys, stage)
        for part in range(run.parts):
            rows = exchange.read(part)
            own = Own(log, system(rows, KNOWN_TIME), system(rows, PARTITION), system(rows, OFFSET))
            selves = Selves(None, np.arange(rows.num_rows))
            asked = Asked([column(rows, key) for key in plan.keys], system(rows, EVENT_TIME), own, selves)
            answer = answer_group(plan, KeyedRows(rows, plan.keys), asked, threads=run.options.threads)
            for name, long in names.items():
                if long in wanted:
                    rows = rows.append_column(long, answer.columns[name])
            yield rows
