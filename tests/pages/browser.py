"""The system's Chromium for tests of pages: found, started, and watched for what no page may do."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from playwright.async_api import BrowserContext, Error, Page, Route

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
"""CI runs as root in a container."""

SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


def program() -> str | None:
    """The browser: CHROMIUM_BIN, or the system's; None without one."""
    return os.environ.get("CHROMIUM_BIN") or next(filter(None, map(shutil.which, PROGRAMS)), None)


class Watch:
    """What the pages of a context did that they must not: errors in scripts, what their policy refused, strangers."""

    def __init__(self, context: BrowserContext, *origins: str) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._origins = origins
        context.on("request", lambda request: self._requested(request.url))
        context.on("console", lambda message: self._said(message.type, message.text))
        context.on("weberror", lambda error: self.complaints.append(f"error: {error.error}"))

    def _requested(self, url: str) -> None:
        self.requests.append(url)
        if not url.startswith((*self._origins, "blob:")):
            self.complaints.append(f"request to {url}")

    def _said(self, kind: str, text: str) -> None:
        # what the browser says of a refused or failed request is what some tests are about
        if kind == "error" and not text.startswith(("Failed to load resource", "WebSocket connection")):
            self.complaints.append(f"console: {text}")


async def overflows(page: Page) -> bool:
    """Whether the page must be scrolled sideways."""
    return await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


async def serious_faults(page: Page) -> list[str]:
    """What axe-core finds serious in the page, in the light scheme and in the dark one; axe is loaded already."""
    found: list[str] = []
    for scheme in SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        result = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found += [
            f"{scheme}: {each['id']}: {[node['target'] for node in each['nodes']]}"
            for each in result["violations"]
            if each["impact"] in ("serious", "critical")
        ]
    return found


def lose_answer(times: int = 1) -> Callable[[Route], Any]:
    """A route handler: the server hears the request and answers, and the answer is lost."""
    left = [times]

    async def handle(route: Route) -> None:
        if left[0]:
            left[0] -= 1
            # the page may be gone before the answer is
            with suppress(Error):
                await route.fetch()
                await route.abort("connectionreset")
        else:
            await route.continue_()

    return handle


async def expiring(route: Route) -> None:
    """A route handler: the mint says that its invoice expires in a second."""
    answer = await route.fetch()
    quote = await answer.json()
    if "expiry" in quote:
        quote["expiry"] = min(quote["expiry"], int(time.time()) + 1)
    await route.fulfill(response=answer, json=quote)
