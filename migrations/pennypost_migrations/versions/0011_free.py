"""What no stamp paid is marked when it is stored: events in the quota of free ones, and ids named before they came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_FREE = sa.text("free_bytes IS NOT NULL")
_EARLY = sa.text("NOT lasts")


def upgrade() -> None:
    op.add_column("events", sa.Column("free_bytes", sa.Integer(), nullable=True))
    op.create_index("events_free", "events", ["created_at", "free_bytes"], sqlite_where=_FREE, postgresql_where=_FREE)
    for table in ("tombstones", "address_tombstones"):
        op.add_column(table, sa.Column("lasts", sa.Boolean(), server_default=sa.true(), nullable=False))
        op.create_index(f"{table}_early", table, ["keep_until"], sqlite_where=_EARLY, postgresql_where=_EARLY)


def downgrade() -> None:
    for table in ("address_tombstones", "tombstones"):
        op.drop_index(f"{table}_early", table_name=table)
        op.drop_column(table, "lasts")
    op.drop_index("events_free", table_name="events")
    op.drop_column("events", "free_bytes")
