"""Play-money invoices that wait for their time are found without reading those that were settled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    waiting = sa.text("settled_at IS NULL")
    op.create_index(
        "play_invoices_open", "play_invoices", ["settle_at"], sqlite_where=waiting, postgresql_where=waiting
    )


def downgrade() -> None:
    op.drop_index("play_invoices_open", "play_invoices")
