"""The tables of workflows, made from the rows that they hold. A migration makes them; a test holds the two equal."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from penstock.store.meta.rows import ROWS, DefinitionRow, Row
from penstock.store.meta.tables import METADATA

__all__ = ["WORKFLOW_TABLES"]

_TYPES: Final = {"str": sa.Text, "int": sa.BigInteger, "int | None": sa.BigInteger}


def _table(row: type[Row]) -> sa.Table:
    columns: list[sa.Column[object]] = [
        sa.Column(
            name,
            _TYPES[row.__annotations__[name]],
            primary_key=name in row.KEY,
            nullable=row.__annotations__[name].endswith("None"),
            autoincrement=False,
        )
        for name in row.__struct_fields__
    ]
    return sa.Table(row.TABLE, METADATA, *columns)


WORKFLOW_TABLES: Final = {row.TABLE: _table(row) for row in ROWS if row is not DefinitionRow}

_runs, _nodes = WORKFLOW_TABLES["runs"], WORKFLOW_TABLES["node_runs"]
_consumptions, _facts = WORKFLOW_TABLES["consumptions"], WORKFLOW_TABLES["facts"]
sa.Index("ix_runs_created_us", _runs.c.created_us, _runs.c.run)
sa.Index("ix_runs_workflow", _runs.c.workflow, _runs.c.created_us, _runs.c.run)
sa.Index("ix_runs_state", _runs.c.state, _runs.c.created_us, _runs.c.run)
sa.Index("ix_node_runs_workflow", _nodes.c.workflow, _nodes.c.node, _nodes.c.created_us)
sa.Index("ix_node_runs_created_us", _nodes.c.created_us, _nodes.c.run, _nodes.c.node)
sa.Index("ix_node_runs_state", _nodes.c.state, _nodes.c.created_us, _nodes.c.run, _nodes.c.node)
sa.Index("uq_runs_seq", _runs.c.seq, unique=True)
sa.Index("uq_facts_seq", _facts.c.seq, unique=True)
sa.Index(
    "ix_consumptions_waiting",
    _consumptions.c.workflow,
    sqlite_where=sa.text("state = 'waiting'"),
    postgresql_where=sa.text("state = 'waiting'"),
)
