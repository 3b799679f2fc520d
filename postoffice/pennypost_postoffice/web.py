"""HTTP of one process: its routers behind one application, refusals in one form, and what every process answers.

request ─▶ CORS ─▶ a route ─▶ its answer
                     ├ raises a class of the error tree ─▶ {"detail", "code"} with its status (NUT-00, Errors)
                     └ another method ─▶ 405 with those of its path in Allow
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy import Connection, text
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from pennypost.protocol.errors import InvalidInput, NotFound, PennypostError, ServerError, ShuttingDown
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.metrics import Metrics
from pennypost_mint.runtime.openapi import JSON, declared
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.openapi import ALIVE, DOCUMENT, METRICS, READY, complete
from pennypost_postoffice.pages.assets import Asset
from pennypost_postoffice.pages.operator.gate import cookie_name
from pennypost_postoffice.pages.routes import answer, served

FINE = b'{"ok":true}'
ANYONE = {"access-control-allow-origin": "*"}

log = logger("app")


class Web:
    """The application; `routes` are those of all routers, in the order in which they are tried."""

    def __init__(self, settings: Settings) -> None:
        self.asgi = FastAPI(
            title=settings.name, version=version("pennypost"), docs_url=None, redoc_url=None, openapi_url=None
        )
        self.routes: list[APIRoute] = []
        self._cookie = cookie_name(settings)
        self.asgi.add_middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Cashu", "Retry-After"],
        )
        self.asgi.add_exception_handler(PennypostError, _refused)
        self.asgi.add_exception_handler(RequestValidationError, _invalid)
        self.asgi.add_exception_handler(HTTPException, self._absent)
        self.asgi.add_exception_handler(Exception, _broken)

    def include(self, router: APIRouter) -> None:
        """Adds its routes behind those that are there."""
        self.asgi.include_router(router)
        self.routes += [route for route in router.routes if isinstance(route, APIRoute)]

    @cached_property
    def document(self) -> Asset:
        """What is served here, as OpenAPI says it."""
        made = complete(self.asgi.openapi(), self._cookie)
        # it is kept as bytes alone
        self.asgi.openapi_schema = None
        return Asset.of(msgspec.json.encode(made), JSON)

    async def _absent(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        found = error_response(NotFound() if status in (404, 405) else InvalidInput(), status=status)
        found.headers.update(ANYONE)
        if status == 405:
            found.headers["allow"] = ", ".join(self._methods_at(request.scope))
        return found

    def _methods_at(self, scope: Any) -> list[str]:
        """The methods that this path takes, whatever that of the request is (RFC 9110, Allow)."""
        found = [route.methods or set[str]() for route in self.routes if route.matches(scope)[0] is not Match.NONE]
        return sorted(set[str]().union(*found))


async def _refused(_request: Request, error: Exception) -> Response:
    return error_response(error if isinstance(error, PennypostError) else ServerError())


async def _invalid(_request: Request, _error: Exception) -> Response:
    return error_response(InvalidInput())


async def _broken(_request: Request, error: Exception) -> Response:
    log.error("a request failed", kind=type(error).__name__)
    return error_response(ServerError())


def error_response(error: PennypostError, status: int | None = None) -> Response:
    """`{"detail", "code"}` as NUT-00 has it; a temporary failure says when to come back."""
    body = msgspec.json.encode(error.nut00())
    headers = {"Retry-After": str(error.retry_after)} if error.status in (429, 503) else None
    return Response(body, status_code=status or error.status, media_type=JSON, headers=headers)


def server_router(database: Database, metrics: Metrics, web: Web, is_draining: Callable[[], bool]) -> APIRouter:
    """What every process answers, whatever its role."""
    router = APIRouter(tags=["server"])

    @router.get("/healthz", response_class=Response, **declared(ALIVE))
    async def healthz(_request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(FINE, media_type=JSON)

    @router.get("/readyz", response_class=Response, **declared(READY))
    async def readyz(_request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        if is_draining():
            raise ShuttingDown
        await database.read(_alive)
        return Response(FINE, media_type=JSON)

    @router.get("/metrics", response_class=Response, **declared(METRICS))
    async def metrics_text(_request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        metrics.database_waiting.set(database.waiting)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(request: Request) -> Response:
        return answer(request, web.document, ANYONE | {"cache-control": "no-cache", "vary": "accept-encoding"})

    served(router, "/openapi.json", openapi, DOCUMENT)
    return router


def _alive(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
