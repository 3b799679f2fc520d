"""A message with its payment: what is checked of an invoice before it is paid, and of a proof after."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json, structs

from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import (
    AmountTooHigh,
    InvalidPayload,
    InvoiceMismatch,
    OfferExpired,
    PennypostError,
)
from pennypost.protocol.giftwrap import make_rumor
from pennypost.protocol.invoice_request import (
    MARGIN,
    InvoiceAnswer,
    InvoiceRequest,
    Proof,
    check_invoice,
    encode_answer,
    encode_request,
    proof_of,
    proof_tag,
    proves_payment,
    read_answer,
    read_request,
)

NOW = 1_800_000_000
NODE, HASH = b"\4" * 32, sha256(b"\6" * 32).digest()
ASKED, RECEIVER, OTHER = b"\1" * 32, b"\2" * 32, b"\3" * 32
MSAT = 21_000


def invoice(*, msat: int = MSAT, described: bytes | str = ASKED, expiry: int = 3_600, network: str = "bcrt") -> str:
    return write_invoice(NODE, msat, HASH, b"\1" * 32, described, NOW, expiry, network)


def check(text: str, **changed: Any) -> Any:
    given: dict[str, Any] = {
        "request": ASKED,
        "author": RECEIVER,
        "receiver": RECEIVER,
        "msat": MSAT,
        "most_msat": MSAT,
        "now": NOW,
    }
    return check_invoice(text, **given | changed)


def test_what_was_agreed_on_is_to_be_paid() -> None:
    assert check(invoice(), network="bcrt").payment_hash == HASH
    assert check(invoice(msat=9_000), msat=0).amount_msat == 9_000, "the receiver's price"


MATRIX: dict[str, tuple[str, dict[str, Any], type[PennypostError]]] = {
    "payee": (invoice(), {"author": OTHER}, InvoiceMismatch),
    "invoice of another request": (invoice(described=OTHER), {}, InvoiceMismatch),
    "invoice with words": (invoice(described="tea"), {}, InvoiceMismatch),
    "amount above": (invoice(msat=MSAT + 1), {"most_msat": 10**9}, InvoiceMismatch),
    "amount below": (invoice(msat=MSAT - 1), {}, InvoiceMismatch),
    "dearer than allowed": (invoice(), {"msat": 0, "most_msat": MSAT - 1}, AmountTooHigh),
    "expired": (invoice(expiry=MARGIN - 1), {}, OfferExpired),
    "another network": (invoice(network="bc"), {"network": "bcrt"}, InvoiceMismatch),
    "garbage": ("lnbcrt1garbage", {}, InvoiceMismatch),
    "empty": ("", {}, InvoiceMismatch),
    "broken signature": (invoice()[:-8] + "qqqqqqqq", {}, InvoiceMismatch),
    "of a stranger, whatever it says": ("", {"author": OTHER}, InvoiceMismatch),
}


@pytest.mark.parametrize(("text", "options", "error"), MATRIX.values(), ids=MATRIX.keys())
def test_nothing_that_does_not_verify_is_to_be_paid(
    text: str, options: dict[str, Any], error: type[PennypostError]
) -> None:
    with pytest.raises(error):
        check(text, **options)


def test_round_trip() -> None:
    request, answer = InvoiceRequest(MSAT, NOW, "a question"), InvoiceAnswer("ab" * 32, invoice())
    assert read_request(make_rumor(ASKED, created_at=1, content=encode_request(request))) == request
    assert read_answer(make_rumor(ASKED, created_at=1, content=encode_answer(answer))) == answer


def test_the_proof_of_a_message() -> None:
    preimage = b"\6" * 32
    rumor = make_rumor(ASKED, created_at=1, content="hi", tags=[["p", "x"], proof_tag("ab" * 32, preimage)])
    assert proof_of(rumor) == Proof("ab" * 32, preimage)
    assert proves_payment(Proof("ab" * 32, preimage), HASH)
    assert not proves_payment(Proof("ab" * 32, bytes(32)), HASH)
    held = make_rumor(ASKED, created_at=1, content="hi", tags=[proof_tag("ab" * 32)])
    assert proof_of(held) == Proof("ab" * 32, b"")


@pytest.mark.parametrize(
    "tag",
    [
        ["paid"],
        ["paid", "ab"],
        ["paid", "ab" * 32, ""],
        ["paid", "ab" * 32, "AB" * 32],
        ["paid", "x", "ab" * 32],
        ["paid", "", "", ""],
    ],
)
def test_proofs_that_are_none(tag: list[str]) -> None:
    assert proof_of(make_rumor(ASKED, created_at=1, content="hi", tags=[tag])) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["msat", "expires", "x"]), inner),
    max_leaves=8,
)


@settings(max_examples=60)
@given(value=JSON)
def test_requests_of_strangers(value: Any) -> None:
    rumor = make_rumor(ASKED, created_at=1, content=json.encode(value).decode())
    for read in (read_request, read_answer):
        try:
            read(rumor)
        except InvalidPayload:
            continue


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"msat":1}',
        '{"msat":-1,"expires":1}',
        '{"msat":1.5,"expires":1}',
        '{"msat":true,"expires":1}',
        '{"msat":9007199254740992,"expires":1}',
        json.encode({"msat": 1, "expires": 1, "about": "x" * 501}).decode(),
    ],
)
def test_requests_that_are_none(content: str) -> None:
    rumor = make_rumor(ASKED, created_at=1, content="")
    with pytest.raises(InvalidPayload):
        read_request(structs.replace(rumor, content=content))
