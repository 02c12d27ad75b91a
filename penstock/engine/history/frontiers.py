"""How far everything was known at positions of logs: what decides which joined rows were made by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.engine.history.frame import system
from penstock.engine.history.knowledge import Places
from penstock.engine.history.relations import arrivals
from penstock.engine.history.run import Run
from penstock.names import Fingerprint
from penstock.plan.asking import sources_of
from penstock.plan.ir import JoinPlan, SourcePlan
from penstock.semantics.columns import KNOWN_TIME, OFFSET, PARTITION

__all__ = ["Frontiers"]

Int64 = NDArray[np.int64]
_NOTHING_US = -(2**62)
_ALWAYS_US = 2**62


@dataclass(frozen=True, eq=False)
class Frontiers:
    """For a join, of each vector of positions, the last instant at or before which no row can become known after it.

    Attributes:
        known_us: the instants as they were told with the vectors; None: as far as the rows before and after the
            positions show it.
    """

    run: Run
    vectors: Sequence[Places]
    known_us: Int64 | None
    _shown: dict[Fingerprint, Int64] = field(default_factory=dict)

    def __call__(self, join: JoinPlan) -> Int64:
        """One instant per vector."""
        if self.known_us is not None:
            return self.known_us
        for source in sources_of(join):
            if source.fingerprint not in self._shown:
                self._shown[source.fingerprint] = self._of_source(source)
        return np.min([self._shown[source.fingerprint] for source in sources_of(join)], axis=0)  # type: ignore[no-any-return]

    def _of_source(self, source: SourcePlan) -> Int64:
        name = source.name.name
        rows = pa.concat_tables(list(arrivals(self.run, source)))
        partition, offset, known = (system(rows, column) for column in (PARTITION, OFFSET, KNOWN_TIME))
        found = np.full(len(self.vectors), _ALWAYS_US, np.int64)
        named = {p for vector in self.vectors for stream, p in vector if stream == name}
        for p in sorted(named | set(np.unique(partition).tolist())):
            mine = np.flatnonzero(partition == p)
            mine = mine[np.argsort(offset[mine], kind="stable")]
            k = known[mine]
            read = np.concatenate([[_NOTHING_US], np.maximum.accumulate(k)])
            to_come = np.concatenate([np.minimum.accumulate(k[::-1])[::-1], [_ALWAYS_US]])
            ends = np.array([vector.get((name, p), 0) for vector in self.vectors], np.int64)
            place = np.searchsorted(offset[mine], ends, side="left")
            reached = np.minimum(read[place], to_come[place] - 1)
            concerned = np.array([(name, p) in vector for vector in self.vectors]) | (len(mine) > 0)
            found = np.where(concerned, np.minimum(found, reached), found)
        return np.where(found == _ALWAYS_US, _NOTHING_US, found)
