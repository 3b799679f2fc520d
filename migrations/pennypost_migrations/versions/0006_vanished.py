"""Requests to vanish, and a count by which transactions notice a deletion beside them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vanished",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("had_mail", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_index("vanished_oldest", "vanished", ["had_mail", "until"])
    op.create_table(
        "vanishing",
        sa.Column("pubkey", sa.LargeBinary(32), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pubkey"),
        sqlite_with_rowid=False,
    )
    op.add_column("feed_head", sa.Column("burials", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("feed_head", "burials")
    op.drop_table("vanishing")
    op.drop_table("vanished")
