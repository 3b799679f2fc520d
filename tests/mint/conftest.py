"""A mint of each kind of database, for one test or for a whole module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import DATABASES
from tests.mint.desk import Desk, open_desk, settings_for


@pytest.fixture
async def desk(tmp_path: Path, database_url: str) -> AsyncIterator[Desk]:
    """A mint of this test's own, on SQLite and on PostgreSQL."""
    async with open_desk(settings_for(tmp_path, database_url)) as opened:
        yield opened


@pytest.fixture(scope="module", params=DATABASES)
def module_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database for a module."""
    if request.param == "sqlite":
        yield ""
        return
    cluster = request.getfixturevalue("postgres_cluster")
    address = cluster.database()
    yield address
    cluster.drop(address)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_desk(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> AsyncIterator[Desk]:
    """A mint that the tests of a module share: they must run in the module's event loop."""
    async with open_desk(settings_for(tmp_path_factory.mktemp("mint"), module_database_url)) as opened:
        yield opened
