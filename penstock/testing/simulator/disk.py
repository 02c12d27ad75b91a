"""The database of a world: the production store, in memory, under a server that dies before or after a commit."""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from penstock.clock import WallClock
from penstock.errors import StoreError
from penstock.store.meta.rows import LeaseRow, RowChange
from penstock.store.meta.rows_store import RowStore, merge
from penstock.store.meta.sql import SqlMeta

if TYPE_CHECKING:
    from penstock.testing.simulator.world import World

__all__ = ["SimStore"]


class SimStore(RowStore):
    """The production store on a database in memory; its server may die before or after a transaction."""

    def __init__(self, world: World) -> None:
        engine, connection = _engine()
        _template().backup(connection)
        super().__init__(engine)
        self._world = world

    def commit(self, changes: Iterable[RowChange]) -> int:
        """Commits; what has become durable is told to the ledger, whoever hears of it besides."""
        merged = merge(changes)
        if not merged:
            return 0
        world, rng = self._world, self._world.rng
        world.may_die("before a commit")
        is_lease = all(isinstance(after, LeaseRow) for _, after in merged)
        refused = world.is_stormy and not is_lease and rng.random() < world.plan.faults.refuse_commit
        kept = refused and rng.random() < 0.5
        if refused and not kept:
            raise StoreError("write", found="the disk is full", remedy="wait")
        written = super().commit(merged)
        world.note("commit", merged)
        world.ledger.commit(merged)
        world.may_die("after a commit")
        if kept:
            raise StoreError("write", found="the line broke in COMMIT", remedy="look what is there")
        return written


@functools.cache
def _template() -> sqlite3.Connection:
    """A migrated database; migrating one for every seed would take longer than the seed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meta.db"
        SqlMeta.open(path, clock=WallClock()).close()
        source = sqlite3.connect(path)
        made = sqlite3.connect(":memory:", check_same_thread=False)
        source.backup(made)
        source.close()
    return made


@functools.cache
def _engine() -> tuple[sa.Engine, sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    return sa.create_engine("sqlite://", poolclass=sa.StaticPool, creator=lambda: connection), connection
