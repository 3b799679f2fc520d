"""The pages over HTTP, in every role.

GET /assets/{name}    a built file: its name has its hash, so it is kept for ever
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from pennypost.protocol.errors import NotFound
from pennypost_mint.runtime.openapi import HTML, TEXT, Answer, Operation, Parameter, declared
from pennypost_postoffice.openapi import ETAG, IF_NONE_MATCH, NOT_CHANGED
from pennypost_postoffice.pages.assets import PATH, TYPES, Asset, assets
from pennypost_postoffice.pages.buy import buy_page, check_page, wallet_page
from pennypost_postoffice.pages.front import front_page, front_text
from pennypost_postoffice.pages.security import security_headers
from pennypost_postoffice.pages.shop import Shop

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

ASSET_HEADERS = {"cross-origin-resource-policy": "same-origin", "x-content-type-options": "nosniff"}
FOR_EVER = "public, max-age=31536000, immutable"
ANY_RELAY = ("wss:",)
"""A wallet's relay can be anywhere (NIP-47)."""


ASSET = Operation(
    "asset",
    "A script, style or drawing of the pages; for ever the same",
    "The name has its hash, so caches keep it.",
    {
        200: Answer("The file", {kind.partition(";")[0]: TEXT for kind in TYPES.values()}, ETAG),
        304: NOT_CHANGED,
    },
    (NotFound,),
    (
        Parameter("name", "path", {"type": "string", "pattern": r"^[A-Za-z0-9_.-]+$"}, "As the pages name it"),
        IF_NONE_MATCH,
    ),
)


def _page(name: str, summary: str, description: str) -> Operation:
    answers = {200: Answer("The page", {HTML: TEXT}, ETAG), 304: NOT_CHANGED}
    return Operation(name, summary, description, answers, parameters=(IF_NONE_MATCH,))


BUY = _page("buy", "Buy stamps from any Lightning wallet", "A purchase is kept in the browser, and resumed by a link.")
WALLET = _page("buy-wallet", "Pay an invoice from a connected wallet", "By NWC (NIP-47), from this browser alone.")
CHECK = _page("buy-check", "Check and merge tokens", "Says which stamps are good, and makes one token of several.")


def pages_router(shop: Callable[[], Shop]) -> APIRouter:
    """The routes of every process, whatever its role; `shop` says what it sells now."""
    router = APIRouter(tags=["pages"])

    async def asset(request: Request) -> Response:
        found = assets().get(request.path_params["name"])
        if found is None:
            raise NotFound
        headers = {"cache-control": FOR_EVER, "vary": "accept-encoding"} | ASSET_HEADERS
        return answer(request, found, headers)

    served(router, PATH + "{name}", asset, ASSET)

    def page(write: Callable[[Shop], bytes], more: tuple[str, ...] = ()) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            sold = shop()
            return html_response(request, write(sold), security_headers(connect=(*sold.connects, *more)))

        return endpoint

    served(router, "/buy", page(buy_page), BUY)
    served(router, "/buy/wallet", page(wallet_page, ANY_RELAY), WALLET)
    served(router, "/buy/check", page(check_page), CHECK)
    return router


def front_response(request: Request, shop: Shop, office: Office | None) -> Response:
    """The page at `/` for whoever takes HTML, else a few lines of text."""
    if "text/html" in request.headers.get("accept", ""):
        return html_response(request, front_page(shop, office), security_headers())
    return Response(front_text(shop, office), media_type="text/plain; charset=utf-8", headers={"vary": "accept"})


def html_response(request: Request, body: bytes, headers: dict[str, str]) -> Response:
    """A page that says the same to everyone; `headers` are those of `security_headers`."""
    headers = headers | {"cache-control": "no-cache", "vary": "accept, accept-encoding"}
    return answer(request, _as_asset(body), headers)


def answer(request: Request, asset: Asset, headers: dict[str, str]) -> Response:
    """Compressed for whoever takes gzip, each form under an entity tag of its own; 304 for whoever has it."""
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers = headers | {"etag": asset.packed_etag if packed else asset.etag}
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if packed:
        headers["content-encoding"] = "gzip"
    return Response(asset.packed if packed else asset.body, media_type=asset.media_type, headers=headers)


@lru_cache(maxsize=16)
def _as_asset(body: bytes) -> Asset:
    return Asset.of(body, "text/html; charset=utf-8")


def served(router: APIRouter, path: str, endpoint: Callable[[Request], Awaitable[Response]], what: Operation) -> None:
    """GET and HEAD of `path`; the server sends no body with the answer to a HEAD."""
    router.add_api_route(path, endpoint, methods=["GET"], response_class=Response, **declared(what))
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
