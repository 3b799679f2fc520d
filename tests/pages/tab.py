"""A tab as people have it: hidden while another is in front of it. Playwright keeps its own pages visible for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from playwright.async_api import Browser, CDPSession

SECONDS = 40


class NotDone(Exception):
    """The browser refused a command."""


class Tab:
    """A tab of the browser's own window, by the DevTools protocol alone."""

    def __init__(self, browser: CDPSession, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._sent = 0
        browser.on("Target.receivedMessageFromTarget", self._received)

    @classmethod
    async def open(cls, browser: CDPSession, url: str) -> Tab:
        """A new one, in front of all others."""
        target = (await browser.send("Target.createTarget", {"url": url}))["targetId"]
        attached = await browser.send("Target.attachToTarget", {"targetId": target, "flatten": False})
        tab = cls(browser, target, attached["sessionId"])
        await tab.to_front()
        return tab

    def _received(self, event: dict[str, Any]) -> None:
        answer = json.loads(event["message"])
        if event["sessionId"] == self._session and answer.get("id") in self._waiting:
            self._waiting.pop(answer["id"]).set_result(answer)

    async def _send(self, method: str, **parameters: object) -> dict[str, Any]:
        self._sent += 1
        waiting = self._waiting[self._sent] = asyncio.get_running_loop().create_future()
        message = json.dumps({"id": self._sent, "method": method, "params": parameters})
        await self._browser.send("Target.sendMessageToTarget", {"sessionId": self._session, "message": message})
        answer = await asyncio.wait_for(waiting, SECONDS)
        if "error" in answer:
            raise NotDone(answer["error"]["message"])
        return answer["result"]

    async def to_front(self) -> None:
        """It is shown, and the others of its window are not."""
        await self._browser.send("Target.activateTarget", {"targetId": self._target})

    async def freeze(self) -> None:
        """What browsers do to a tab that was hidden for long: none of its timers, answers and frames is worked on."""
        await self._send("Page.setWebLifecycleState", state="frozen")

    async def thaw(self) -> None:
        """What browsers do before they show it again."""
        await self._send("Page.setWebLifecycleState", state="active")

    async def evaluate(self, expression: str) -> Any:
        """Its value as JSON; a promise is waited for."""
        done = await self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Waits until it is true: its value. Between two documents nothing is."""
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(NotDone):
                    if value := await self.evaluate(expression):
                        return value
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Ends it."""
        await self._browser.send("Target.closeTarget", {"targetId": self._target})


@asynccontextmanager
async def two_tabs(browser: Browser, url: str) -> AsyncIterator[tuple[Tab, Tab]]:
    """A tab at `url`, in front, and an empty one beside it in the same window."""
    session = await browser.new_browser_cdp_session()
    other = await Tab.open(session, "about:blank")
    tab = await Tab.open(session, url)
    try:
        yield tab, other
    finally:
        await tab.close()
        await other.close()
        await session.detach()
