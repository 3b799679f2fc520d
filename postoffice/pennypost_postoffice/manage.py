"""The relay management API (NIP-86): the operator's keys ban, and change what the office says of itself.

    POST /, application/nostr+json+rpc ─▶ check: NIP-98, an operator's key, not seen before ─▶ METHODS ─▶ database, mark

Only methods that do something here are there. Prices decide which kinds are taken at all; `disallowkind` takes one out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from pennypost.protocol.errors import InvalidInput, PennypostError, ServerError
from pennypost.protocol.event import MAX_KIND, is_hex64
from pennypost.protocol.nip98 import spellings
from pennypost_postoffice.bans import Ban, Subject, bans_on
from pennypost_postoffice.marks import DESCRIPTION, ICON, NAME, set_on
from pennypost_postoffice.operate.banning import forbid_on, permit_on
from pennypost_postoffice.operators import Operators

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

RPC_TYPE = "application/nostr+json+rpc"

MAX_REASON = 256
MAX_NAME = 64
MAX_TEXT = 1_024

Params = list[Any]
Method = Callable[["Office", Params], Awaitable[Any]]


class _Request(msgspec.Struct):
    method: str
    params: Params = []


_decode = msgspec.json.Decoder(_Request).decode


class Manage:
    """Answers management requests; none is taken twice."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._operators = Operators(office.database, lambda: office.settings, lambda: office.now())

    async def authorize(self, header: str | None, body: bytes) -> None:
        """Raises HttpAuthInvalid, DatabaseUnavailable, and NotFound where nobody may manage."""
        await self._operators.authorize(header, urls=spellings(self._office.settings.url), method="POST", body=body)

    async def answer(self, body: bytes) -> bytes:
        """The answer to a request that is allowed: `{"result"}` or `{"error"}`. Raises DatabaseUnavailable."""
        try:
            request = _decode(body)
            method = METHODS.get(request.method)
            if method is None:
                raise InvalidInput("this method is not supported")
            result = await method(self._office, request.params)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.encode({"error": InvalidInput("a method and its params").nip01()})
        except ServerError:
            raise
        except PennypostError as error:
            return msgspec.json.encode({"error": error.nip01()})
        return msgspec.json.encode({"result": result})


def _text(params: Params, at: int, most: int) -> str:
    """A parameter that is text; "" where it is left out. Raises InvalidInput."""
    value = params[at] if len(params) > at else ""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most or "\0" in value:
        raise InvalidInput(f"a text of at most {most} characters")
    return value


def _hex(params: Params) -> str:
    if not params or not is_hex64(params[0]):
        raise InvalidInput("64 lower-case hex digits")
    return params[0]


def _kind(params: Params) -> str:
    kind = params[0] if params else None
    if isinstance(kind, bool) or not isinstance(kind, int) or not 0 <= kind <= MAX_KIND:
        raise InvalidInput("a kind from 0 to 65535")
    return str(kind)


def _banning(subject: Subject, read: Callable[[Params], str]) -> Method:
    async def method(office: Office, params: Params) -> bool:
        ban = Ban(subject, read(params), _text(params, 1, MAX_REASON), office.now())
        await office.database.write(forbid_on, ban)
        office.look_at_marks()
        return True

    return method


def _allowing(subject: Subject, read: Callable[[Params], str]) -> Method:
    async def method(office: Office, params: Params) -> bool:
        await office.database.write(permit_on, subject, read(params))
        office.look_at_marks()
        return True

    return method


def _listing(subject: Subject, name: str) -> Method:
    async def method(office: Office, _params: Params) -> list[Any]:
        found = [ban for ban in await office.database.read(bans_on) if ban.subject == subject]
        if subject == "kind":
            return sorted(int(ban.value) for ban in found)
        return [{name: ban.value, "reason": ban.reason} for ban in found]

    return method


def _changing(name: str, most: int) -> Method:
    async def method(office: Office, params: Params) -> bool:
        if not params:
            raise InvalidInput("a text")
        value = _text(params, 0, most)
        if name == ICON and value and not value.startswith(("https://", "http://")):
            raise InvalidInput("an address beginning with https://")
        await office.database.write(set_on, name, value)
        office.look_at_marks()
        return True

    return method


async def _supported(_office: Office, _params: Params) -> list[str]:
    return [name for name in METHODS if name != "supportedmethods"]


METHODS: dict[str, Method] = {
    "supportedmethods": _supported,
    "banpubkey": _banning("pubkey", _hex),
    "unbanpubkey": _allowing("pubkey", _hex),
    "listbannedpubkeys": _listing("pubkey", "pubkey"),
    "banevent": _banning("event", _hex),
    "allowevent": _allowing("event", _hex),
    "listbannedevents": _listing("event", "id"),
    "disallowkind": _banning("kind", _kind),
    "allowkind": _allowing("kind", _kind),
    "listdisallowedkinds": _listing("kind", "kind"),
    "changerelayname": _changing(NAME, MAX_NAME),
    "changerelaydescription": _changing(DESCRIPTION, MAX_TEXT),
    "changerelayicon": _changing(ICON, MAX_TEXT),
}
"""`listdisallowedkinds` is ours: NIP-86 lists the allowed kinds alone, which here may be all 65,536."""
