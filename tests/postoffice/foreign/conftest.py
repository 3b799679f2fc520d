"""A post office apart from its mint, both in the test's loop behind real sockets, and a liar between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, select

from pennypost_postoffice import office as offices
from pennypost_postoffice.foreign import desk, exchange, line
from pennypost_postoffice.foreign.journal import Entry, entries_on
from pennypost_postoffice.tables import foreign_inputs, treasury
from tests.postoffice.foreign.liar import Liar
from tests.postoffice.house import House, open_house


@pytest_asyncio.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[House]:
    """A pennypost mint elsewhere."""
    async with open_house(tmp_path / "mint") as opened:
        yield opened


@pytest_asyncio.fixture
async def liar(elsewhere: House) -> AsyncIterator[Liar]:
    """Stands before it."""
    async with Liar(elsewhere.url) as opened:
        yield opened


@pytest_asyncio.fixture
async def office(elsewhere: House, liar: Liar, address: str, tmp_path: Path) -> AsyncIterator[House]:
    """A post office without keys of a mint, which reaches the mint through the liar, on each database."""
    async with open_house(tmp_path / "office", address, role="postoffice", mint_urls=liar.url) as opened:
        yield opened


def quickly(patch: pytest.MonkeyPatch) -> None:
    """Pauses are short. Mints and senders have their time: an honest answer may be slow on a busy machine."""
    patch.setattr(exchange, "PAUSE", (0.05, 0.2, 0.3))
    patch.setattr(desk, "BACK", (0.05, 0.2))
    patch.setattr(offices, "OVERDUE_EVERY", 0.05)


def short_calls(patch: pytest.MonkeyPatch) -> None:
    """For mints that never answer: from now on each call ends after a third of a second."""
    patch.setattr(line, "SECONDS", 0.3)


def short_patience(patch: pytest.MonkeyPatch, seconds: float = 1.5) -> None:
    """From now on a sender is told to come again after so long."""
    patch.setattr(offices, "HELD_BACK", seconds)


def long_patience(patch: pytest.MonkeyPatch) -> None:
    """From now on a sender is answered when it is known what became of his stamp, as in life."""
    patch.setattr(offices, "HELD_BACK", 60.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are short."""
    quickly(monkeypatch)


class Books:
    """What an office has written down about mints elsewhere."""

    def __init__(self, house: House) -> None:
        self._database = house.office.database

    async def journal(self) -> list[Entry]:
        return await self._database.read(entries_on)

    async def inputs(self) -> int:
        return await self._database.read(_count, foreign_inputs)

    async def earned(self) -> int:
        """Sat in the treasury."""
        return await self._database.read(_sum)


def _count(connection: Connection, table: Any) -> int:
    return len(connection.execute(select(table)).all())


def _sum(connection: Connection) -> int:
    return sum(connection.execute(select(treasury.c.amount)).scalars())


@pytest.fixture
def books(office: House) -> Books:
    return Books(office)
