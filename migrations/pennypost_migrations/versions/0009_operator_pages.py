"""What the operator's pages need: who is signed in, price lists set by hand, and samples for plots over time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("purpose", sa.String(8), nullable=False),
        sa.Column("pubkey", sa.LargeBinary(32), nullable=True),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "price_edits",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("toml", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "samples",
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("process", sa.LargeBinary(8), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("sat", sa.BigInteger(), nullable=False),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.Column("answer_us", sa.BigInteger(), nullable=False),
        sa.Column("slow_us", sa.BigInteger(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("connections", sa.Integer(), nullable=False),
        sa.Column("lightning", sa.Integer(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("at", "process"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("samples")
    op.drop_table("price_edits")
    op.drop_table("sign_ins")
