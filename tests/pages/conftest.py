"""One browser and one office for all tests of pages; a context of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.pages.browser import ARGUMENTS, Watch, program
from tests.support.require import require
from tests.support.server import Server

# a machine may be slow; what is there is seen at once
expect.set_options(timeout=30_000)

Opened = Callable[..., Awaitable[Page]]


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose play-money invoices wait to be paid (`till.pay_play`)."""
    settings = {"PLAY_SETTLE_AFTER": "never", "NAME": "Penny Post Office", "CONTACT": "post@office.example"}
    with Server(tmp_path_factory.mktemp("office"), settings=settings) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium."""
    found = program()
    require(found, "Chromium is not installed (Debian: apt install chromium; or set CHROMIUM_BIN)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def contexts(chromium: Browser, office: Server) -> AsyncIterator[Callable[..., Awaitable[BrowserContext]]]:
    """`await contexts(…)` is a browser of its own: nothing kept, nobody known. At the end none may have complained."""
    opened: list[tuple[BrowserContext, Watch]] = []

    async def open_context(*origins: str, **options: Any) -> BrowserContext:
        context = await chromium.new_context(**options)
        context.set_default_timeout(30_000)
        opened.append((context, Watch(context, *(origins or (office.url,)))))
        return context

    yield open_context
    complaints = [each for _, watch in opened for each in watch.complaints]
    for context, _ in opened:
        assert not await context.cookies()
        await context.close()
    assert not complaints, complaints


@pytest_asyncio.fixture(loop_scope="session")
async def page(contexts: Callable[..., Awaitable[BrowserContext]]) -> Page:
    """A page in a browser of its own."""
    return await (await contexts()).new_page()
