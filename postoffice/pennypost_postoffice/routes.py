"""The post office over HTTP: the information document, the header feed and its pages, and a twin of EVENT.

    GET  /                    by Accept: NIP-11 (application/nostr+json), a page (text/html), or a few lines of text
    GET  /v1/headers          the header feed           GET /v1/pages/{n}   the wraps of 64 numbers
    POST /                    management by the operator's keys (NIP-86), signed by NIP-98
    POST /v1/events           an event with its stamp in X-Cashu; without one 402 and what it costs (NUT-24)
    POST /v1/holds/{hold}     the twin of RELEASE

Numbers are ASCII digits and nothing else. Every answer may be read from any origin: none depends on who asks.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING

import cbor2
import msgspec
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from pennypost.protocol.errors import (
    TABLE,
    BodyTooLarge,
    InvalidFrame,
    InvalidInput,
    NotFound,
    PennypostError,
    StampRequired,
    StampTooLittle,
)
from pennypost.protocol.event import is_hex64
from pennypost.protocol.frames import EventFrame, parse_client_frame
from pennypost.protocol.headers import MEDIA_TYPE as FEED_TYPE
from pennypost.protocol.relay_info import MEDIA_TYPE as INFORMATION_TYPE
from pennypost.protocol.relay_info import relay_information
from pennypost_mint.runtime.limits import (
    FEED_PAGE,
    FEED_WAIT,
    PAGE,
)
from pennypost_mint.runtime.openapi import declared
from pennypost_postoffice.feed import etag
from pennypost_postoffice.manage import RPC_TYPE, Manage
from pennypost_postoffice.marks import DESCRIPTION, ICON, NAME
from pennypost_postoffice.office import origin_of
from pennypost_postoffice.openapi import EVENTS, FEED_PAGES, FRONT_OF_OFFICE, HEADER_FEED, HOLD, MANAGEMENT
from pennypost_postoffice.pages.routes import front_response
from pennypost_postoffice.pages.shop import shop_of
from pennypost_postoffice.post import Answer, Post
from pennypost_postoffice.reads import COST_HEADERS, COST_PAGE, COST_READ, COST_WAIT, Reads

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

NIPS = (1, 9, 11, 13, 17, 40, 42, 44, 45, 59, 62, 65, 70, 77)
SOFTWARE = "pennypost"
MAX_SEQUENCE = 2**53 - 1
ASKS_FOR_MORE = (StampRequired.code, StampTooLittle.code)
RETRY_AFTER = {error.code: error.retry_after for error in TABLE if error.status in (429, 503)}
"""Seconds, by code."""
ANYONE = {"access-control-allow-origin": "*"}


def office_router(office: Office, *, has_mint: bool) -> APIRouter:
    """All routes of the post office; `has_mint`: this process serves its mint, too."""
    router = APIRouter(tags=["post office"])
    made: dict[int, bytes] = {}
    reads = Reads(office)

    def information() -> bytes:
        if office.revision not in made:
            made.clear()
            made[office.revision] = msgspec.json.encode(information_of(office))
        return made[office.revision]

    @router.get("/", response_class=Response, **declared(FRONT_OF_OFFICE))
    async def front(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        accepted = request.headers.get("accept", "")
        reads.begin(request.scope, COST_PAGE)
        if INFORMATION_TYPE in accepted or "application/json" in accepted:
            return Response(information(), media_type=INFORMATION_TYPE, headers=ANYONE | {"vary": "accept"})
        return front_response(request, shop_of(office.settings, office, has_mint=has_mint), office)

    manage = Manage(office)

    @router.post("/", response_class=Response, **declared(MANAGEMENT))
    async def management(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != RPC_TYPE:
            raise NotFound
        body = await read_body(office, request)
        await manage.authorize(request.headers.get("authorization"), body)
        return Response(await manage.answer(body), media_type=RPC_TYPE, headers=ANYONE)

    @router.get("/v1/headers", response_class=Response, **declared(HEADER_FEED))
    async def headers(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        after = number(request.query_params.get("after", "0"), MAX_SEQUENCE)
        limit = number(request.query_params.get("limit", str(FEED_PAGE)), MAX_SEQUENCE)
        wait = number(request.query_params.get("wait", "0"), MAX_SEQUENCE)
        reader = reads.begin(request.scope, COST_WAIT if wait else COST_READ)
        found = await office.feed.headers(after, limit, min(wait, FEED_WAIT), partial(gone, request), reader)
        reads.answered(reader, len(found), COST_HEADERS)
        return cacheable(request, found, FEED_TYPE)

    @router.get("/v1/pages/{page}", response_class=Response, **declared(FEED_PAGES))
    async def pages(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        wanted = number(request.path_params["page"], MAX_SEQUENCE // PAGE)
        reader = reads.begin(request.scope, COST_READ)
        found = await office.feed.page(wanted)
        reads.answered(reader, len(found))
        return cacheable(request, found, "application/json")

    @router.post("/v1/events", response_class=Response, **declared(EVENTS))
    async def events(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return await post_event(office, reads, request)

    @router.post("/v1/holds/{hold}", response_class=Response, **declared(HOLD))
    async def holds(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return await post_release(office, reads, request, request.path_params["hold"])

    return router


def number(text: str, most: int) -> int:
    """A whole number from 0 to `most` in ASCII digits; raises InvalidInput."""
    if not (0 < len(text) <= 16 and text.isascii() and text.isdigit()) or int(text) > most:
        raise InvalidInput("a number is out of range, or not one")
    return int(text)


def cacheable(request: Request, body: bytes, media_type: str) -> Response:
    """The body, or 304 for who has it. Caches must ask every time: what expired must be gone from them, too."""
    tag = etag(body)
    headers = ANYONE | {"etag": tag, "cache-control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def information_of(office: Office) -> dict[str, object]:
    """The relay information document (NIP-11), with both forms of the fee."""
    settings, marks = office.settings, office.marks or {}
    return relay_information(
        name=marks.get(NAME, settings.name),
        description=marks.get(DESCRIPTION, settings.description),
        icon=marks.get(ICON),
        mints=office.mints,
        payments_url=f"{settings.url}/buy",
        prices=office.policy.prices,
        supported_nips=(*NIPS, 86, 98) if settings.operators else NIPS,
        software=SOFTWARE,
        version=version("pennypost"),
        max_message_length=settings.max_message,
        max_subscriptions=settings.max_subscriptions,
        max_filters=settings.max_filters,
        max_limit=settings.max_limit,
        max_content_length=settings.max_event,
        max_event_tags=settings.max_tags,
        created_at_upper_limit=settings.max_ahead,
        created_at_lower_limit=settings.max_behind or None,
        contact=settings.contact or None,
        identity=office.keyring.identity[1:].hex(),
    )


async def gone(request: Request) -> None:
    """Ends when whoever asks closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Release(msgspec.Struct):
    x: object = None
    id: object = None


_release = msgspec.json.Decoder(_Release)


class HttpSender:
    """Whoever posts an event over HTTP: one event, one answer."""

    def __init__(self, origin: str, source: bytes) -> None:
        self.origin = origin
        self.source = source
        self.rate_key: object | None = None
        self.authenticated: set[str] = set()
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def took(self) -> None:
        """The answer comes when the event is durable or refused."""

    def answered(self, post: Post, answer: Answer) -> None:
        """Ends the wait of the request."""
        if not self.answer.done():
            self.answer.set_result(answer)


async def post_event(office: Office, reads: Reads, request: Request) -> Response:
    """The twin of EVENT: the same steps, the same answers, errors with their HTTP status."""
    frame = read_event(await read_body(office, request))
    token = request.headers.get("x-cashu") if frame.token is None else frame.token
    source = office.sources.of(request.scope)
    await reads.admit(source)
    sender = HttpSender(origin_of(request.scope), source)
    post = Post(sender, monotonic())
    try:
        office.accept(post, frame.event, token, frame.options)
    except PennypostError:
        reads.unpaid(source)
        raise
    answer = await sender.answer
    if not answer.accepted or answer.code == "duplicate" or not post.is_paid:
        reads.unpaid(source)
    content: dict[str, object] = {"id": post.event.id, "accepted": answer.accepted, "message": answer.message}
    if answer.change:
        content["change"] = answer.change
    if answer.postmark and post.postmark:
        content["postmark"] = answer.postmark
    headers = dict(ANYONE)
    if answer.code in ASKS_FOR_MORE:
        headers["x-cashu"] = payment_request(post.postage.sat, office.mints)
    if answer.status in (429, 503):
        headers["retry-after"] = str(RETRY_AFTER[answer.code])
    return Response(msgspec.json.encode(content), answer.status, headers, "application/json")


def read_event(body: bytes) -> EventFrame:
    """An event, or the EVENT frame of a relay connection: the only way to send options. Raises InvalidFrame."""
    if not body.lstrip().startswith(b"["):
        return EventFrame(msgspec.Raw(body))
    frame = parse_client_frame(body)
    if not isinstance(frame, EventFrame):
        raise InvalidFrame
    return frame


async def post_release(office: Office, reads: Reads, request: Request, hold: str) -> Response:
    """The twin of RELEASE: the same answers, errors with their HTTP status."""
    if not is_hex64(hold):
        raise InvalidInput("a hold is 64 lower-case hex digits")
    try:
        given = _release.decode(await read_body(office, request))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise InvalidInput("the body is an object with x and id") from None
    source = office.sources.of(request.scope)
    async with reads.release(source):
        message = await office.holds.release(bytes.fromhex(hold), given.x, given.id, source)
    content = {"hold": hold, "accepted": True, "message": message}
    return Response(msgspec.json.encode(content), headers=ANYONE, media_type="application/json")


async def read_body(office: Office, request: Request) -> bytes:
    """The body, of at most PENNYPOST_MAX_MESSAGE bytes. Raises BodyTooLarge."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > office.settings.max_message:
                raise BodyTooLarge
    except ClientDisconnect:
        # nobody hears it
        raise InvalidFrame("cut short") from None
    return bytes(body)


def payment_request(sat: int, mints: Sequence[str]) -> str:
    """`creqA…`: asks for that many sat of these mints' stamps (NUT-18), in the header of a 402 (NUT-24)."""
    body = cbor2.dumps({"a": sat, "u": "sat", "s": True, "m": list(mints), "d": "postage"})
    return "creqA" + urlsafe_b64encode(body).decode()
