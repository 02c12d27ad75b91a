"""The promise, checked: history is asked what was read online, at the positions of each read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.engine.history import History
from penstock.engine.online.readlog import LoggedReads, logged_reads
from penstock.plan.ir import GroupPlan, ViewPlan

__all__ = ["FLOAT_BOUND", "Replayed", "asked_again", "replay_check"]

FLOAT_BOUND = 1e-9
_Q, _A = "asked_at_us", "known_at_us"
_SHOWN = 20


@dataclass
class Replayed:
    """What a check found.

    Attributes:
        reads: keys answered. values: compared. different: of these.
        other_version: reads of a definition that is no longer the plan's; they are not compared.
        by_column: differences by "view.column". examples: the first differences, in words.
    """

    reads: int = 0
    values: int = 0
    different: int = 0
    other_version: int = 0
    by_column: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


def replay_check(history: History, reads: Path | str | Iterable[LoggedReads]) -> Replayed:
    """Asks history for every logged read and compares each value: floats within 1e-9, all else exactly.

    `a` of a question is the positions of the read, with the instant until which everything was known there: joined
    rows are made when progress allows, and stand at no position.

    Args:
        history: over the logs that the live job read.
        reads: a directory of read logs, or what was read of it.
    """
    found = Replayed()
    for logged in logged_reads(reads) if isinstance(reads, str | Path) else reads:
        plans: Mapping[str, ViewPlan | GroupPlan] = (
            history.plan.views if logged.kind == "view" else history.plan.groups
        )  # fmt: skip
        plan = plans.get(logged.name)
        if plan is None or plan.fingerprint != logged.fingerprint:
            found.other_version += len(logged.q_us)
            continue
        _compare(found, logged, asked_again(history, plan, logged))
    return found


def asked_again(history: History, plan: ViewPlan | GroupPlan, logged: LoggedReads) -> pa.Table:
    """What history says to logged reads, at their positions."""
    queries = logged.requests.append_column(_Q, pa.array(logged.q_us)).append_column(_A, pa.array(logged.known_us))
    ask = history.view if isinstance(plan, ViewPlan) else history.group
    return ask(plan, queries, q=_Q, a=list(logged.positions), known=_A).table()  # type: ignore[arg-type]


def _compare(found: Replayed, logged: LoggedReads, expected: pa.Table) -> None:
    found.reads += len(logged.q_us)
    for name in logged.answers.column_names:
        read, asked = logged.answers.column(name), expected.column(name)
        found.values += len(read)
        if read.type == asked.type and read.equals(asked):
            continue
        for i, (one, two) in enumerate(zip(read.to_pylist(), asked.to_pylist(), strict=True)):
            if not _same(one, two):
                found.different += 1
                found.by_column[f"{logged.name}.{name}"] += 1
                if len(found.examples) < _SHOWN:
                    key = logged.requests.slice(i, 1).to_pylist()[0]
                    found.examples.append(
                        f"{logged.name}.{name} of {key} at q = {int(np.int64(logged.q_us[i]))}: "
                        f"read {one!r}, history says {two!r}"
                    )


def _same(read: Any, asked: Any) -> bool:
    if isinstance(read, float) and isinstance(asked, float):
        return read == asked or abs(read - asked) <= FLOAT_BOUND * max(abs(asked), 1.0) or _both_nan(read, asked)
    if isinstance(read, list) and isinstance(asked, list):
        return len(read) == len(asked) and all(map(_same, read, asked))
    if isinstance(read, tuple) and isinstance(asked, tuple):
        return len(read) == len(asked) and all(map(_same, read, asked))
    if isinstance(read, dict) and isinstance(asked, dict):
        return read.keys() == asked.keys() and all(_same(read[key], asked[key]) for key in read)
    return type(read) is type(asked) and bool(read == asked)


def _both_nan(read: float, asked: float) -> bool:
    return math.isnan(read) and math.isnan(asked)
