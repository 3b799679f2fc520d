"""Offers: what is checked before paying, what the payment opens, and what proves garbage."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import secp
from pennypost.protocol.bolt11 import Bolt11
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import (
    AmountTooHigh,
    GarbageProof,
    InvalidOffer,
    InvoiceMismatch,
    LetterTooLarge,
    OfferExpired,
    PennypostError,
)
from pennypost.protocol.offer import (
    MARGIN,
    MAX_TEXT,
    Offer,
    check_offer,
    encode_offer,
    judge,
    make_offer,
    open_text,
    parse_offer,
    seal_text,
)

NOW = 1_800_000_000
SELLER, BUYER, EPHEMERAL, NODE, OTHER = (bytes([n]) * 32 for n in (1, 2, 3, 4, 5))
K, BLIND = b"\6" * 32, b"\7" * 32
H = sha256(K).digest()
MSAT = 21_000


def invoice(*, msat: int = MSAT, payment_hash: bytes = H, expiry: int = 3_600, **options: Any) -> str:
    return write_invoice(NODE, msat, payment_hash, b"\1" * 32, "", NOW, expiry, **options)


def made(text: str = "the report", *, key: bytes = K, signer: bytes = SELLER, **changed: Any) -> tuple[Offer, bytes]:
    sealed = seal_text(text, key, EPHEMERAL, secp.xonly(BUYER), BLIND)
    given: dict[str, Any] = {
        "letter": b"\x08" * 32,
        "msat": MSAT,
        "expires_at": NOW + 3_600,
        "description": "a report on cats",
        "invoice": invoice(),
        "aux": bytes(32),
    }
    return make_offer(sealed, signer, **given | changed), sealed.ciphertext


def signed(offer: Offer, **changed: Any) -> Offer:
    """The offer as its seller would sign it after a change: what a dishonest seller can make."""
    other = replace(offer, **changed)
    return replace(other, signature=secp.schnorr_sign(SELLER, other.id, bytes(32)))


def check(offer: Offer, ciphertext: bytes, **changed: Any) -> bytes:
    given: dict[str, Any] = {"seller": secp.xonly(SELLER), "most_msat": MSAT, "now": NOW}
    return check_offer(offer, ciphertext, BUYER, **given | changed)[1]


def test_paying_opens_the_text() -> None:
    offer, ciphertext = made("ünï ✉ report")
    read = parse_offer(f" {encode_offer(offer)}\n")
    assert read == offer and read.id == offer.id
    invoice, shared = check_offer(read, ciphertext, BUYER, seller=secp.xonly(SELLER), most_msat=MSAT, now=NOW)
    assert isinstance(invoice, Bolt11) and invoice.payment_hash == H
    assert open_text(read, ciphertext, shared, K) == "ünï ✉ report"


def test_the_payment_alone_opens_nothing() -> None:
    """Every hop of the route learns K: without Z it is not the key, and Z is not in the offer."""
    offer, ciphertext = made()
    for shared in (bytes(32), offer.commitment, offer.ephemeral, secp.tagged_hash("paid", OTHER, offer.ephemeral, H)):
        with pytest.raises(GarbageProof):
            open_text(offer, ciphertext, shared, K)


def test_several_buyers_of_one_text_have_different_keys() -> None:
    first, second = (seal_text("same", bytes([n]) * 32, bytes([n + 9]) * 32, secp.xonly(BUYER), BLIND) for n in (1, 2))
    assert first.ciphertext != second.ciphertext and first.key_hash != second.key_hash


Case = tuple[str, Callable[[], tuple[Offer, bytes]], dict[str, Any], type[PennypostError]]


def _changed(**changed: Any) -> Callable[[], tuple[Offer, bytes]]:
    return lambda: ((found := made())[0] and signed(found[0], **changed), found[1])


def _garbage_commitment() -> tuple[Offer, bytes]:
    offer, ciphertext = made()
    return signed(offer, commitment=secp.tagged_hash("zc", bytes(32))), ciphertext


MATRIX: tuple[Case, ...] = (
    ("wrong hash", lambda: made(invoice=invoice(payment_hash=b"\1" * 32)), {}, InvoiceMismatch),
    ("amount above the price", lambda: made(invoice=invoice(msat=MSAT + 1)), {}, InvoiceMismatch),
    ("amount below the price", lambda: made(invoice=invoice(msat=MSAT - 1)), {}, InvoiceMismatch),
    ("no invoice", lambda: made(invoice="lnbcrt1"), {}, InvoiceMismatch),
    ("invoice with a broken signature", lambda: made(invoice=invoice()[:-8] + "qqqqqqqq"), {}, InvoiceMismatch),
    ("dearer than allowed", made, {"most_msat": MSAT - 1}, AmountTooHigh),
    ("another network", made, {"network": "bc"}, InvoiceMismatch),
    ("invoice expired", lambda: made(invoice=invoice(expiry=MARGIN - 1)), {}, OfferExpired),
    ("offer expired", lambda: made(expires_at=NOW + MARGIN - 1), {}, OfferExpired),
    ("other author", made, {"seller": secp.xonly(OTHER)}, InvalidOffer),
    ("signed by another", lambda: made(signer=OTHER), {}, InvalidOffer),
    ("invoice swapped by somebody on the way", lambda: _tampered(invoice=invoice(payment_hash=H)), {}, InvalidOffer),
    ("price changed by somebody on the way", lambda: _tampered(msat=MSAT - 1), {}, InvalidOffer),
    ("short ciphertext", lambda: (made()[0], made()[1][:40]), {}, InvalidOffer),
    ("no ciphertext", lambda: (made()[0], b""), {}, InvalidOffer),
    ("long ciphertext", lambda: (made()[0], bytes(MAX_TEXT + 100)), {}, InvalidOffer),
    ("garbage ciphertext", lambda: (made()[0], bytes(100)), {}, InvalidOffer),
    ("ciphertext of another offer", lambda: (made()[0], made("another text")[1]), {}, InvalidOffer),
    ("wrong Z", _garbage_commitment, {}, InvalidOffer),
    ("made for another buyer", _changed(ephemeral=secp.xonly(OTHER)), {}, InvalidOffer),
    ("ephemeral key off the curve", _changed(ephemeral=b"\xff" * 32), {}, InvalidOffer),
    ("key hash of another key", _changed(key_hash=b"\1" * 32), {}, InvalidOffer),
    ("office must be trusted", _changed(drop=b"\x09" * 32), {}, InvalidOffer),
)


def _tampered(**changed: Any) -> tuple[Offer, bytes]:
    """Changed after it was signed; an invoice of another node over the same hash and amount."""
    offer, ciphertext = made()
    if "invoice" in changed:
        changed["invoice"] = write_invoice(OTHER, MSAT, H, b"\1" * 32, "", NOW, 3_600)
    return replace(offer, **changed), ciphertext


@pytest.mark.parametrize(("make", "options", "error"), [case[1:] for case in MATRIX], ids=[case[0] for case in MATRIX])
def test_nothing_that_does_not_verify_is_to_be_paid(
    make: Callable[[], tuple[Offer, bytes]], options: dict[str, Any], error: type[PennypostError]
) -> None:
    offer, ciphertext = make()
    with pytest.raises(error):
        check(offer, ciphertext, **options)


def test_the_office_is_trusted_only_when_it_is_said() -> None:
    offer, ciphertext = _changed(drop=b"\x09" * 32, invoice=invoice(payment_hash=b"\1" * 32))()
    with pytest.raises(InvalidOffer):
        check(offer, ciphertext)
    assert check(offer, ciphertext, trust_office=True)
    assert parse_offer(encode_offer(offer)).trusts_office


def _garbage(kind: str) -> tuple[Offer, bytes]:
    """What a dishonest seller can sign so that it passes every check: only the payment shows it."""
    offer, ciphertext = made()
    if kind == "does not open":
        ciphertext = bytes(len(ciphertext))
        return signed(offer, ciphertext_hash=sha256(ciphertext).digest()), ciphertext
    if kind == "another text":
        return signed(offer, text_hash=sha256(BLIND + b"the real report").digest()), ciphertext
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    from pennypost.protocol.offer import _content_key

    plain = BLIND + b"\xff\xfe"
    ciphertext = ChaCha20Poly1305(_content_key(K, check(*made()))).encrypt(bytes(12), plain, H)
    changed = {"ciphertext_hash": sha256(ciphertext).digest(), "text_hash": sha256(plain).digest()}
    return signed(offer, **changed), ciphertext


@pytest.mark.parametrize("kind", ["does not open", "another text", "not text"])
def test_garbage_is_proved_to_anyone(kind: str) -> None:
    offer, ciphertext = _garbage(kind)
    shared = check(offer, ciphertext)
    with pytest.raises(GarbageProof) as found:
        open_text(offer, ciphertext, shared, K)
    evidence = found.value.evidence
    assert judge(evidence) == offer
    assert secp.xonly(BUYER).hex() not in urlsafe_b64decode(evidence[4:] + "==").hex(), "the buyer is not named"
    for place in range(8, len(evidence) - 1, 97):
        broken = evidence[:place] + ("A" if evidence[place] != "A" else "B") + evidence[place + 1 :]
        with pytest.raises(InvalidOffer):
            judge(broken)


def test_an_honest_seller_cannot_be_accused() -> None:
    from pennypost.protocol.offer import _evidence

    offer, ciphertext = made()
    shared = check(offer, ciphertext)
    for forged in (
        _evidence(offer, ciphertext, shared, K),
        _evidence(offer, ciphertext, bytes(32), K),
        _evidence(offer, ciphertext, shared, bytes(32)),
        _evidence(offer, bytes(100), shared, K),
        _evidence(replace(offer, text_hash=bytes(32)), ciphertext, shared, K),
    ):
        with pytest.raises(InvalidOffer):
            judge(forged)


def test_another_key_is_not_an_accusation() -> None:
    offer, ciphertext = made()
    with pytest.raises(InvalidOffer):
        open_text(offer, ciphertext, check(offer, ciphertext), bytes(32))


@pytest.mark.parametrize(
    ("text", "error"), [("", InvalidOffer), ("\ud800", InvalidOffer), ("x" * (MAX_TEXT + 1), LetterTooLarge)]
)
def test_texts_that_cannot_be_sold(text: str, error: type[PennypostError]) -> None:
    with pytest.raises(error):
        made(text)


@pytest.mark.parametrize(
    "changed",
    [
        {"msat": 0},
        {"msat": -1},
        {"msat": 2**63},
        {"expires_at": 0},
        {"description": "x" * 501},
        {"invoice": "x" * 2_001},
        {"description": "\ud800"},
    ],
)
def test_offers_that_cannot_be_made(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidOffer):
        made(**changed)


@settings(max_examples=60)
@given(data=st.binary(max_size=600))
def test_bytes_of_strangers(data: bytes) -> None:
    for prefix, read in (("ppo1", parse_offer), ("ppg1", judge)):
        with pytest.raises(InvalidOffer):
            read(prefix + urlsafe_b64encode(data).decode().rstrip("="))


@settings(max_examples=60)
@given(text=st.text(max_size=200))
def test_texts_of_strangers(text: str) -> None:
    for read in (parse_offer, judge):
        for tried in (text, "ppo1" + text, "ppg1" + text):
            with pytest.raises(InvalidOffer):
                read(tried)


@settings(max_examples=100)
@given(st.data())
def test_no_bit_of_an_offer_can_be_changed(data: st.DataObject) -> None:
    offer = OFFER
    raw = bytearray(urlsafe_b64decode(encode_offer(offer)[4:] + "=="))
    place = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[place // 8] ^= 1 << place % 8
    with pytest.raises(InvalidOffer):
        parse_offer("ppo1" + urlsafe_b64encode(bytes(raw)).decode().rstrip("="))


OFFER = made()[0]


def test_vector() -> None:
    """Held fixed: another implementation can be written against it."""
    offer, ciphertext = made("meet at nine")
    assert offer.id.hex() == sha256_tagged("offer", urlsafe_b64decode(encode_offer(offer)[4:] + "==")[:-64])
    assert len(ciphertext) == 32 + len("meet at nine") + 16


def sha256_tagged(name: str, data: bytes) -> str:
    tag = sha256(f"pennypost/{name}/v1".encode()).digest()
    return sha256(tag + tag + data).hexdigest()
