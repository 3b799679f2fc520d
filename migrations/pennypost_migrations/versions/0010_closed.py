"""Swaps at mints elsewhere that the operator closed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "foreign_closed",
        sa.Column("event_id", sa.LargeBinary(32), nullable=False),
        sa.Column("stamps", sa.LargeBinary(32), nullable=False),
        sa.Column("mint", sa.String(512), nullable=False),
        sa.Column("keyset", sa.String(66), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("amounts", sa.String(512), nullable=False),
        sa.Column("letter", sa.Boolean(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(256), nullable=False),
        sa.Column("collected", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "stamps"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("foreign_closed")
