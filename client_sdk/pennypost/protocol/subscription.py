"""Subscriptions to a mint over the websocket at `/v1/ws` (NUT-17): what a wallet asks, and what it is answered.

    text ── read_request ──▶ Request ── read_command ──▶ Subscribe | Unsubscribe
    ok_answer, error_answer, notification ──▶ text

Reading goes in two steps so that a refusal can name the request it refuses. Nothing that was sent is repeated in an
error, except the request's own id.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final, NamedTuple, cast

import msgspec

from pennypost.protocol.answers import MAX_ITEMS
from pennypost.protocol.errors import PennypostError, RpcInvalid, RpcMethod, RpcParams, RpcUnparseable

MAX_NAME: Final = 128
"""Characters of a `subId`, and of an id that is text."""
MAX_ID: Final = 1 << 53

RequestId = int | str | None

_QUOTE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_Y: Final = re.compile(r"0[23][0-9a-fA-F]{64}")

_CODES: Final[dict[type[PennypostError], int]] = {
    RpcUnparseable: -32700,
    RpcInvalid: -32600,
    RpcMethod: -32601,
    RpcParams: -32602,
}
_OTHER: Final = -32000
"""JSON-RPC's first code for whatever the server has to refuse for reasons of its own."""


class Kind(StrEnum):
    """What can be subscribed to at a mint that sells and never buys back."""

    MINT_QUOTE = "bolt11_mint_quote"
    PROOF_STATE = "proof_state"


class Request(NamedTuple):
    """A JSON-RPC request whose method and parameters are not looked at yet."""

    id: int | str
    method: str
    params: object


class Subscribe(NamedTuple):
    """`filters`: quote ids, or Ys of 66 hex digits, as they were sent; at least one, none twice."""

    kind: Kind
    name: str
    filters: list[str]


class Unsubscribe(NamedTuple):
    """Ends the subscription of this `subId`."""

    name: str


def read_request(text: str) -> Request:
    """A request (NUT-17, Requests). Raises RpcUnparseable, RpcInvalid."""
    try:
        value: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RpcUnparseable from None
    if not isinstance(value, dict):
        raise RpcInvalid
    fields = cast("dict[str, object]", value)
    method, identifier = fields.get("method"), fields.get("id")
    if fields.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise RpcInvalid
    if isinstance(identifier, str):
        if len(identifier) > MAX_NAME:
            raise RpcInvalid
    elif type(identifier) is not int or not -MAX_ID <= identifier <= MAX_ID:
        raise RpcInvalid
    return Request(identifier, method, fields.get("params"))


def read_command(request: Request) -> Subscribe | Unsubscribe:
    """What a request wants (NUT-17, Command). Raises RpcMethod, RpcParams."""
    if request.method not in ("subscribe", "unsubscribe"):
        raise RpcMethod
    if not isinstance(request.params, dict):
        raise RpcParams
    params = cast("dict[str, object]", request.params)  # pyright: ignore[reportUnknownMemberType]
    name = params.get("subId")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise RpcParams(f"subId is text of 1 to {MAX_NAME} characters")
    if request.method == "unsubscribe":
        return Unsubscribe(name)
    return Subscribe(kind := _kind(params.get("kind")), name, _filters(kind, params.get("filters")))


def _kind(value: object) -> Kind:
    if not isinstance(value, str) or value not in list(Kind):
        raise RpcParams("this kind is not served here")
    return Kind(value)


def _filters(kind: Kind, value: object) -> list[str]:
    if not isinstance(value, list) or not 0 < len(cast("list[object]", value)) <= MAX_ITEMS:
        raise RpcParams(f"filters is a list of 1 to {MAX_ITEMS}")
    form = _QUOTE if kind is Kind.MINT_QUOTE else _Y
    filters = cast("list[object]", value)
    if not all(isinstance(each, str) and form.fullmatch(each) for each in filters):
        raise RpcParams("a filter is not of the form of this kind")
    return list(dict.fromkeys(cast("list[str]", filters)))


def ok_answer(identifier: int | str, name: str) -> str:
    """The request was done (NUT-17, Responses)."""
    return _text({"jsonrpc": "2.0", "result": {"status": "OK", "subId": name}, "id": identifier})


def error_answer(identifier: RequestId, error: PennypostError) -> str:
    """The request was refused (NUT-17, Errors); `identifier` is None where none could be read."""
    message = f"{error}. {error.remedy} [{error.code}]"
    code = _CODES.get(type(error), _OTHER)
    return _text({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": identifier})


def notification(name: str, payload: msgspec.Struct) -> str:
    """The state of one subscribed object (NUT-17, Notifications): a QuoteAnswer or a ProofState."""
    return _text({"jsonrpc": "2.0", "method": "subscribe", "params": {"subId": name, "payload": payload}})


def _text(message: dict[str, object]) -> str:
    return msgspec.json.encode(message).decode()
