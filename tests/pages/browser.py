"""The system's Chromium for tests of pages: found, started, and watched for what no page may do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from playwright.async_api import BrowserContext, Error, Page, Request, Route, WebSocket

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
"""CI runs as root in a container."""

SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


def program() -> str | None:
    """The browser: CHROMIUM_BIN, or the system's; None without one."""
    return os.environ.get("CHROMIUM_BIN") or next(filter(None, map(shutil.which, PROGRAMS)), None)


CONTROLS = frozenset(
    {"button", "checkbox", "combobox", "DisclosureTriangle", "link", "radio", "searchbox", "spinbutton", "textbox"}
)
"""Roles of what can be operated, as Chromium's accessibility tree has them."""


class Watch:
    """What the pages of a context did that they must not: errors in scripts, what their policy refused, strangers."""

    def __init__(self, context: BrowserContext, *origins: str) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._origins = origins
        self._lines = tuple(each.replace("http", "ws", 1) for each in origins)
        context.on("page", lambda page: page.on("websocket", lambda line: self._connected(line.url)))
        context.on("request", lambda request: self._requested(request.url))
        context.on("console", lambda message: self._said(message.type, message.text))
        context.on("weberror", lambda error: self.complaints.append(f"error: {error.error}"))

    def _requested(self, url: str) -> None:
        self.requests.append(url)
        if not url.startswith((*self._origins, "blob:")):
            self.complaints.append(f"request to {url}")

    def _connected(self, url: str) -> None:
        if not url.startswith(self._lines):
            self.complaints.append(f"connection to {url}")

    def _said(self, kind: str, text: str) -> None:
        # what the browser says of a refused or failed request is what some tests are about
        if kind == "error" and not text.startswith(("Failed to load resource", "WebSocket connection")):
            self.complaints.append(f"console: {text}")


class Wiretap:
    """All that leaves the pages of a context: addresses, headers and bodies of requests, frames of connections."""

    def __init__(self, context: BrowserContext) -> None:
        self._requests: list[Request] = []
        self._frames: list[str] = []
        context.on("request", lambda request: self._requests.append(request))
        context.on("page", lambda page: page.on("websocket", self._listen))

    def _listen(self, line: WebSocket) -> None:
        self._frames.append(line.url)
        line.on("framesent", lambda frame: self._frames.append(_text(frame)))

    async def heard(self) -> list[str]:
        """Each as text; bytes as Latin-1."""
        requests: list[str] = []
        for each in self._requests:
            try:
                headers = await each.all_headers()
            except Error:  # its page is closed
                headers = each.headers
            requests.append(f"{each.method} {each.url} {headers} {_text(each.post_data_buffer or b'')}")
        return requests + self._frames


def _text(sent: str | bytes) -> str:
    return sent if isinstance(sent, str) else sent.decode("latin-1")


async def overflows(page: Page) -> bool:
    """Whether the page must be scrolled sideways."""
    return await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


async def nameless(page: Page) -> list[str]:
    """Roles of controls that a screen reader has no name for."""
    session = await page.context.new_cdp_session(page)
    nodes = (await session.send("Accessibility.getFullAXTree"))["nodes"]
    await session.detach()
    return [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"]
        and node["role"]["value"] in CONTROLS
        and not node.get("name", {}).get("value", "").strip()
    ]


async def serious_faults(page: Page) -> list[str]:
    """What axe-core finds serious in the page, in the light scheme and in the dark one; axe is loaded already."""
    found: list[str] = []
    # from one scheme to the other only colours change
    for scheme, only in zip(SCHEMES, ({}, {"runOnly": ["color-contrast", "link-in-text-block"]}), strict=True):
        await page.emulate_media(color_scheme=scheme)
        options = {"resultTypes": ["violations"]} | only
        result = await page.evaluate("options => axe.run(document, options)", options)
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
