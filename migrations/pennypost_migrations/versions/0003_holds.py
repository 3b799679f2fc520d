"""Held events until they are released, and what postmarks say."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("hold", sa.LargeBinary(32), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hold"),
        sqlite_with_rowid=False,
    )
    op.create_index("holds_keep_until", "holds", ["keep_until"])
    op.create_table(
        "held",
        sa.Column("id", sa.LargeBinary(32), nullable=False),
        sa.Column("hold", sa.LargeBinary(32), nullable=False),
        sa.Column("pubkey", sa.LargeBinary(32), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("held_hold", "held", ["hold"])
    op.create_index("held_author", "held", ["pubkey"])
    op.create_index("held_keep_until", "held", ["keep_until"])
    op.create_table(
        "held_receivers",
        sa.Column("receiver", sa.LargeBinary(32), nullable=False),
        sa.Column("event_id", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("receiver", "event_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "postmarks",
        sa.Column("event_id", sa.LargeBinary(32), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.Column("sat", sa.BigInteger(), nullable=False),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("postmarks_keep_until", "postmarks", ["keep_until"])


def downgrade() -> None:
    op.drop_table("postmarks")
    op.drop_table("held_receivers")
    op.drop_table("held")
    op.drop_table("holds")
