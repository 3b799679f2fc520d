"""Frames of the relay protocol, read and written (NIP-01, 42, 45, 77, and the stamp of the wire contract).

    client ─ ["EVENT", event, stamp?, options?] · ["REQ", …] · ["CLOSE", …] · ["AUTH", event] · ["RELEASE", …] ─▶ relay
    client ◀─ EVENT · OK · EOSE · CLOSED · NOTICE · AUTH · CHANGE · POSTMARK ─ relay
    both   ─ COUNT · NEG-OPEN · NEG-MSG · NEG-CLOSE · NEG-ERR (each says which of the two sends it)

Both sides use this one module, so what one writes the other reads.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from pennypost.protocol.errors import InvalidEvent, InvalidFrame
from pennypost.protocol.event import Event, is_hex64, parse_event
from pennypost.protocol.filter import Filter, filter_json

MAX_SUBSCRIPTION: Final = 64
"""Characters of a subscription id (NIP-01, From client to relay)."""

_MISFORMED: Final = (msgspec.DecodeError, UnicodeError, RecursionError)

_elements: Final = msgspec.json.Decoder(list[msgspec.Raw])
_value: Final = msgspec.json.Decoder()
_encode: Final = msgspec.json.Encoder().encode


class _Identified(msgspec.Struct, gc=False):
    id: Any = None


_identified: Final = msgspec.json.Decoder(_Identified)


class EventFrame(msgspec.Struct, frozen=True, gc=False):
    """`["EVENT", event, token?, options?]`.

    `event` is undecoded JSON for `parse_event`; `token` and `options` are whatever JSON values came, None without.
    """

    event: msgspec.Raw
    token: object = None
    options: object = None

    @property
    def id(self) -> str | None:
        """The event's id where it is 64 lower-case hex digits, however malformed the rest; only then is there an OK."""
        try:
            found = _identified.decode(self.event).id
        except _MISFORMED:
            return None
        return found if is_hex64(found) else None


class ReqFrame(msgspec.Struct, frozen=True, gc=False):
    """`["REQ", subscription, filter, …]`: the filters are decoded JSON values for `parse_filter`, none checked."""

    subscription: str
    filters: tuple[object, ...]


class CountFrame(msgspec.Struct, frozen=True, gc=False):
    """`["COUNT", query, filter, …]` (NIP-45): as ReqFrame."""

    query: str
    filters: tuple[object, ...]


class NegOpenFrame(msgspec.Struct, frozen=True, gc=False):
    """`["NEG-OPEN", sync, filter, message]` (NIP-77): filter and message are decoded JSON values, not checked."""

    sync: str
    filter: object
    message: object


class NegMessageFrame(msgspec.Struct, frozen=True, gc=False):
    """`["NEG-MSG", sync, message]` (NIP-77): the message is a decoded JSON value, not checked."""

    sync: str
    message: object


class NegCloseFrame(msgspec.Struct, frozen=True, gc=False):
    """`["NEG-CLOSE", sync]` (NIP-77)."""

    sync: str


class CloseFrame(msgspec.Struct, frozen=True, gc=False):
    """`["CLOSE", subscription]`."""

    subscription: str


class AuthFrame(msgspec.Struct, frozen=True, gc=False):
    """`["AUTH", event]` (NIP-42): undecoded JSON for `parse_event`."""

    event: msgspec.Raw

    @property
    def id(self) -> str | None:
        """As of EventFrame."""
        return EventFrame(self.event).id


class ReleaseFrame(msgspec.Struct, frozen=True, gc=False):
    """`["RELEASE", T, x, id]`: T is 64 hex digits; x and id are whatever JSON values came."""

    hold: str
    preimage: object
    identifier: object


ClientFrame = (
    EventFrame
    | ReqFrame
    | CloseFrame
    | AuthFrame
    | ReleaseFrame
    | CountFrame
    | NegOpenFrame
    | NegMessageFrame
    | NegCloseFrame
)


def parse_client_frame(text: str | bytes) -> ClientFrame:
    """Read one frame of a client (NIP-01, From client to relay). Raises InvalidFrame, whatever is sent.

    The caller has bounded the length. Event and filters are left to `parse_event` and `parse_filter`, so that a
    refusal can name the event id or the subscription.
    """
    elements = _split(text)
    match _read(elements[0]), len(elements):
        case "EVENT", 2:
            return EventFrame(elements[1])
        case "EVENT", 3 | 4:
            return EventFrame(elements[1], *(_read(element) for element in elements[2:]))
        case "REQ", count if count > 1:
            return ReqFrame(_subscription(elements[1]), tuple(_read(element) for element in elements[2:]))
        case "COUNT", count if count > 1:
            return CountFrame(_subscription(elements[1]), tuple(_read(element) for element in elements[2:]))
        case "NEG-OPEN", 4:
            return NegOpenFrame(_subscription(elements[1]), _read(elements[2]), _read(elements[3]))
        case "NEG-MSG", 3:
            return NegMessageFrame(_subscription(elements[1]), _read(elements[2]))
        case "NEG-CLOSE", 2:
            return NegCloseFrame(_subscription(elements[1]))
        case "CLOSE", 2:
            return CloseFrame(_subscription(elements[1]))
        case "AUTH", 2:
            return AuthFrame(elements[1])
        case "RELEASE", 4:
            return _release(*(_read(element) for element in elements[1:]))
        case _:
            raise InvalidFrame


def _release(hold: object, preimage: object, identifier: object) -> ReleaseFrame:
    if not is_hex64(hold):
        raise InvalidFrame("a hold is 64 lower-case hex digits")
    return ReleaseFrame(cast("str", hold), preimage, identifier)


def _split(text: str | bytes) -> list[msgspec.Raw]:
    try:
        elements = _elements.decode(text)
    except _MISFORMED:
        raise InvalidFrame from None
    if not elements:
        raise InvalidFrame
    return elements


def _read(raw: msgspec.Raw) -> object:
    try:
        return _value.decode(raw)
    except _MISFORMED:
        raise InvalidFrame from None


def _subscription(raw: msgspec.Raw) -> str:
    found = _read(raw)
    if not isinstance(found, str) or not 0 < len(found) <= MAX_SUBSCRIPTION:
        raise InvalidFrame("a subscription id is a string of 1 to 64 characters")
    return found


class EventMessage(msgspec.Struct, frozen=True, gc=False):
    """`["EVENT", subscription, event]`: well-formed, its id and signature not checked."""

    subscription: str
    event: Event


class OkMessage(msgspec.Struct, frozen=True, gc=False):
    """`["OK", id, accepted, message]`."""

    id: str
    accepted: bool
    message: str


class EoseMessage(msgspec.Struct, frozen=True, gc=False):
    """`["EOSE", subscription]`: what was stored has been sent."""

    subscription: str


class ClosedMessage(msgspec.Struct, frozen=True, gc=False):
    """`["CLOSED", subscription, message]`."""

    subscription: str
    message: str


class CountMessage(msgspec.Struct, frozen=True, gc=False):
    """`["COUNT", query, {"count": n}]` (NIP-45)."""

    query: str
    count: int


class NegMessage(msgspec.Struct, frozen=True, gc=False):
    """`["NEG-MSG", sync, message]` (NIP-77): hex, not checked."""

    sync: str
    message: str


class NegErrorMessage(msgspec.Struct, frozen=True, gc=False):
    """`["NEG-ERR", sync, reason]` (NIP-77): the session is over."""

    sync: str
    reason: str


class NoticeMessage(msgspec.Struct, frozen=True, gc=False):
    """`["NOTICE", message]`."""

    message: str


class AuthMessage(msgspec.Struct, frozen=True, gc=False):
    """`["AUTH", challenge]` (NIP-42)."""

    challenge: str


class ChangeMessage(msgspec.Struct, frozen=True, gc=False):
    """`["CHANGE", id, signatures]`: blind signatures for what was overpaid, decoded JSON objects, not checked."""

    id: str
    signatures: tuple[object, ...]


class PostmarkMessage(msgspec.Struct, frozen=True, gc=False):
    """`["POSTMARK", id, postmark]`: a decoded JSON value for `postmark.read_postmark`."""

    id: str
    postmark: object


RelayMessage = (
    EventMessage
    | OkMessage
    | EoseMessage
    | ClosedMessage
    | NoticeMessage
    | AuthMessage
    | ChangeMessage
    | PostmarkMessage
    | CountMessage
    | NegMessage
    | NegErrorMessage
)


def parse_relay_frame(text: str | bytes) -> RelayMessage:
    """Read one frame of a relay (NIP-01, From relay to client).

    Raises InvalidFrame, also for message types not known here, and InvalidEvent for a malformed event.
    """
    elements = _split(text)
    label = _read(elements[0])
    if label == "EVENT" and len(elements) == 3:
        return EventMessage(_text(_read(elements[1])), parse_event(elements[2]))
    match label, [_read(element) for element in elements[1:]]:
        case "OK", [str(identifier), bool(accepted), *rest]:
            # Some relays leave the message out, which NIP-01 forbids.
            return OkMessage(identifier, accepted, _text(rest[0]) if rest else "")
        case "EOSE", [str(subscription)]:
            return EoseMessage(subscription)
        case "CLOSED", [str(subscription), *rest]:
            return ClosedMessage(subscription, _text(rest[0]) if rest else "")
        case "COUNT", [str(query), {"count": int(count)}] if not isinstance(count, bool) and count >= 0:
            return CountMessage(query, count)
        case "NEG-MSG", [str(sync), str(message)]:
            return NegMessage(sync, message)
        case "NEG-ERR", [str(sync), str(reason), *_]:
            return NegErrorMessage(sync, reason)
        case "NOTICE", [str(message)]:
            return NoticeMessage(message)
        case "AUTH", [str(challenge)]:
            return AuthMessage(challenge)
        case "CHANGE", [str(identifier), signatures] if isinstance(signatures, list):
            return ChangeMessage(identifier, tuple(cast("list[object]", signatures)))
        case "POSTMARK", [str(identifier), postmark]:
            return PostmarkMessage(identifier, postmark)
        case _:
            raise InvalidFrame("an unknown message")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidFrame
    return value


def _write(*elements: object) -> str:
    try:
        return _encode(elements).decode()
    except UnicodeEncodeError:
        raise InvalidFrame("lone surrogates have no UTF-8") from None


def event_frame(event: Event, token: str | None = None, options: dict[str, Any] | None = None) -> str:
    """`["EVENT", event, token, options]`, no longer than what is given; the token is null where only options are."""
    if options:
        return _write("EVENT", event, token, options)
    return _write("EVENT", event) if token is None else _write("EVENT", event, token)


def req_frame(subscription: str, *filters: Filter) -> str:
    """`["REQ", subscription, filter, …]`."""
    return _write("REQ", subscription, *map(filter_json, filters))


def count_frame(query: str, *filters: Filter) -> str:
    """`["COUNT", query, filter, …]` (NIP-45)."""
    return _write("COUNT", query, *map(filter_json, filters))


def close_frame(subscription: str) -> str:
    """`["CLOSE", subscription]`."""
    return _write("CLOSE", subscription)


def auth_frame(event: Event) -> str:
    """`["AUTH", event]` (NIP-42)."""
    return _write("AUTH", event)


def release_frame(hold: bytes, preimage: bytes, identifier: bytes) -> str:
    """`["RELEASE", T, x, id]` for 32 bytes each; answered by an OK whose id is T."""
    return _write("RELEASE", hold.hex(), preimage.hex(), identifier.hex())


def event_message(subscription: str, event_json: bytes) -> str:
    """`["EVENT", subscription, event]` around the JSON of an event made once by `event.event_json`."""
    return f'["EVENT",{_write(subscription)[1:-1]},{event_json.decode()}]'


def ok_message(identifier: str, accepted: bool, message: str) -> str:
    """`["OK", id, accepted, message]`, always four elements.

    Raises InvalidEvent where the id is not 64 lower-case hex digits: without one there is a NOTICE and no OK.
    """
    if not is_hex64(identifier):
        raise InvalidEvent("no id to answer to")
    return _write("OK", identifier, accepted, message)


def eose_message(subscription: str) -> str:
    """`["EOSE", subscription]`."""
    return _write("EOSE", subscription)


def closed_message(subscription: str, message: str) -> str:
    """`["CLOSED", subscription, message]`."""
    return _write("CLOSED", subscription, message)


def count_message(query: str, count: int) -> str:
    """`["COUNT", query, {"count": n}]` (NIP-45)."""
    return _write("COUNT", query, {"count": count})


def neg_message(sync: str, message: bytes) -> str:
    """`["NEG-MSG", sync, message]` with the message in hex (NIP-77)."""
    return _write("NEG-MSG", sync, message.hex())


def neg_error_message(sync: str, reason: str) -> str:
    """`["NEG-ERR", sync, reason]` (NIP-77)."""
    return _write("NEG-ERR", sync, reason)


def notice_message(message: str) -> str:
    """`["NOTICE", message]`."""
    return _write("NOTICE", message)


def auth_message(challenge: str) -> str:
    """`["AUTH", challenge]` (NIP-42)."""
    return _write("AUTH", challenge)


def change_message(identifier: str, signatures: list[dict[str, Any]]) -> str:
    """`["CHANGE", id, signatures]`, sent before the OK."""
    return _write("CHANGE", identifier, signatures)


def postmark_message(identifier: str, postmark: dict[str, Any]) -> str:
    """`["POSTMARK", id, postmark]`, sent before the OK."""
    return _write("POSTMARK", identifier, postmark)
