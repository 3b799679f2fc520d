"""One origin: the mint's routes, the post office's routes and its WebSocket, opened in order, closed in reverse.

settings ▶ schema ▶ database ▶ keyring ▶ crypto workers ▶ mint ▶ post office ▶ ASGI
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from pennypost.protocol.errors import ConfigurationError
from pennypost_migrations import upgrade
from pennypost_mint.api import MINT_JOBS, LastUse, Mint, Workers, mint_router
from pennypost_mint.runtime.database import database_url, open_database
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.metrics import Metrics
from pennypost_mint.runtime.openapi import declared
from pennypost_mint.runtime.settings import RELOADED, Settings
from pennypost_postoffice.foreign.outputs import FOREIGN_JOBS
from pennypost_postoffice.office import Office
from pennypost_postoffice.openapi import FRONT_OF_MINT
from pennypost_postoffice.operate.prices import load_prices
from pennypost_postoffice.pages.operator.house import House
from pennypost_postoffice.pages.operator.routes import operator_router
from pennypost_postoffice.pages.routes import front_response, pages_router
from pennypost_postoffice.pages.shop import Shop, shop_of
from pennypost_postoffice.reload import follow_reloads, mark_on
from pennypost_postoffice.roles import open_keys
from pennypost_postoffice.routes import office_router
from pennypost_postoffice.samples import Sampler
from pennypost_postoffice.verify import OFFICE_JOBS
from pennypost_postoffice.web import Web, server_router

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Endpoint = Callable[[Request], Awaitable[Response]]

CLOSE_NOT_HERE = 4404
"""WebSocket close code for a path that serves none."""

log = logger("app")


class Service:
    """Everything one process serves."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.office: Office | None = None
        self._stack = AsyncExitStack()
        self._web: Web | None = None
        self._websockets: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {}
        self._posts: dict[str, Endpoint] = {}
        self._drain: Callable[[], Awaitable[None]] | None = None
        self._mint: Mint | None = None
        self._draining = False
        self.load: Callable[[], Settings] = lambda: self.settings
        """Reads the settings again; raises ConfigurationError."""
        self.on_settings: Callable[[Settings], None] = lambda settings: None
        """Told the settings that were taken on, for what the server around us bounds."""

    @classmethod
    async def open(cls, settings: Settings, *, in_process: bool = False) -> Service:
        """Migrates, opens and starts everything; `in_process` keeps the cryptography in this process.

        Raises ConfigurationError, SeedMismatch or DatabaseUnavailable; what was opened is closed again.
        """
        service = cls(settings, Metrics())
        try:
            await service._open(in_process)
        except BaseException:
            await service.close()
            raise
        return service

    async def _open(self, in_process: bool) -> None:
        settings, metrics, stack = self.settings, self.metrics, self._stack
        await upgrade(database_url(settings.database_url, settings.data_dir))
        database = open_database(settings.database_url, settings.data_dir)
        stack.push_async_callback(database.close)
        keyring, seed = await open_keys(database, settings)
        jobs = MINT_JOBS | OFFICE_JOBS | FOREIGN_JOBS
        workers = Workers(jobs, keyring.secrets(), processes=0 if in_process else crypto_processes(settings))
        stack.push_async_callback(workers.stop)
        await workers.start()
        keyring.before_change.append(workers.update)
        web = self._web = Web(settings)
        web.include(server_router(database, metrics, web, lambda: self._draining))
        web.include(pages_router(self._shop))
        last_use: LastUse | None = None
        if keyring.keysets:
            self._beside(keyring.follow())
            last_use = LastUse(settings.data_dir, keyring.keysets[0].id)
            self._beside(last_use.run())
        mint: Mint | None = None
        if last_use is not None and settings.role != "postoffice":
            mint = await Mint.open(database, settings, keyring, workers, metrics, used=last_use.note)
            stack.push_async_callback(mint.close)
            await mint.start()
            self._mint = mint
            router = mint_router(mint)
            web.include(router)
            self._posts = _posts(router)
            self._websockets["/v1/ws"] = mint.websocket
        if settings.role != "mint":
            office = self.office = await Office.open(database, settings, keyring, workers, metrics, seed)
            stack.push_async_callback(office.close)
            await office.start()
            office.on_reload = self.reload
            if last_use is not None:
                office.on_spent = _spent(last_use, mint)
            web.include(office_router(office, has_mint=mint is not None))
            self._websockets["/"] = office.websocket
            self._drain = office.drain
        else:
            self._beside(follow_reloads(database, await database.read(mark_on), self.reload))
            web.include(_mint_page(self._shop))
        web.include(operator_router(House(database, lambda: self.settings, keyring, mint, self.office)))
        self._beside(Sampler(database, metrics, lightning=mint is not None).run())

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` until the service is closed."""
        task = asyncio.create_task(work)
        self._stack.push_async_callback(_ended, task)

    @property
    def web(self) -> Web:
        """Its routes over HTTP."""
        assert self._web is not None, "the service is not open"
        return self._web

    def _shop(self) -> Shop:
        return shop_of(self.settings, self.office, has_mint=self._mint is not None)

    def reload(self) -> None:
        """Reads settings and prices again and takes on those of RELOADED. What cannot be read changes nothing."""
        before = self.settings
        try:
            given = self.load()
            prices = load_prices(given.price_file)
        except ConfigurationError as error:
            log.error("the settings stay as they are", reason=str(error))
            return
        changed = [name for name in Settings.model_fields if getattr(given, name) != getattr(before, name)]
        self.settings = before.model_copy(update={name: getattr(given, name) for name in RELOADED})
        if self._mint is not None:
            self._mint.reload(self.settings)
        if self.office is not None:
            self.office.reload(self.settings, prices)
        self.on_settings(self.settings)
        log.info("settings are read again", changed=[name for name in changed if name in RELOADED])
        # the port of a start with port 0 is the one that was free
        later = [name for name in changed if name not in RELOADED and not (name == "port" and given.port == 0)]
        if later:
            log.warning("these settings need a new start", settings=later)

    @property
    def is_draining(self) -> bool:
        """Whether it is about to stop."""
        return self._draining

    async def drain(self) -> None:
        """Takes no more events and waits, for a bounded time, until those in flight are answered."""
        self._draining = True
        if self._drain is not None:
            await self._drain()

    async def close(self) -> None:
        """Answers what is in flight, then closes everything in reverse order."""
        await self._stack.aclose()

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI 3 application."""
        if scope["type"] == "websocket":
            if (serve := self._websockets.get(scope["path"])) is not None:
                await serve(scope, receive, send)
                return
            await receive()
            await send({"type": "websocket.close", "code": CLOSE_NOT_HERE})
            return
        endpoint = self._posts.get(scope["path"]) if scope.get("method") == "POST" else None
        if endpoint is None or any(name == b"origin" for name, _ in scope["headers"]):
            await self.web.asgi(scope, receive, send)
            return
        # Wallets that are no browser need nothing of the framework, which takes 95 µs for a request.
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)


def _posts(router: APIRouter) -> dict[str, Endpoint]:
    """The endpoints of POSTs to one path each: they take a request, return a response and raise nothing."""
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    return {route.path: route.endpoint for route in routes if "POST" in (route.methods or ()) and "{" not in route.path}


def _spent(last_use: LastUse, mint: Mint | None) -> Callable[[Iterable[bytes]], None]:
    def spent(ys: Iterable[bytes]) -> None:
        taken = list(ys)
        if taken:
            last_use.note()
            if mint is not None:
                mint.watch.changed(taken)

    return spent


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _mint_page(shop: Callable[[], Shop]) -> APIRouter:
    """`/` of a process that serves the mint alone."""
    router = APIRouter(tags=["pages"])

    @router.get("/", response_class=Response, **declared(FRONT_OF_MINT))
    async def front(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return front_response(request, shop(), None)

    return router


def crypto_processes(settings: Settings) -> int:
    """Processes that check signatures: as set, else one for each core but one."""
    return settings.workers or max(1, (os.cpu_count() or 2) - 1)
