"""Nostr Wallet Connect: an app asks a wallet for invoices and payments, over a relay (NIP-47).

    "nostr+walletconnect://…" ──parse_link──▶ WalletLink ──▶ WalletSession
    method, params ──request──▶ kind 23194 ▶ relay ▶ wallet
    kind 23195 ──read_response──▶ WalletResponse           what became of a request
    kind 23197, 23196 ──read_notification──▶ Transaction   a payment that nobody asked about
    kind 13194 ──read_info──▶ WalletInfo                   what the wallet can do, and how it encrypts

Everything is encrypted between the wallet's key and the link's own, and signed by one of them; what another key wrote
is not read. NIP-44 is spoken; NIP-04 only to a wallet whose signed info event says that it knows nothing else.
Amounts are millisatoshis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from pennypost.protocol import nip04, nip44, secp
from pennypost.protocol.errors import InvalidPayload, InvalidWalletLink
from pennypost.protocol.event import Event, sign_event, tag_value, verify_event
from pennypost.protocol.filter import Filter
from pennypost.protocol.nip42 import answer_challenge

KIND_INFO: Final = 13194
KIND_REQUEST: Final = 23194
KIND_RESPONSE: Final = 23195
KIND_NOTIFICATION_NIP04: Final = 23196
KIND_NOTIFICATION: Final = 23197

MAKE_INVOICE: Final = "make_invoice"
LOOKUP_INVOICE: Final = "lookup_invoice"
PAY_INVOICE: Final = "pay_invoice"
PAY_KEYSEND: Final = "pay_keysend"
GET_BALANCE: Final = "get_balance"
GET_INFO: Final = "get_info"
MAKE_HOLD_INVOICE: Final = "make_hold_invoice"
SETTLE_HOLD_INVOICE: Final = "settle_hold_invoice"
CANCEL_HOLD_INVOICE: Final = "cancel_hold_invoice"
PAYMENT_RECEIVED: Final = "payment_received"

NOT_FOUND: Final = "NOT_FOUND"
"""The error code of a look-up for an invoice that the wallet does not have (NIP-47, lookup_invoice)."""

MAX_LINK: Final = 4_096
"""Characters of a connection string."""
MAX_RELAYS: Final = 8

_BACKLOG: Final = 100
"""Most stored answers taken from a relay that keeps them; without it, a relay may send years of them."""

MAX_METADATA: Final = 4_096
"""Characters of an invoice's metadata (NIP-47, Metadata)."""

_MAX_RECORDS: Final = 64
_HEX: Final = re.compile(r"(?:[0-9a-f]{2}){1,2048}")
_HEX64: Final = re.compile(r"[0-9a-f]{64}")
_CODE: Final = re.compile(r"[A-Z][A-Z_]{0,63}")
_SCHEMES: Final = ("nostr+walletconnect:", "nostrwalletconnect:")
_WORD: Final = re.compile(r"[a-z0-9_]{1,64}")
_MAX_MSAT: Final = 2_100_000_000_000_000_000


T = TypeVar("T")


class Encryption(StrEnum):
    """How messages are encrypted, as the `encryption` tag names it."""

    NIP44 = "nip44_v2"
    NIP04 = "nip04"


@dataclass(frozen=True, slots=True)
class WalletLink:
    """A connection: the wallet's public key (32 bytes), the secret made for this app (32), relays, lightning address.

    Whoever has it may do what the wallet allows this connection: it is kept like a key, and not shown by `repr`.
    """

    wallet: bytes
    secret: bytes = field(repr=False)
    relays: tuple[str, ...]
    lud16: str | None = None


def parse_link(text: str) -> WalletLink:
    """Read a connection string (NIP-47, Nostr Wallet Connect URI). Raises InvalidWalletLink; it repeats nothing."""
    text = text.strip()
    if len(text) > MAX_LINK or not text.isascii() or not text.isprintable():
        raise InvalidWalletLink
    scheme = next((each for each in _SCHEMES if text.lower().startswith(each)), None)
    if scheme is None:
        raise InvalidWalletLink("it does not begin with nostr+walletconnect://")
    key, _, query = text[len(scheme) :].removeprefix("//").partition("?")
    try:
        given = parse_qsl(query, strict_parsing=True, max_num_fields=32)
    except ValueError:
        raise InvalidWalletLink("its parameters cannot be read") from None
    secrets = [value for name, value in given if name == "secret"]
    relays = tuple(dict.fromkeys(value for name, value in given if name == "relay"))
    if len(secrets) != 1 or not _HEX64.fullmatch(secrets[0]) or not secp.valid_secret(bytes.fromhex(secrets[0])):
        raise InvalidWalletLink("it has no usable secret")
    if not 0 < len(relays) <= MAX_RELAYS or not all(map(_is_relay, relays)):
        raise InvalidWalletLink("it names no relay (ws:// or wss://), or too many")
    wallet = key.removesuffix("/")
    if not _HEX64.fullmatch(wallet) or not secp.is_point(b"\x02" + bytes.fromhex(wallet)):
        raise InvalidWalletLink("it does not name the wallet's key")
    lud16 = next((value for name, value in given if name == "lud16"), None)
    return WalletLink(bytes.fromhex(wallet), bytes.fromhex(secrets[0]), relays, lud16)


def encode_link(link: WalletLink) -> str:
    """The connection string; it contains the secret."""
    given = [*(("relay", relay) for relay in link.relays), ("secret", link.secret.hex())]
    if link.lud16 is not None:
        given.append(("lud16", link.lud16))
    return f"nostr+walletconnect://{link.wallet.hex()}?{urlencode(given, quote_via=quote, safe='')}"


def _is_relay(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= 512
    return plain and parts.scheme in ("ws", "wss") and bool(parts.hostname) and "@" not in parts.netloc


@dataclass(frozen=True, slots=True)
class WalletInfo:
    """What a wallet says of itself; `since` is the info event's time."""

    methods: frozenset[str]
    notifications: frozenset[str]
    encryption: Encryption
    since: int


class Progress(StrEnum):
    """What a wallet says of an invoice or a payment."""

    PENDING = "pending"
    """Not paid, or a payment is held."""
    SETTLED = "settled"
    OVER = "over"
    """Expired or failed."""


class Transaction(msgspec.Struct, frozen=True):
    """An invoice or a payment (NIP-47, make_invoice); amounts in msat, times in Unix seconds. Much may be left out."""

    type: str | None = None
    state: str | None = None
    invoice: str | None = None
    description: str | None = None
    description_hash: str | None = None
    preimage: str | None = None
    payment_hash: str | None = None
    amount: int | None = None
    fees_paid: int | None = None
    created_at: int | None = None
    expires_at: int | None = None
    settled_at: int | None = None
    metadata: Any = None

    @property
    def progress(self) -> Progress:
        """Its state; of wallets that name none, the time of settlement tells."""
        match self.state:
            case "settled":
                return Progress.SETTLED
            case "expired" | "failed":
                return Progress.OVER
            case None | "" if self.settled_at:
                return Progress.SETTLED
            case _:
                return Progress.PENDING

    @property
    def held(self) -> bool:
        """Whether somebody has paid a hold invoice that is not settled yet (NIP-47, hold_invoice_accepted)."""
        return self.state == "accepted"

    @property
    def comment(self) -> str:
        """What the payer wrote (NIP-47, Metadata: the LUD-12 comment), at most 4,096 characters; empty without."""
        found = self._metadata().get("comment")
        return found[:MAX_METADATA] if isinstance(found, str) else ""

    @property
    def records(self) -> dict[int, bytes]:
        """TLV records of a keysend payment by their type (NIP-47, Metadata); those that cannot be read are left out."""
        found = self._metadata().get("tlv_records")
        records: dict[int, bytes] = {}
        for each in cast("list[object]", found)[:_MAX_RECORDS] if isinstance(found, list) else []:
            if isinstance(each, dict):
                entry = cast("dict[str, object]", each)
                number, value = entry.get("type"), entry.get("value")
                if isinstance(number, int) and isinstance(value, str) and _HEX.fullmatch(value[: MAX_METADATA + 1]):
                    records.setdefault(number, bytes.fromhex(value))
        return records

    def _metadata(self) -> dict[str, object]:
        found: object = self.metadata
        return cast("dict[str, object]", found) if isinstance(found, dict) else {}


class WalletState(msgspec.Struct, frozen=True):
    """What get_info tells; much may be left out."""

    alias: str = ""
    pubkey: str = ""
    network: str = ""
    methods: list[str] = []


class _Payment(msgspec.Struct):
    preimage: str
    fees_paid: int | None = None


class _Funds(msgspec.Struct):
    balance: int


@dataclass(frozen=True, slots=True)
class WalletResponse:
    """The answer to the request whose event id is `request`. `error` is its code, None when it was done."""

    request: str
    method: str
    error: str | None
    result: msgspec.Raw

    def transaction(self) -> Transaction:
        """The result of make_invoice and lookup_invoice. Raises InvalidPayload."""
        return _transaction(self.result)

    def payment(self) -> tuple[bytes, int]:
        """Preimage (32 bytes) and fees (msat) of pay_invoice and pay_keysend. Raises InvalidPayload."""
        found = self._read(_Payment)
        fees = found.fees_paid or 0
        if not _HEX64.fullmatch(found.preimage) or not 0 <= fees <= _MAX_MSAT:
            raise InvalidPayload("the wallet's answer shows no preimage")
        return bytes.fromhex(found.preimage), fees

    def balance(self) -> int:
        """The result of get_balance, in msat. Raises InvalidPayload."""
        found = self._read(_Funds).balance
        if not 0 <= found <= _MAX_MSAT:
            raise InvalidPayload("the wallet's answer names an amount that does not exist")
        return found

    def state(self) -> WalletState:
        """The result of get_info. Raises InvalidPayload."""
        return self._read(WalletState)

    def _read(self, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(self.result, type=shape)
        except _MISFORMED:
            raise InvalidPayload("the wallet's answer is malformed") from None


class _Error(msgspec.Struct):
    code: str = ""


class _Response(msgspec.Struct):
    result_type: str = ""
    error: _Error | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Notification(msgspec.Struct):
    notification_type: str
    notification: msgspec.Raw


_response: Final = msgspec.json.Decoder(_Response)
_notification: Final = msgspec.json.Decoder(_Notification)
_read_transaction: Final = msgspec.json.Decoder(Transaction)
_encode: Final = msgspec.json.Encoder().encode
_MISFORMED: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


def _transaction(raw: msgspec.Raw) -> Transaction:
    try:
        found = _read_transaction.decode(raw)
    except _MISFORMED:
        raise InvalidPayload("the wallet's answer is malformed") from None
    if found.amount is not None and not 0 <= found.amount <= _MAX_MSAT:
        raise InvalidPayload("the wallet's answer names an amount that does not exist")
    if found.payment_hash is not None and not _HEX64.fullmatch(found.payment_hash):
        raise InvalidPayload("the wallet's answer names no payment hash")
    return found


class WalletSession:
    """Writes to a wallet and reads what it writes. `public_key` is ours, 64 hex digits."""

    def __init__(self, link: WalletLink) -> None:
        self.link = link
        self.wallet = link.wallet.hex()
        self.public_key = secp.xonly(link.secret).hex()
        self._nip44 = nip44.conversation_key(link.secret, link.wallet)
        self._nip04 = secp.ecdh_x(link.secret, link.wallet)

    def info_filter(self) -> Filter:
        """What to subscribe to first: the wallet's info event."""
        return Filter(kinds=(KIND_INFO,), authors=(self.wallet,), limit=1)

    def answer_filter(self, encryption: Encryption) -> Filter:
        """Responses and notifications to us. There is no `since`: the wallet's clock may be behind."""
        kind = KIND_NOTIFICATION if encryption is Encryption.NIP44 else KIND_NOTIFICATION_NIP04
        return Filter(
            kinds=(KIND_RESPONSE, kind), authors=(self.wallet,), tags={"p": (self.public_key,)}, limit=_BACKLOG
        )

    def request(
        self,
        method: str,
        params: Mapping[str, object],
        encryption: Encryption,
        *,
        created_at: int,
        expires_at: int,
        nonce: bytes,
        aux: bytes,
    ) -> Event:
        """A signed request; a wallet that sees it after `expires_at` ignores it. `nonce` and `aux`: 32 random bytes.

        Raises InvalidInput when the parameters are longer than can be encrypted.
        """
        text = _encode({"method": method, "params": params}).decode()
        tags = [["p", self.wallet], ["encryption", encryption.value], ["expiration", str(expires_at)]]
        content = self._encrypt(text, encryption, nonce)
        return sign_event(
            self.link.secret, created_at=created_at, kind=KIND_REQUEST, tags=tags, content=content, aux=aux
        )

    def auth(self, relay: str, challenge: str, *, created_at: int, aux: bytes) -> Event:
        """The answer to a relay's AUTH challenge (NIP-42), by the link's own key."""
        return answer_challenge(self.link.secret, relay, challenge, created_at=created_at, aux=aux)

    def read_info(self, event: Event) -> WalletInfo | None:
        """What the wallet can do; None for an event that is not its info. Raises InvalidSignature.

        Without an `encryption` tag it knows NIP-04 alone (NIP-47, Encryption).
        """
        if event.kind != KIND_INFO or event.pubkey != self.wallet:
            return None
        verify_event(event)
        known = _words(tag_value(event, "encryption") or "")
        encryption = Encryption.NIP44 if Encryption.NIP44 in known else Encryption.NIP04
        notifications = _words(tag_value(event, "notifications") or "")
        return WalletInfo(_words(event.content), notifications, encryption, event.created_at)

    def read_response(self, event: Event, encryption: Encryption) -> WalletResponse | None:
        """The wallet's answer, in the encryption of the request; None for any other event.

        Raises InvalidSignature, InvalidPayload.
        """
        request = tag_value(event, "e")
        if event.kind != KIND_RESPONSE or not self._is_for_us(event) or request is None:
            return None
        verify_event(event)
        try:
            found = _response.decode(self._decrypt(event.content, encryption))
        except _MISFORMED:
            raise InvalidPayload("the wallet's answer is malformed") from None
        error = None if found.error is None else (found.error.code if _CODE.fullmatch(found.error.code) else "OTHER")
        return WalletResponse(request, found.result_type, error, found.result)

    def read_notification(self, event: Event) -> Transaction | None:
        """A payment that the wallet received; None for any other event or notification.

        Raises InvalidSignature, InvalidPayload.
        """
        kinds = {KIND_NOTIFICATION: Encryption.NIP44, KIND_NOTIFICATION_NIP04: Encryption.NIP04}
        if event.kind not in kinds or not self._is_for_us(event):
            return None
        verify_event(event)
        try:
            found = _notification.decode(self._decrypt(event.content, kinds[event.kind]))
        except _MISFORMED:
            raise InvalidPayload("the wallet's notification is malformed") from None
        return _transaction(found.notification) if found.notification_type == PAYMENT_RECEIVED else None

    def _is_for_us(self, event: Event) -> bool:
        return event.pubkey == self.wallet and tag_value(event, "p") == self.public_key

    def _encrypt(self, text: str, encryption: Encryption, nonce: bytes) -> str:
        if encryption is Encryption.NIP44:
            return nip44.encrypt(text, self._nip44, nonce)
        return nip04.encrypt(text, self._nip04, nonce[:16])

    def _decrypt(self, payload: str, encryption: Encryption) -> str:
        if encryption is Encryption.NIP44:
            return nip44.decrypt(payload, self._nip44)
        return nip04.decrypt(payload, self._nip04)


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in text.split()[:64] if _WORD.fullmatch(word))
