"""Stamps of mints elsewhere: the journal of swaps, and the treasury."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "foreign_journal",
        sa.Column("event_id", sa.LargeBinary(32), nullable=False),
        sa.Column("mint", sa.String(512), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("keyset", sa.String(66), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("amounts", sa.String(512), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_table(
        "foreign_inputs",
        sa.Column("y", sa.LargeBinary(33), nullable=False),
        sa.Column("event_id", sa.LargeBinary(32), nullable=False),
        sa.Column("keyset", sa.String(66), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.String(1024), nullable=False),
        sa.Column("c", sa.LargeBinary(33), nullable=False),
        sa.PrimaryKeyConstraint("y"),
        sqlite_with_rowid=False,
    )
    op.create_index("foreign_inputs_event", "foreign_inputs", ["event_id"])
    op.create_table(
        "treasury",
        sa.Column("y", sa.LargeBinary(33), nullable=False),
        sa.Column("mint", sa.String(512), nullable=False),
        sa.Column("keyset", sa.String(66), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("c", sa.LargeBinary(33), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("sweep", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("y"),
        sqlite_with_rowid=False,
    )
    op.create_index("treasury_mint", "treasury", ["mint", "sweep"])
    op.create_table(
        "treasury_counters",
        sa.Column("keyset", sa.String(66), nullable=False),
        sa.Column("mint", sa.String(512), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("keyset"),
    )


def downgrade() -> None:
    op.drop_table("treasury_counters")
    op.drop_table("treasury")
    op.drop_table("foreign_inputs")
    op.drop_table("foreign_journal")
