"""Letters that a price rule asks nothing for have a quota of their own, tombstones of free events, too; and requests
that an operator signed are known to all processes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_UNPRICED = sa.text("unpriced_bytes IS NOT NULL")
_OF_FREE = sa.text("free_since IS NOT NULL")


def upgrade() -> None:
    for table in ("events", "held"):
        op.add_column(table, sa.Column("unpriced_bytes", sa.Integer(), nullable=True))
        op.create_index(
            f"{table}_unpriced", table, ["unpriced_bytes"], sqlite_where=_UNPRICED, postgresql_where=_UNPRICED
        )
    for table in ("tombstones", "address_tombstones"):
        op.add_column(table, sa.Column("free_since", sa.BigInteger(), nullable=True))
        op.create_index(f"{table}_free", table, ["free_since"], sqlite_where=_OF_FREE, postgresql_where=_OF_FREE)
    op.create_table(
        "signed_requests",
        sa.Column("event_id", sa.LargeBinary(32), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("signed_requests")
    for table in ("address_tombstones", "tombstones"):
        op.drop_index(f"{table}_free", table_name=table)
        op.drop_column(table, "free_since")
    for table in ("held", "events"):
        op.drop_index(f"{table}_unpriced", table_name=table)
        op.drop_column(table, "unpriced_bytes")
