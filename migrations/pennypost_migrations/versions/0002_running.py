"""What running an office needs: bans, state that its processes share, sums by day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bans",
        sa.Column("subject", sa.String(8), nullable=False),
        sa.Column("value", sa.LargeBinary(32), nullable=False),
        sa.Column("reason", sa.String(256), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "value"),
    )
    op.create_table(
        "office_state",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.String(1024), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "tallies",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("subject", sa.String(8), nullable=False),
        sa.Column("label", sa.String(32), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("sat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "subject", "label"),
    )


def downgrade() -> None:
    op.drop_table("tallies")
    op.drop_table("office_state")
    op.drop_table("bans")
