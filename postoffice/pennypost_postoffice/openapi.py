"""What each route of the post office takes, answers and refuses, for the OpenAPI document (runtime.openapi).

    routes, pages ── declared(Operation) ──▶ FastAPI ── document ──▶ complete ──▶ GET /openapi.json

The pages' own are beside them: pages/routes.py, pages/operator/openapi.py. What is said of a NIP is in the NIP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pennypost.protocol import errors
from pennypost.protocol.answers import BlindSignature, HexKeyset, HexPoint
from pennypost.protocol.event import MAX_INTEGER, MAX_KIND, Event
from pennypost.protocol.headers import MEDIA_TYPE as FEED_TYPE
from pennypost.protocol.postmark import Postmark
from pennypost.protocol.relay_info import MEDIA_TYPE as INFORMATION_TYPE
from pennypost_mint.runtime.limits import FEED_PAGE, FEED_WAIT, KIB, MAX_CHANGE, MAX_HEAD, PAGE
from pennypost_mint.runtime.openapi import (
    BOOLEAN,
    COUNT,
    HEX64,
    HTML,
    JSON,
    TEXT,
    Answer,
    Body,
    Content,
    Operation,
    Parameter,
    Refusal,
    Schema,
    any_of,
    array,
    ends_with,
    fields,
    one_of,
    optional,
    refused,
    schema,
)
from pennypost_postoffice.manage import METHODS, RPC_TYPE

SESSION, NIP98 = "session", "nip98"
"""Security schemes: who is signed in at the operator's pages, and a request that an operator signed."""

UNPAID = (errors.TooMany, errors.DatabaseUnavailable)
"""Of whatever nobody pays for."""

TAG: Schema = {"type": "string", "pattern": r'^"[0-9a-f]{32}(-gzip)?"$(?!\n)', "description": "Of these very bytes"}
ETAG = {"ETag": TAG}
IF_NONE_MATCH = Parameter("If-None-Match", "header", TEXT, "Entity tags of what is known: then the answer is 304.")
NOT_CHANGED = Answer("What was named in If-None-Match still holds", headers=ETAG)

SEQUENCE: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}

KINDS = array({"type": "integer", "minimum": 0, "maximum": MAX_KIND})
_FEE: dict[str, Schema] = {"amount": COUNT, "unit": one_of("sat"), "kinds": KINDS} | dict.fromkeys(
    ("per_kib", "per_day", "work", "work_instead"), COUNT
)
_MINTS = array(TEXT)

INFORMATION = optional(
    ("name", "description", "self", "supported_nips", "software", "version", "limitation"),
    name=TEXT,
    description=TEXT,
    icon=TEXT,
    self=HEX64,
    contact=TEXT,
    supported_nips=array(COUNT),
    software=TEXT,
    version=TEXT,
    limitation=optional(
        ("max_message_length", "max_subscriptions", "auth_required", "payment_required", "restricted_writes"),
        **dict.fromkeys(
            (
                "max_message_length",
                "max_subscriptions",
                "max_filters",
                "max_limit",
                "default_limit",
                "max_subid_length",
                "max_event_tags",
                "max_content_length",
                "created_at_upper_limit",
                "created_at_lower_limit",
                "min_pow_difficulty",
            ),
            COUNT,
        ),
        **dict.fromkeys(("auth_required", "payment_required", "restricted_writes"), BOOLEAN),
    ),
    payments_url=TEXT,
    fees=fields(
        publication=array(
            optional(("amount", "unit", "method"), **_FEE, method=fields(Cashu=fields(mints=_MINTS))), minItems=1
        ),
        stamp=array(optional(("amount", "unit", "mints"), **_FEE, mints=_MINTS), minItems=1),
    ),
)
"""The relay information document (NIP-11), as protocol.relay_info writes it."""

FRONT_OF_OFFICE = Operation(
    "front",
    "Relay information (NIP-11), or a page, by Accept",
    "Accept: application/nostr+json or application/json has the information document, text/html a page, anything else "
    "a few lines of text. A WebSocket here is the relay (NIP-01).",
    {
        200: Answer(
            "What is here", {INFORMATION_TYPE: INFORMATION, HTML: TEXT, "text/plain": TEXT}, {"Vary": TEXT}, ETAG
        ),
        304: NOT_CHANGED,
    },
    (errors.TooMany,),
    (IF_NONE_MATCH,),
)
FRONT_OF_MINT = Operation(
    "front",
    "What is here",
    "Accept: text/html has a page, anything else a few lines of text. There is no relay here.",
    {200: Answer("What is here", {HTML: TEXT, "text/plain": TEXT}, {"Vary": TEXT}, ETAG), 304: NOT_CHANGED},
    parameters=(IF_NONE_MATCH,),
)

MANAGEMENT = Operation(
    "manage",
    "Relay management (NIP-86), signed by an operator (NIP-98)",
    "Each signed request is taken once. What a method refuses is answered with status 200 and `error`; without the "
    "content type there is nothing here, nor where PENNYPOST_OPERATORS is empty.",
    {
        200: Answer(
            "What the method answered",
            {
                RPC_TYPE: any_of(
                    fields(result=any_of(BOOLEAN, array({}))),
                    fields(error={"type": "string", "pattern": ends_with([errors.InvalidInput])}),
                )
            },
        )
    },
    (
        errors.HttpAuthInvalid,
        errors.NotFound,
        errors.BodyTooLarge,
        errors.DatabaseUnavailable,
        errors.TooManyBans,
    ),
    body=Body(
        {
            RPC_TYPE: {
                "type": "object",
                "properties": {"method": one_of(*METHODS), "params": {"type": "array"}},
                "required": ["method"],
            }
        },
        "`supportedmethods` lists the methods",
    ),
    security=(NIP98,),
)

HEADER_FEED = Operation(
    "headers",
    "Headers of stealth wraps behind a number",
    "8 bytes of the number it starts at (big-endian), then records of 44 bytes: offset (4), author (32), view tag (4), "
    "size class, time class, flags (2). The same bytes for everyone.",
    {
        200: Answer("The records", {FEED_TYPE: {"type": "string", "format": "binary"}}, ETAG),
        304: NOT_CHANGED,
    },
    (errors.InvalidInput, errors.FeedFull, errors.Overloaded, *UNPAID),
    (
        Parameter("after", "query", SEQUENCE | {"default": 0}, "The last number that is known"),
        Parameter("limit", "query", SEQUENCE | {"default": FEED_PAGE}, f"Records; {FEED_PAGE:,} at most are sent"),
        Parameter(
            "wait",
            "query",
            SEQUENCE | {"default": 0},
            f"Seconds to wait for a record while there is none; {FEED_WAIT} at most are waited",
        ),
        IF_NONE_MATCH,
    ),
)

_HEX128: Schema = {"type": "string", "pattern": r"^[0-9a-f]{128}$(?!\n)"}


def event_schema() -> Schema:
    """An event (NIP-01): the struct, and the hex that `parse_event` asks for."""
    form = schema(Event)
    form["properties"] |= {"id": HEX64, "pubkey": HEX64, "sig": _HEX128}
    return form


FEED_PAGES = Operation(
    "pages",
    f"The wraps of {PAGE} consecutive numbers",
    "So that one fetch does not show which was wanted. What has expired or was deleted is left out.",
    {
        200: Answer("Events in the order of their numbers", {JSON: array(event_schema(), maxItems=PAGE)}, ETAG),
        304: NOT_CHANGED,
    },
    (errors.InvalidInput, errors.NotFound, errors.Overloaded, *UNPAID),
    (
        Parameter(
            "page",
            "path",
            {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER // PAGE},
            f"Numbers from {PAGE} times this on",
        ),
        IF_NONE_MATCH,
    ),
)

TAKING: tuple[Refusal, ...] = (
    # what cannot be read
    errors.InvalidInput,
    errors.InvalidFrame,
    errors.InvalidEvent,
    errors.InvalidSignature,
    errors.VanishElsewhere,
    errors.EventExpired,
    # the stamp
    errors.StampRequired,
    errors.StampMalformed,
    errors.StampWrongMint,
    errors.StampWrongUnit,
    errors.StampUnknownKeyset,
    errors.StampExpired,
    errors.StampLocked,
    errors.StampTooLittle,
    errors.StampForged,
    errors.StampRefused,
    errors.StampSpent,
    # its change
    errors.KeysetUnknown,
    errors.KeysetInactive,
    errors.KeysetExpired,
    errors.OutputSigned,
    # the event
    errors.AuthRequired,
    errors.Banned,
    errors.EventTooFarAhead,
    errors.EventTooOld,
    errors.KindRefused,
    errors.Newer,
    errors.NotAllowed,
    errors.TooLong,
    errors.WorkRequired,
    errors.NobodyListening,
    errors.HoldFull,
    errors.EventDeleted,
    errors.BodyTooLarge,
    errors.TooMany,
    # ours, and those of mints elsewhere
    errors.WorkerFailed,
    errors.DatabaseUnavailable,
    errors.Overloaded,
    errors.QuotaFull,
    errors.MintAway,
    errors.MintMisbehaves,
)
"""Everything an event may be refused with."""


def _refused_event(found: Sequence[Refusal]) -> Content:
    """What was read as an event is answered as on a connection (NIP-01, OK); anything else as NUT-00 has it."""
    said: Schema = {"type": "string", "pattern": ends_with(found)}
    answer = fields(id=HEX64, accepted={"type": "boolean", "const": False}, message=said)
    return {JSON: any_of(answer, refused(found)[JSON])}


_CREQ: Schema = {
    "type": "string",
    "pattern": "^creqA[A-Za-z0-9_=-]+$",
    "description": "What it costs, and stamps of which mints (NUT-18)",
}

EVENTS = Operation(
    "events",
    "Post an event; the stamp goes into X-Cashu",
    "The twin of EVENT: the same steps, the same answers, errors with their HTTP status. Without a stamp it is "
    "answered 402 and what it costs (NUT-24). Repeating it is always safe.",
    {
        200: Answer(
            "Stored and durable, or stored before",
            {
                JSON: optional(
                    ("id", "accepted", "message"),
                    id=HEX64,
                    accepted={"type": "boolean", "const": True},
                    message=TEXT,
                    change=array(schema(BlindSignature), maxItems=MAX_CHANGE),
                    postmark=schema(Postmark),
                )
            },
        )
    },
    TAKING,
    (
        Parameter(
            "X-Cashu",
            "header",
            {"type": "string", "pattern": "^cashu[AB]"},
            f"The stamp (cashuA or cashuB), unless the frame has one. The head of a request has {MAX_HEAD // KIB} KiB "
            "at most; a longer stamp goes into the frame.",
        ),
    ),
    Body(
        {
            JSON: any_of(
                event_schema(),
                {
                    "type": "array",
                    "prefixItems": [
                        {"type": "string", "const": "EVENT"},
                        event_schema(),
                        {"type": ["string", "null"]},
                        {
                            "type": ["object", "null"],
                            "properties": {
                                "change": array(
                                    {
                                        "type": "object",
                                        "properties": {"id": schema(HexKeyset), "B_": schema(HexPoint)},
                                        "required": ["id", "B_"],
                                    },
                                    maxItems=MAX_CHANGE,
                                ),
                                "postmark": BOOLEAN,
                            },
                        },
                    ],
                    "minItems": 2,
                    "maxItems": 4,
                },
            )
        },
        "An event, or an EVENT frame with token and options: change (NUT-08) and postmark",
    ),
    refused_as=_refused_event,
    more={402: {"X-Cashu": _CREQ}, 400: {"X-Cashu": _CREQ}},
)

HOLD = Operation(
    "release",
    "Release what is held, with the preimage",
    "The twin of RELEASE. Opens every event under the tag, once; repeating it is harmless.",
    {
        200: Answer(
            "Released, now or before",
            {JSON: fields(hold=HEX64, accepted={"type": "boolean", "const": True}, message=TEXT)},
        )
    },
    (
        errors.InvalidInput,
        errors.HoldWrong,
        errors.HoldUnknown,
        errors.NotFound,
        errors.BodyTooLarge,
        *UNPAID,
    ),
    (Parameter("hold", "path", HEX64, "T, the tag under which it is held"),),
    Body(
        {JSON: {"type": "object", "properties": {"x": HEX64, "id": HEX64}, "required": ["x", "id"]}},
        "`x`: the preimage; `id`: of the sealed request or offer",
    ),
)

_OK = fields(ok={"type": "boolean", "const": True})

ALIVE = Operation("healthz", "The process is alive", "Asks no database.", {200: Answer("It is", {JSON: _OK})})
READY = Operation(
    "readyz",
    "The database answers, and the process is not about to stop",
    "For whoever sends people to this process.",
    {200: Answer("It is ready", {JSON: _OK})},
    (errors.ShuttingDown, errors.DatabaseUnavailable),
)
METRICS = Operation(
    "metrics",
    "Prometheus metrics",
    "Each is described in docs/reference/metrics.md. None has an address, a key or a token.",
    {200: Answer("The text format", {"text/plain": TEXT})},
)

DOCUMENT = Operation(
    "openapi",
    "This document",
    "What this process takes, answers and refuses (OpenAPI 3.1).",
    {200: Answer("The document", {JSON: {"type": "object"}}, ETAG), 304: NOT_CHANGED},
    parameters=(IF_NONE_MATCH,),
)

ABOUT = """A mint that sells stamps, a post office that takes them, or both, as the process is told.

Whatever is refused is answered with one code of one table, in brackets at the end of its text; after 429 and 503 the
same request is repeated when `Retry-After` says. Play money that is served to this machine alone (`play-money`) answers
403 to all that asks for another host."""

TAGS = {
    "server": "Of every process, whatever its role.",
    "pages": "For people with a browser; no cookies, no third parties.",
    "mint": "Sells stamps (Cashu NUTs). Its WebSocket is at /v1/ws (NUT-17).",
    "post office": "Takes letters with a stamp, and serves them. Its WebSocket is at / (NIP-01).",
    "operator": "For whoever runs it. Not served on a public address without TLS, unless told to be.",
}


def complete(document: dict[str, Any], cookie: str) -> dict[str, Any]:
    """The framework's document with what no route has: who may ask, and what the parts are. `cookie`: its name."""
    used = {tag for methods in document["paths"].values() for route in methods.values() for tag in route["tags"]}
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
    document["info"]["description"] = ABOUT
    document["components"] = {
        "securitySchemes": {
            SESSION: {
                "type": "apiKey",
                "in": "cookie",
                "name": cookie,
                "description": "Of a sign-in at /operator/login: strict, for two hours.",
            },
            NIP98: {
                "type": "http",
                "scheme": "Nostr",
                "description": "A kind 27235 event by a key of PENNYPOST_OPERATORS, in base64 (NIP-98). It names the "
                "whole address, the method and the hash of the body, and is taken once.",
            },
        }
    }
    return document
