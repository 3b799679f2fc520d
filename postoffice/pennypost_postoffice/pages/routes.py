"""The pages over HTTP, in every role.

GET /assets/{name}    a built file: its name has its hash, so it is kept for ever
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from pennypost.protocol.errors import NotFound
from pennypost_postoffice.pages.assets import PATH, assets

FOR_EVER = "public, max-age=31536000, immutable"


def pages_router() -> APIRouter:
    """The routes of every process, whatever its role."""
    router = APIRouter(tags=["pages"])

    async def asset(request: Request, name: str) -> Response:
        """Compressed for whoever takes gzip; 304 for whoever has it."""
        found = assets().get(name)
        if found is None:
            raise NotFound
        headers = {
            "cache-control": FOR_EVER,
            "cross-origin-resource-policy": "same-origin",
            "etag": found.etag,
            "vary": "accept-encoding",
            "x-content-type-options": "nosniff",
        }
        if found.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        body = found.body
        if "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["content-encoding"] = found.compressed, "gzip"
        return Response(body, media_type=found.media_type, headers=headers)

    served(router, PATH + "{name}", asset, "A script, style or drawing of the pages; for ever the same")
    return router


def served(router: APIRouter, path: str, endpoint: object, summary: str) -> None:
    """GET and HEAD of `path`; the server sends no body with the answer to a HEAD."""
    router.add_api_route(path, endpoint, methods=["GET"], summary=summary, response_class=Response)  # type: ignore[arg-type]
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)  # type: ignore[arg-type]
