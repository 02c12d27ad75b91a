"""One read by key in the state of one committed batch: a group's features, or the newest row of a relation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.algebra.monoids import Status as Made
from penstock.engine.history.answers import Status
from penstock.engine.live.asof import ASOF_LATE_US
from penstock.engine.live.flow import alike, origin_of
from penstock.engine.online.present import Moment, Present
from penstock.errors import EngineError
from penstock.plan.ir import AsOfPlan, GroupPlan, LookupPlan

__all__ = ["Asking", "Read", "read_group", "read_lookup", "read_source"]

STATUSES = np.array([Status[made.word.upper()] for made in Made], np.uint8)
"""Statuses of the algebra as the engines show them."""


@dataclass(frozen=True, eq=False)
class Read:
    """Columns and statuses by name, and an age per answer."""

    columns: Mapping[str, pa.Array]
    statuses: Mapping[str, npt.NDArray[np.uint8]]
    age_us: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Asking:
    """One instant asked of one moment."""

    present: Present
    moment: Moment
    q_us: int

    def instants(self, n: int) -> npt.NDArray[np.int64]:
        """`q`, n times."""
        return np.full(n, self.q_us, np.int64)

    def known(self, log: str, n: int) -> npt.NDArray[np.int64]:
        """What n reads of rows of a log may know, as ranks."""
        return np.full(n, self.moment.rank(log), np.int64)


def read_lookup(asking: Asking, lookup: LookupPlan, keys: Sequence[pa.Array]) -> Read:
    """A lookup's columns under the reader's names."""
    found = read_source(asking, lookup.source, keys)
    columns, statuses = {}, {}
    for old, new in zip(lookup.columns, lookup.outputs.names, strict=True):
        columns[new], statuses[new] = found.columns[old], found.statuses[old]
    return Read(columns, statuses, found.age_us)


def read_source(asking: Asking, source: AsOfPlan | GroupPlan, keys: Sequence[pa.Array]) -> Read:
    """All that is kept for the keys.

    Raises:
        EngineError: `q` lies so far back that the state may have forgotten rows.
    """
    if isinstance(source, GroupPlan):
        return read_group(asking, source, keys)
    refuse_past(asking, ASOF_LATE_US, "a read as of an instant", "ask history")
    n = len(keys[0])
    state = asking.present.asof(source)
    log = origin_of(source.relation).name
    found = state.query(alike(keys, source), asking.instants(n), asking.known(log, n))
    return Read(found.columns, dict.fromkeys(found.columns, found.status), found.age_us)


def read_group(asking: Asking, plan: GroupPlan, keys: Sequence[pa.Array]) -> Read:
    """The features of a group.

    Raises:
        EngineError: `q` lies so far back that the state may have forgotten rows.
    """
    refuse_past(asking, plan.observations_late_us, plan.name.name, "ask history, or declare observations_late")
    n = len(keys[0])
    state = asking.present.group(plan)
    log = origin_of(plan.input).name
    found = state.query(alike(keys, plan), asking.instants(n), asking.known(log, n))
    shown = np.where(found.seen, STATUSES[found.statuses], np.uint8(Status.UNSEEN))
    statuses = dict(zip(found.columns, shown, strict=True))
    return Read(found.columns, statuses, np.full(n, max(0, asking.q_us - asking.moment.known_us), np.int64))


def refuse_past(asking: Asking, late_us: int, what: str, remedy: str) -> None:
    """Refuses instants that only history can answer.

    Raises:
        EngineError: `q` lies before what is known, by more than `late_us`.
    """
    if asking.q_us < asking.moment.known_us - late_us:
        raise EngineError(
            f"online answers about its present, and {late_us} us before it of {what}",
            found=f"q = {asking.q_us}, when everything until {asking.moment.known_us} is known",
            remedy=remedy,
        )
