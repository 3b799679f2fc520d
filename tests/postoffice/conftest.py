"""A running post office: fresh for each test, or one for all rows of a table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import DATABASES
from tests.postoffice.house import House, open_house
from tests.support.postgres import Postgres


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of each kind with nothing in it; "" is a SQLite file in the data folder."""
    if request.param == "sqlite":
        yield ""
        return
    cluster: Postgres = request.getfixturevalue("postgres_cluster")
    made = cluster.database()
    yield made
    cluster.drop(made)


@pytest_asyncio.fixture
async def house(address: str, tmp_path: Path) -> AsyncIterator[House]:
    """A post office on each database."""
    async with open_house(tmp_path, address) as opened:
        yield opened


@pytest_asyncio.fixture
async def sqlite_house(tmp_path: Path) -> AsyncIterator[House]:
    """A post office on SQLite, for what does not depend on the database."""
    async with open_house(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One post office for a whole table of cases; its tests run in the module's loop."""
    async with open_house(tmp_path_factory.mktemp("office")) as opened:
        yield opened
