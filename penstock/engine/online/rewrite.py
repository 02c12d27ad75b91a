"""Logged reads after an erasure: those of the key go, the others say what history says at their positions now."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from penstock.engine.history import History
from penstock.engine.online.readlog import ANSWER, SUFFIX, LoggedReads, locked, read_file, read_table
from penstock.engine.online.replay import asked_again

__all__ = ["rewrite_reads"]


def rewrite_reads(history: History, directory: Path, key: Mapping[str, str]) -> int:
    """Rewrites all read logs of a directory; how many reads went.

    Reads of definitions that are no longer the plan's can be neither checked nor made again: they go.

    Args:
        history: over what is left.
        key: request column -> value as text; a request that matches all goes.
    """
    with locked(directory):  # a process that takes reads waits, and begins a new file after that
        return sum(_rewrite(history, path, key) for path in sorted(directory.glob(f"*{SUFFIX}")))


def _rewrite(history: History, path: Path, key: Mapping[str, str]) -> int:
    logged, table = read_file(path), read_table(path)
    if logged is None or table is None:
        path.unlink()
        return 0
    plans = history.plan.views if logged.kind == "view" else history.plan.groups
    plan = plans.get(logged.name)
    if plan is None or plan.fingerprint != logged.fingerprint:
        path.unlink()
        return int(table.num_rows)
    expected = asked_again(history, plan, logged)
    for name in logged.answers.column_names:
        at = table.schema.get_field_index(ANSWER + name)
        table = table.set_column(at, table.schema.field(at), expected.column(name).cast(table.schema.field(at).type))
    kept = table.filter(pc.invert(_matches(logged, key)))
    part = path.with_suffix(".new")
    with part.open("wb") as file:
        with pa.ipc.new_stream(file, kept.schema) as writer:
            writer.write_table(kept)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return int(table.num_rows - kept.num_rows)


def _matches(logged: LoggedReads, key: Mapping[str, str]) -> pa.Array:
    match = pa.array([bool(key) and set(key) <= set(logged.requests.column_names)] * len(logged.q_us), pa.bool_())
    for name, text in key.items():
        if name in logged.requests.column_names:
            said = logged.requests.column(name).cast(pa.string()).combine_chunks()
            match = pc.and_(match, pc.fill_null(pc.equal(said, text), False))
    return match
