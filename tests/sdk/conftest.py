"""One real office for all tests of the SDK, in this process, clients of it, and a second office as a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Sandbox, sandbox
from tests.sdk.meddler import Meddler
from tests.support.server import Server


@pytest.fixture(scope="session")
def office() -> Iterator[Sandbox]:
    """A mint, a post office and play money that settles at once."""
    with sandbox() as running:
        yield running


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a second post office with a mint of its own, whose stamps alone it takes."""
    with Server(tmp_path_factory.mktemp("other"), settings={"PLAY_SETTLE_AFTER": "0"}) as server:
        yield server.url


@pytest.fixture
def meddler(office: Sandbox) -> Meddler:
    """The way to the office, with somebody on it."""
    return Meddler(office.transport())


@pytest.fixture
async def client(office: Sandbox) -> AsyncIterator[Callable[..., AsyncClient]]:
    """`client(home, transport=…)` makes a client of the office; all are closed with the test."""
    async with AsyncExitStack() as stack:

        def make(home: Path | None = None, **options: Any) -> AsyncClient:
            made = AsyncClient(office, home, **options)
            stack.push_async_callback(made.close)
            return made

        yield make
