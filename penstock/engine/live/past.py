"""What state has forgotten, answered by history: observations that come later than their declared delay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.clock import Clock
from penstock.engine.history.bygone import bygone_columns, bygone_outcomes
from penstock.engine.history.lookups import OwnPosition
from penstock.engine.history.run import Options, Run, partitions_for
from penstock.engine.history.sources import LogRows, Rows
from penstock.engine.live.frame import Frame
from penstock.engine.live.inputs import InputTopic
from penstock.plan.ir import JoinPlan, LookupPlan, Reducer, SourcePlan

__all__ = ["Past", "replaced"]

_MEMORY_BYTES = 1 << 30
"""Beyond it a run of history spills."""


@dataclass(frozen=True, eq=False)
class Past:
    """History over the topics of a job, asked by rows of its frames at their own positions.

    A row's answer rests on rows at or before it, all of which are in the topics when it is asked, so a batch that runs
    again is answered alike. Each call reads what the answer may rest on anew: late rows cost a scan per batch.

    Args:
        topics: by name of the source.
        clock: of the deployment.
    """

    topics: Mapping[str, InputTopic]
    clock: Clock

    def lookup(self, lookup: LookupPlan, frame: Frame, *, direct: bool) -> dict[str, pa.Array]:
        """What a lookup says to each row at q = t and its own position, by the reader's names.

        Args:
            direct: the rows are those of the group's input.
        """
        run = self._run()
        try:
            sight = OwnPosition(frame.origin.name, direct)
            return bygone_columns(run, lookup, pa.Table.from_batches([frame.batch]), sight)
        finally:
            run.close()

    def outcomes(
        self, plan: JoinPlan, reducers: Sequence[Reducer], rows: pa.RecordBatch, a: npt.NDArray[np.int64]
    ) -> dict[str, pa.Array]:
        """Folds of the outcomes of a join's observations, known at `a`."""
        run = self._run()
        try:
            return bygone_outcomes(run, plan, reducers, pa.Table.from_batches([rows]), a)
        finally:
            run.close()

    def _run(self) -> Run:
        found = {name: LogRows(topic) for name, topic in self.topics.items()}

        def resolve(source: SourcePlan) -> Rows:
            return found[source.name.name]

        options = Options(memory_bytes=_MEMORY_BYTES)
        n_rows = max(rows.rows() for rows in found.values())
        parts, spills = partitions_for(n_rows * 8 * 7, n_rows, options)
        return Run(resolve, options, parts, spills, n_rows, self.clock)


def replaced(values: pa.Array, at: npt.NDArray[np.int64], others: pa.Array) -> pa.Array:
    """The values with those at some places, in rising order, replaced by others."""
    others = others if others.type == values.type else others.cast(values.type)
    places = np.arange(len(values))
    places[at] = len(values) + np.arange(len(at))
    return pa.concat_arrays([values, others]).take(pa.array(places))
