"""Workflows, runs, node runs, facts, consumptions, streams, leases, outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the tables."""
    _workflows()
    _runs()
    _node_runs()
    _attempts()
    _facts()
    _intervals()
    _consumptions()
    _streams()
    _leases()
    _outbox()
    _pools()


def _workflows() -> None:
    op.create_table(
        "workflows",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("cursor_us", sa.BigInteger, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("components", sa.Text, nullable=False),
        sa.Column("applied_us", sa.BigInteger, nullable=False),
        sa.Column("truths", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workflows"),
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("overlap_key", sa.Text, nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("interval_start_us", sa.BigInteger, nullable=True),
        sa.Column("interval_end_us", sa.BigInteger, nullable=True),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("components", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=True),
        sa.Column("ended_us", sa.BigInteger, nullable=True),
        sa.Column("error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run", name="pk_runs"),
    )
    op.create_index("ix_runs_created_us", "runs", ["created_us", "run"])
    op.create_index("ix_runs_state", "runs", ["state", "created_us", "run"])
    op.create_index("ix_runs_workflow", "runs", ["workflow", "created_us", "run"])


def _node_runs() -> None:
    op.create_table(
        "node_runs",
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("ready_us", sa.BigInteger, nullable=True),
        sa.Column("started_us", sa.BigInteger, nullable=True),
        sa.Column("ended_us", sa.BigInteger, nullable=True),
        sa.Column("retry_us", sa.BigInteger, nullable=True),
        sa.Column("late_us", sa.BigInteger, nullable=True),
        sa.Column("outputs", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run", "node", name="pk_node_runs"),
    )
    op.create_index("ix_node_runs_created_us", "node_runs", ["created_us", "run", "node"])
    op.create_index("ix_node_runs_state", "node_runs", ["state", "created_us", "run", "node"])
    op.create_index("ix_node_runs_workflow", "node_runs", ["workflow", "node", "created_us"])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=True),
        sa.Column("ended_us", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run", "node", "attempt", name="pk_attempts"),
    )


def _facts() -> None:
    op.create_table(
        "facts",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("subject", "kind", "scope", name="pk_facts"),
    )
    op.create_index("uq_facts_seq", "facts", ["seq"], unique=True)


def _intervals() -> None:
    op.create_table(
        "intervals",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("end_us", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("subject", "start_us", "end_us", "seq", name="pk_intervals"),
    )


def _consumptions() -> None:
    op.create_table(
        "consumptions",
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("workflow", "trigger", "scope", "revision", name="pk_consumptions"),
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "ix_consumptions_waiting", "consumptions", ["workflow"], sqlite_where=waiting, postgresql_where=waiting
    )


def _streams() -> None:
    op.create_table(
        "streams",
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("desired", sa.Text, nullable=False),
        sa.Column("gate", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("edges", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("job", name="pk_streams"),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )


def _pools() -> None:
    op.create_table(
        "pools",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("slots", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_pools"),
    )
