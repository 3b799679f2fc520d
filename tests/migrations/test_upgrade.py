"""A database of the first release is brought to the newest schema with everything in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, text

from pennypost_migrations import _config, _run, current, upgrade
from pennypost_mint.api import Keyring
from pennypost_mint.keyring import derive_keyset
from pennypost_mint.operate.books import books_on
from pennypost_mint.operate.opening import opened, snapshot
from pennypost_mint.operate.promotions import issue
from pennypost_mint.runtime.database import database_url
from tests.mint.desk import settings_for

SEED = bytes(range(32))


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return database_url(request.getfixturevalue("database_url"), tmp_path)


def first_release(connection: Connection) -> None:
    """The schema of 0001, and a mint that has sold 8 sat, of which 3 were spent."""
    command.upgrade(_config(connection), "0001")
    keyset = derive_keyset(SEED, 0, "sat", active=True)
    for statement, values in (
        (
            "INSERT INTO keysets (position, id, unit, active, input_fee_ppk, created_at)"
            " VALUES (0, :id, 'sat', true, 0, 1)",
            {"id": keyset.id},
        ),
        (
            "INSERT INTO mint_quotes (id, unit, amount, request, payment_hash, state, amount_paid, amount_issued,"
            " created_at, expiry, updated_at) VALUES (:id, 'sat', 8, 'lnbcrt1', :h, 'ISSUED', 8, 8, 1, 2, 3)",
            {"id": "0" * 32, "h": bytes(32)},
        ),
        (
            "INSERT INTO outputs (b, keyset, amount, c, e, s, day) VALUES (:b, 0, 8, :b, :e, :e, 1)",
            {"b": bytes(33), "e": bytes(32)},
        ),
        ("INSERT INTO spent (y, keyset, amount, day) VALUES (:y, 0, 3, 1)", {"y": bytes(33)}),
    ):
        connection.execute(text(statement), values)


async def test_the_first_release_goes_on(address: str, database_url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(_run, address, first_release)
    assert await current(address) == "0001"
    await upgrade(address)
    settings = settings_for(tmp_path, database_url)
    settings.seed_file.write_text(SEED.hex())
    async with opened(settings) as database:
        keyring = await Keyring.open(database, settings)
        assert keyring.active().id == derive_keyset(SEED, 0, "sat", active=True).id
        await issue(database, settings, 2, "first")
        found = await snapshot(database, books_on)
    assert (found.sold, found.promotional, found.spent, found.outstanding, found.faults) == (8, 2, 3, 7, [])
