"""A mint of each kind of database, for one test or for a whole module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import DATABASES
from tests.mint.desk import Desk, open_desk, settings_for
from tests.mint.places import LnbitsPlace, LndPlace, LndRpcPlace, Place, WalletPlace
from tests.support.lightning import LightningBed
from tests.support.lnbits import Lnbits
from tests.support.server import Server
from tests.support.wallets import AlbyWallet


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


# Places where stamps can be paid, all before the bed's node (`places.py`).


@pytest.fixture(scope="session")
def lnd(lightning_bed: LightningBed) -> Place:
    return LndPlace(lightning_bed)


@pytest.fixture(scope="session")
def lndrpc(lightning_bed: LightningBed) -> Place:
    return LndRpcPlace(lightning_bed)


@pytest.fixture(scope="session")
def account(lightning_bed: LightningBed, lnbits: Lnbits) -> Place:
    return LnbitsPlace(lightning_bed, lnbits)


@pytest.fixture(scope="session")
def wallet(lightning_bed: LightningBed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WalletPlace]:
    folder = tmp_path_factory.mktemp("wallet")
    with Server(folder) as relay:
        service = AlbyWallet(relay.websocket_url, lightning_bed.nodes["office"], log=folder / "wallet.log")
        try:
            service.start()
            yield WalletPlace(lightning_bed, relay, service)
        finally:
            service.kill()
