"""The union of done intervals, so that a scheduler need not read them all; runs found by their seq."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the table, and fills it with the union of what is there."""
    op.create_table(
        "coverage",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("end_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("subject", "start_us", name="pk_coverage"),
    )
    op.create_index("uq_runs_seq", "runs", ["seq"], unique=True)
    connection = op.get_bind()
    intervals = sa.text("SELECT subject, start_us, end_us FROM intervals ORDER BY subject, start_us")
    ranges: list[list[str | int]] = []
    for subject, start_us, end_us in connection.execute(intervals):
        if ranges and ranges[-1][0] == subject and start_us <= int(ranges[-1][2]):
            ranges[-1][2] = max(int(ranges[-1][2]), end_us)
        else:
            ranges.append([subject, start_us, end_us])
    insert = sa.text("INSERT INTO coverage (subject, start_us, end_us) VALUES (:subject, :start_us, :end_us)")
    for subject, start_us, end_us in ranges:
        connection.execute(insert, {"subject": subject, "start_us": start_us, "end_us": end_us})
