"""Invoices written here are read here; the specification's own example is in tests/mint/test_bolt11.py."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.secp import point

KEY = b"\7" * 32
HASH, SECRET = b"\1" * 32, b"\2" * 32


@settings(max_examples=50)
@given(msat=st.integers(1, 10**15), expiry=st.integers(1, 10**6), described=st.binary(min_size=32, max_size=32))
def test_amount_to_the_msat_and_description_hash(msat: int, expiry: int, described: bytes) -> None:
    found = parse_invoice(write_invoice(KEY, msat, HASH, SECRET, described, 1_700_000_000, expiry))
    assert (found.amount_msat, found.payment_hash, found.payment_secret) == (msat, HASH, SECRET)
    assert (found.description, found.description_hash) == (None, described)
    assert (found.created_at, found.expires_at) == (1_700_000_000, 1_700_000_000 + expiry)
    assert (found.network, found.payee) == ("bcrt", point(KEY))


def test_description() -> None:
    found = parse_invoice(write_invoice(KEY, 1, HASH, SECRET, "ünï", 1, 60))
    assert (found.amount_msat, found.description, found.description_hash) == (1, "ünï", None)
