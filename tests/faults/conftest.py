"""Each fault with a whole service before its database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.faults.ways import ON_POSTGRESQL, ON_SQLITE, Fault, Frozen, prepared
from tests.postoffice.house import House, open_house
from tests.support.stamps import MintClient


@dataclass
class Scene:
    """A running mint and post office, and what may befall their database."""

    house: House
    fault: Fault
    mint: MintClient
    http: httpx.AsyncClient


@pytest.fixture(params=ON_SQLITE + ON_POSTGRESQL, ids=lambda kind: kind.__name__)
def fault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fault]:
    """Each, or those that the test names."""
    kind: type[Fault] = request.param
    on_postgresql = kind in ON_POSTGRESQL or kind is Frozen
    cluster = request.getfixturevalue("postgres_cluster") if on_postgresql else None
    with prepared(kind, tmp_path, cluster) as made:
        yield made


@pytest.fixture
async def scene(fault: Fault) -> AsyncIterator[Scene]:
    """A whole service with the fault before it."""
    async with (
        open_house(fault.folder, fault.address) as house,
        MintClient(house.url) as mint,
        httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http,
    ):
        await mint.keyset()
        yield Scene(house, fault, mint, http)
