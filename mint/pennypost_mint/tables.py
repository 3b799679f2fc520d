"""The mint's tables. Unique keys do the locking; `migrations/` creates exactly these.

Points are 33 raw bytes, hashes 32. `keyset` is the keyset's position (its derivation index), which keeps a row
narrow. `day` is the Unix day (seconds // 86,400): finer times would help to link a sale with a use.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

metadata = MetaData()

_NOT_SETTLED = text("settled_at IS NULL")

keysets = Table(
    "keysets",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("id", String(66), nullable=False, unique=True),
    Column("unit", String(16), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("input_fee_ppk", Integer, nullable=False),
    Column("final_expiry", BigInteger, nullable=True),
    Column("created_at", BigInteger, nullable=False),
)

mint_quotes = Table(
    "mint_quotes",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("unit", String(16), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("request", String, nullable=False),
    Column("payment_hash", LargeBinary(32), nullable=False, unique=True),
    Column("pubkey", String(66), nullable=True),
    Column("state", String(8), nullable=False),
    Column("amount_paid", BigInteger, nullable=False),
    Column("amount_issued", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expiry", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("mint_quotes_open", "state", "created_at"),
)

spent = Table(
    "spent",
    metadata,
    Column("y", LargeBinary(33), primary_key=True),
    Column("keyset", Integer, ForeignKey("keysets.position"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("witness", String, nullable=True),
    sqlite_with_rowid=False,
)

outputs = Table(
    "outputs",
    metadata,
    Column("b", LargeBinary(33), primary_key=True),
    Column("keyset", Integer, ForeignKey("keysets.position"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("c", LargeBinary(33), nullable=False),
    Column("e", LargeBinary(32), nullable=False),
    Column("s", LargeBinary(32), nullable=False),
    Column("day", Integer, nullable=False),
    sqlite_with_rowid=False,
)

answers = Table(
    "answers",
    metadata,
    Column("request", LargeBinary(32), primary_key=True),
    Column("keep_until", BigInteger, nullable=False),
    Index("answers_keep_until", "keep_until"),
    sqlite_with_rowid=False,
)
"""Hashes of requests already answered (NUT-19); the answer itself is rebuilt from `outputs`."""

promotions = Table(
    "promotions",
    metadata,
    Column("reference", String(64), primary_key=True),
    Column("keyset", Integer, ForeignKey("keysets.position"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""Stamps given away without Lightning; their secrets follow from the seed and the reference."""

sunset = Table(
    "sunset",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("since", BigInteger, nullable=False),
)
"""Has a row, number 1, when the mint sells no more."""

lightning_cursors = Table(
    "lightning_cursors",
    metadata,
    Column("backend", String(32), primary_key=True),
    Column("position", BigInteger, nullable=False),
)
"""Where the stream of settled invoices was read up to (LND settle_index, Core Lightning pay_index)."""

lightning_invoices = Table(
    "lightning_invoices",
    metadata,
    Column("payment_hash", LargeBinary(32), primary_key=True),
    Column("backend", String(32), nullable=False),
    Column("reference", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("expiry", BigInteger, nullable=False),
)
"""What a service reached through Nutshell's backends calls an invoice; amounts in sat, times in Unix seconds."""

play_invoices = Table(
    "play_invoices",
    metadata,
    Column("payment_hash", LargeBinary(32), primary_key=True),
    Column("request", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expiry", BigInteger, nullable=False),
    Column("settle_at", BigInteger, nullable=True),
    Column("settled_at", BigInteger, nullable=True),
    Index("play_invoices_open", "settle_at", sqlite_where=_NOT_SETTLED, postgresql_where=_NOT_SETTLED),
)
"""The play-money node's own book; amounts in sat, times in Unix seconds."""
