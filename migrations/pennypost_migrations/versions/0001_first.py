"""The first schema: the mint's book and the post office's mail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("request", sa.LargeBinary(32), nullable=False),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request"),
        sqlite_with_rowid=False,
    )
    op.create_index("answers_keep_until", "answers", ["keep_until"])
    op.create_table(
        "keysets",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(66), nullable=False),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("input_fee_ppk", sa.Integer(), nullable=False),
        sa.Column("final_expiry", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "lightning_cursors",
        sa.Column("backend", sa.String(32), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("backend"),
    )
    op.create_table(
        "lightning_invoices",
        sa.Column("payment_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("backend", sa.String(32), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("expiry", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("payment_hash"),
    )
    op.create_table(
        "mint_quotes",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("payment_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("pubkey", sa.String(66), nullable=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("amount_paid", sa.BigInteger(), nullable=False),
        sa.Column("amount_issued", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expiry", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("payment_hash"),
    )
    op.create_index("mint_quotes_open", "mint_quotes", ["state", "created_at"])
    op.create_table(
        "play_invoices",
        sa.Column("payment_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expiry", sa.BigInteger(), nullable=False),
        sa.Column("settle_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("payment_hash"),
    )
    op.create_table(
        "outputs",
        sa.Column("b", sa.LargeBinary(33), nullable=False),
        sa.Column("keyset", sa.Integer(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("c", sa.LargeBinary(33), nullable=False),
        sa.Column("e", sa.LargeBinary(32), nullable=False),
        sa.Column("s", sa.LargeBinary(32), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["keyset"], ["keysets.position"]),
        sa.PrimaryKeyConstraint("b"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "spent",
        sa.Column("y", sa.LargeBinary(33), nullable=False),
        sa.Column("keyset", sa.Integer(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("witness", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["keyset"], ["keysets.position"]),
        sa.PrimaryKeyConstraint("y"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "address_tombstones",
        sa.Column("address", sa.LargeBinary(32), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
        sqlite_with_rowid=False,
    )
    op.create_index("address_tombstones_keep_until", "address_tombstones", ["keep_until"])
    op.create_table(
        "addresses",
        sa.Column("address", sa.LargeBinary(32), nullable=False),
        sa.Column("event_id", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
        sqlite_with_rowid=False,
    )
    op.create_index("addresses_keep_until", "addresses", ["keep_until"])
    op.create_table(
        "events",
        sa.Column("id", sa.LargeBinary(32), nullable=False),
        sa.Column("pubkey", sa.LargeBinary(32), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("events_author", "events", ["pubkey", "created_at"])
    no_wrap = sa.text("kind <> 1059")
    op.create_index("events_kind", "events", ["kind", "created_at"], sqlite_where=no_wrap, postgresql_where=no_wrap)
    op.create_index("events_time", "events", ["created_at"], sqlite_where=no_wrap, postgresql_where=no_wrap)
    op.create_table(
        "feed",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.LargeBinary(32), nullable=False),
        sa.Column("record", sa.LargeBinary(40), nullable=True),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_with_rowid=False,
    )
    op.create_index("feed_keep_until", "feed", ["keep_until"])
    op.create_index(
        "feed_shown",
        "feed",
        ["seq"],
        sqlite_where=sa.text("record IS NOT NULL"),
        postgresql_where=sa.text("record IS NOT NULL"),
    )
    op.create_table(
        "feed_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tags",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("key", "created_at", "event_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tombstones",
        sa.Column("id", sa.LargeBinary(32), nullable=False),
        sa.Column("pubkey", sa.LargeBinary(32), nullable=False),
        sa.Column("keep_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", "pubkey"),
        sqlite_with_rowid=False,
    )
    op.create_index("tombstones_keep_until", "tombstones", ["keep_until"])
    op.execute(sa.text("INSERT INTO feed_head (id, last) VALUES (1, 0)"))


def downgrade() -> None:
    op.drop_table("tombstones")
    op.drop_table("tags")
    op.drop_table("feed_head")
    op.drop_table("feed")
    op.drop_table("events")
    op.drop_table("addresses")
    op.drop_table("address_tombstones")
    op.drop_table("spent")
    op.drop_table("outputs")
    op.drop_table("play_invoices")
    op.drop_table("mint_quotes")
    op.drop_table("lightning_invoices")
    op.drop_table("lightning_cursors")
    op.drop_table("keysets")
    op.drop_table("answers")
