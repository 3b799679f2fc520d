"""Samples say why events were refused, and until when mail is kept, so that both have plots over time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("samples", sa.Column("reasons", sa.Text(), server_default="{}", nullable=False))
    op.add_column("samples", sa.Column("kept_until", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("samples", "kept_until")
    op.drop_column("samples", "reasons")
