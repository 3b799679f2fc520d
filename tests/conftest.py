"""Fixtures shared by every test: databases, server processes, Lightning, the installed wheel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support import lightning, postgres
from tests.support.installed import install_wheel
from tests.support.lnbits import Lnbits
from tests.support.require import require
from tests.support.server import Server

DATABASES = ("sqlite", "postgresql")

# How long one example takes says more of the machine's other work than of the parser.
settings.register_profile("pennypost", deadline=None)
settings.load_profile("pennypost")


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[postgres.Postgres]:
    """A running PostgreSQL of this test process's own."""
    programs = postgres.programs()
    require(programs, "PostgreSQL is not installed (Debian: apt install postgresql)")
    assert programs is not None
    cluster = postgres.Postgres(programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def postgres_url(postgres_cluster: postgres.Postgres) -> Iterator[str]:
    """The address `postgresql+asyncpg://…` of a database with the newest schema and nothing in it."""
    address = postgres_cluster.database()
    yield address
    postgres_cluster.drop(address)


@pytest.fixture
def empty_postgres_url(postgres_cluster: postgres.Postgres) -> Iterator[str]:
    """The same without a schema, as a first start finds it."""
    address = postgres_cluster.empty()
    yield address
    postgres_cluster.drop(address)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of each kind with nothing in it: "" is the SQLite file in a server's data folder."""
    return "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`serve(database_url=…, settings=…)` starts a server process; all end with the test."""
    started: list[Server] = []

    def start(**options: Any) -> Server:
        server = Server(tmp_path, **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.end()


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    """A server process on SQLite whose play-money invoices settle at once."""
    return serve()


@pytest.fixture(scope="session")
def lightning_bed() -> Iterator[lightning.LightningBed]:
    """Two LND nodes with a channel. Tests that use it carry `@pytest.mark.xdist_group("lightning")`."""
    programs = lightning.programs()
    require(programs, "lnd and btcd are not built (make lnd needs Go; or set LND_BIN)")
    assert programs is not None
    bed = lightning.LightningBed(programs)
    yield bed
    bed.down()


@pytest.fixture(scope="session")
def lnbits(lightning_bed: lightning.LightningBed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lnbits]:
    """An LNbits before the bed's office node. A test that stops it starts it again."""
    service = Lnbits(tmp_path_factory.mktemp("lnbits"), lightning_bed.nodes["office"], lightning_bed.admin_macaroon())
    try:
        service.start()
        yield service
    finally:
        service.kill()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The `bin` folder of an environment with nothing but the built wheel and the server lock."""
    return install_wheel(_shared(tmp_path_factory, worker_id) / "installed")


@pytest.fixture(scope="session")
def installed_sdk(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The `bin` folder of an environment with the built wheel and no server extra."""
    return install_wheel(_shared(tmp_path_factory, worker_id) / "installed-sdk", lock="sdk")


def _shared(factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all test processes of one run share."""
    base = factory.getbasetemp()
    return base if worker_id == "master" else base.parent
