"""The mint over HTTP: bytes from the request to `Mint`, its bytes into the response.

    GET  /v1/info /v1/keys /v1/keys/{id} /v1/keysets /v1/mint/quote/bolt11/{id}
    POST /v1/mint/quote/bolt11 /v1/mint/quote/bolt11/check /v1/mint/bolt11 /v1/mint/bolt11/batch
         /v1/swap /v1/checkstate /v1/restore
    ANY  /v1/melt/…                                                        404: stamps are not bought back

The size of a body is checked, and its source charged for it, before it is read, its shape by `protocol.nuts`, never
by the framework: whatever is wrong is answered `{"detail", "code"}` (NUT-00, Errors), with the CORS header that
browsers' wallets need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import Counter
from starlette.requests import ClientDisconnect

from pennypost.protocol.errors import BodyTooLarge, InvalidInput, MeltDisabled, PennypostError, ServerError
from pennypost_mint.openapi import documented
from pennypost_mint.runtime.limits import KIB, MAX_BODY, QUOTE_COST
from pennypost_mint.runtime.logs import logger
from pennypost_mint.service import BATCH_PATH, MINT_PATH, SWAP_PATH, Mint

ANYONE = {"access-control-allow-origin": "*"}
"""Browsers' wallets read answers and refusals from any origin; no answer depends on who asks."""

EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]

Handler = Callable[[Request], Awaitable[bytes]]

log = logger("mint")


class NutRoute(APIRoute):
    """A route whose endpoint takes the request and returns the response: the framework reads and checks nothing."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint  # type: ignore[return-value]


def mint_router(mint: Mint) -> APIRouter:
    """All routes of the mint but `/v1/ws`, which is `mint.websocket`."""
    router = APIRouter(route_class=NutRoute, tags=["mint"])
    requests = mint.metrics.mint_requests

    def add(method: str, path: str, name: str, handler: Handler) -> None:
        router.add_api_route(
            path,
            _endpoint(name, handler, requests),
            methods=[method],
            name=f"mint-{name}",
            response_class=Response,
            **documented(name),
        )

    def posted(kind: str, ask: Callable[[bytes], Awaitable[bytes]], cost: float = 1.0) -> Handler:
        async def handler(request: Request) -> bytes:
            announced = body_length(request)
            mint.limit.charge(request.scope, kind, cost + announced // KIB)
            body = await read_body(request)
            if not announced and len(body) >= KIB:
                # It came in chunks and did not say how many.
                mint.limit.charge(request.scope, kind, len(body) // KIB)
            return await ask(body)

        return handler

    async def read_info(_request: Request) -> bytes:
        return mint.info()

    async def read_keys(_request: Request) -> bytes:
        return await mint.keys()

    async def read_keys_of(request: Request) -> bytes:
        return await mint.keys_of(request.path_params["keyset_id"])

    async def read_keysets(_request: Request) -> bytes:
        return await mint.keysets()

    async def read_quote(request: Request) -> bytes:
        mint.limit.charge(request.scope, "check-quote", 1)
        return await mint.check_quote(request.path_params["quote_id"])

    # The framework tries its routes in this order: the busiest come first.
    add("POST", SWAP_PATH, "swap", posted("swap", mint.swap))
    add("POST", MINT_PATH, "mint", posted("mint", mint.mint))
    add("POST", BATCH_PATH, "mint-batch", posted("mint", mint.mint_batch))
    add("POST", "/v1/mint/quote/bolt11/check", "check-quotes", posted("check-quotes", mint.check_quotes))
    add("GET", "/v1/mint/quote/bolt11/{quote_id}", "check-quote", read_quote)
    add("POST", "/v1/mint/quote/bolt11", "quote", posted("quote", mint.request_quote, QUOTE_COST))
    add("POST", "/v1/checkstate", "check-state", posted("check-state", mint.check_state))
    add("GET", "/v1/keys", "keys", read_keys)
    add("GET", "/v1/keysets", "keysets", read_keysets)
    add("GET", "/v1/keys/{keyset_id:path}", "keys-of", read_keys_of)
    add("GET", "/v1/info", "info", read_info)
    add("POST", "/v1/restore", "restore", posted("restore", mint.restore))
    for path, error in (("/v1/melt", MeltDisabled), ("/v1/melt/{rest:path}", MeltDisabled)):
        router.add_api_route(path, _refusing(error), methods=EVERY_METHOD, include_in_schema=False)
    return router


def body_length(request: Request) -> int:
    """What is announced, 0 when nothing is; refused before any of it is read. Raises InvalidInput, BodyTooLarge."""
    announced = request.headers.get("content-length", "0")
    if len(announced) > 19 or not (announced.isascii() and announced.isdigit()):
        raise InvalidInput
    if int(announced) > MAX_BODY:
        raise BodyTooLarge
    return int(announced)


async def read_body(request: Request) -> bytes:
    """The body, at most MAX_BODY bytes. Raises BodyTooLarge."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise BodyTooLarge
        chunks.append(chunk)
    return b"".join(chunks)


def refusal(error: PennypostError) -> Response:
    """`{"detail", "code"}` (NUT-00, Errors)."""
    body = msgspec.json.encode(error.nut00())
    headers = dict(ANYONE)
    if error.status in (429, 503):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, BodyTooLarge):
        # The rest of the body is not read.
        headers["connection"] = "close"
    return Response(body, status_code=error.status, media_type="application/json", headers=headers)


def _endpoint(name: str, handler: Handler, requests: Counter) -> Callable[[Request], Awaitable[Response]]:
    good = requests.labels(name, "ok")

    async def endpoint(request: Request) -> Response:
        try:
            body = await handler(request)
        except PennypostError as error:
            requests.labels(name, error.code).inc()
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001 - the last stop: logged by kind, answered without its text
            log.error("a request failed", route=name, kind=type(error).__name__)
            requests.labels(name, ServerError.code).inc()
            return refusal(ServerError())
        good.inc()
        return Response(body, media_type="application/json", headers=ANYONE)

    return endpoint


def _refusing(error: type[PennypostError]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        return refusal(error())

    return endpoint
