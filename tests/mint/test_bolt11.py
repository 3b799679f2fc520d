"""Invoices of the play-money node: BOLT 11's own example, and properties."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.mint_client import bolt11_msat
from pennypost_mint.lightning.bolt11 import MAX_MEMO, encode_invoice

# BOLT 11, Examples: "Please send $3 for a cup of coffee to the same peer, within one minute".
KEY = bytes.fromhex("e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734")
HASH = bytes.fromhex("0001020304050607080900010203040506070809000102030405060708090102")
COFFEE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqq"
    "syqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut"
    "353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)


def test_the_specifications_example() -> None:
    made = encode_invoice(KEY, 250_000, HASH, b"\x11" * 32, "1 cup coffee", 1_496_314_658, 60, "bc")
    assert made == COFFEE


def test_no_real_wallet_can_pay_it() -> None:
    made = encode_invoice(KEY, 1, HASH, b"\x11" * 32, "", 1_496_314_658, 60)
    assert made.startswith("lnbcrt10n1")


@pytest.mark.parametrize(
    ("amount", "prefix"),
    [(1, "lnbcrt10n1"), (99, "lnbcrt990n1"), (100, "lnbcrt1u1"), (100_000, "lnbcrt1m1"), (100_000_000, "lnbcrt11")],
)
def test_amounts_are_written_short(amount: int, prefix: str) -> None:
    assert encode_invoice(KEY, amount, HASH, b"\x11" * 32, "", 1, 60).startswith(prefix)


@settings(max_examples=50)
@given(amount=st.integers(1, 10_000_000), memo=st.text(max_size=300), expiry=st.integers(1, 604_800))
def test_a_wallet_reads_the_amount_that_was_asked(amount: int, memo: str, expiry: int) -> None:
    memo = memo.encode(errors="ignore").decode()
    made = encode_invoice(KEY, amount, HASH, b"\x11" * 32, memo, 1_700_000_000, expiry)
    assert bolt11_msat(made) == amount * 1_000


def test_a_long_memo_is_cut_between_characters() -> None:
    made = encode_invoice(KEY, 1, HASH, b"\x11" * 32, "€" * MAX_MEMO, 1, 60)
    shorter = encode_invoice(KEY, 1, HASH, b"\x11" * 32, "€" * (MAX_MEMO // 3), 1, 60)
    assert made == shorter
