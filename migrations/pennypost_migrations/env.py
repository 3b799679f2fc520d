"""Alembic's entry: runs on the connection it is given, one process at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

LOCK = 0x70656E6E79
"""PostgreSQL advisory lock of the migration: "penny" in ASCII."""

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
