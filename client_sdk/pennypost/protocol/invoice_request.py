"""A message with its payment: the sender asks for an invoice, checks it, pays, and says so (wire contract, section 4).

    sender     kind 4412 {"msat", "expires", "about", "nonce"}  ──sealed──▶  receiver
    receiver   kind 4413 {"request", "invoice"}                 ──sealed──▶  sender
               a BOLT11 whose description_hash is the id of the request's rumor
    sender     check_invoice ─▶ pay ─▶ kind 14 with ["paid", request's id, preimage]  ──sealed──▶  receiver

Both kinds travel inside seals alone. The preimage proves that the invoice was paid, not by whom. Amounts are in msat.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Final, NamedTuple

import msgspec

from pennypost.protocol.bolt11 import Bolt11, parse_invoice
from pennypost.protocol.errors import (
    AmountTooHigh,
    InvalidInvoice,
    InvalidPayload,
    InvoiceMismatch,
    OfferExpired,
)
from pennypost.protocol.event import MAX_INTEGER, is_hex64
from pennypost.protocol.giftwrap import Rumor

KIND_REQUEST: Final = 4412
KIND_INVOICE: Final = 4413
TAG: Final = "paid"
MAX_ABOUT: Final = 500
"""Characters that a request may say of itself."""
MARGIN: Final = 60
"""Seconds that an invoice must still be good for when it is paid."""

_MAX_INVOICE: Final = 4_000


class InvoiceRequest(msgspec.Struct, frozen=True):
    """What an invoice is asked for: `msat` is what is offered, 0: the receiver's price. `expires` in Unix seconds.

    `nonce` is random: no two requests have the same id, or one invoice would answer both.
    """

    msat: Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
    expires: Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
    about: Annotated[str, msgspec.Meta(max_length=MAX_ABOUT)] = ""
    nonce: Annotated[str, msgspec.Meta(max_length=64)] = ""


class InvoiceAnswer(msgspec.Struct, frozen=True):
    """The invoice for a request, named by the id of its rumor (64 hex digits)."""

    request: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    invoice: Annotated[str, msgspec.Meta(max_length=_MAX_INVOICE)]


class Proof(NamedTuple):
    """What a message says of its payment: the request's id (64 hex digits) and the preimage (32 bytes).

    The preimage is empty in a letter that was held: who released it knew the preimage, and told the office.
    """

    request: str
    preimage: bytes


_request: Final = msgspec.json.Decoder(InvoiceRequest)
_answer: Final = msgspec.json.Decoder(InvoiceAnswer)


def encode_request(request: InvoiceRequest) -> str:
    """The content of a rumor of kind 4412."""
    return msgspec.json.encode(request).decode()


def encode_answer(answer: InvoiceAnswer) -> str:
    """The content of a rumor of kind 4413."""
    return msgspec.json.encode(answer).decode()


def read_request(rumor: Rumor) -> InvoiceRequest:
    """The request in a rumor of kind 4412. Raises InvalidPayload."""
    try:
        return _request.decode(rumor.content)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidPayload("it is no request for an invoice") from None


def read_answer(rumor: Rumor) -> InvoiceAnswer:
    """The invoice in a rumor of kind 4413; the invoice itself is not read. Raises InvalidPayload."""
    try:
        return _answer.decode(rumor.content)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidPayload("it is no invoice") from None


def check_invoice(
    invoice: str,
    *,
    request: bytes,
    author: bytes,
    receiver: bytes,
    msat: int,
    most_msat: int,
    now: int,
    network: str | None = None,
) -> Bolt11:
    """Everything that can be verified of an invoice before paying it, in this order; nothing is paid when it raises.

    `request` is the id of our request, `author` who sealed the invoice, `receiver` whom we asked, 32 bytes each; `msat`
    is what we offered (0: his price, up to `most_msat`). Raises InvoiceMismatch, AmountTooHigh, OfferExpired.
    """
    # 1. It comes from the one we asked.
    if author != receiver:
        raise InvoiceMismatch("it is sealed by another than the one asked")
    # 2. It is an invoice, signed by the node that it pays.
    try:
        found = parse_invoice(invoice)
    except InvalidInvoice as error:
        raise InvoiceMismatch(error.detail) from None
    # 3. It answers this request, and no other.
    if found.description_hash is None or not compare_digest(found.description_hash, request):
        raise InvoiceMismatch("it was made for something else")
    # 4. It asks for what we offered, and no more than we allow.
    if found.amount_msat is None or found.amount_msat <= 0 or (msat and found.amount_msat != msat):
        raise InvoiceMismatch("its amount is not the one agreed on")
    if found.amount_msat > most_msat:
        raise AmountTooHigh(f"the price is {-(-found.amount_msat // 1_000)} sat")
    if network is not None and found.network != network:
        raise InvoiceMismatch("it is of another network than your wallet")
    # 5. There is time.
    if found.expires_at < now + MARGIN:
        raise OfferExpired
    return found


def proof_tag(request: str, preimage: bytes = b"") -> list[str]:
    """The tag of a message that was paid for, or is held until it is; it goes inside the seal."""
    return [TAG, request, preimage.hex()] if preimage else [TAG, request]


def proof_of(rumor: Rumor) -> Proof | None:
    """What a message says of its payment; None without, or where it cannot be read."""
    for tag in rumor.tags:
        if tag[0] == TAG and len(tag) in (2, 3) and is_hex64(tag[1]) and (len(tag) == 2 or is_hex64(tag[2])):
            return Proof(tag[1], bytes.fromhex(tag[2]) if len(tag) == 3 else b"")
    return None


def proves_payment(proof: Proof, payment_hash: bytes) -> bool:
    """Whether the preimage is that of the payment hash (32 bytes) of the invoice that we had made for the request."""
    return compare_digest(sha256(proof.preimage).digest(), payment_hash)
