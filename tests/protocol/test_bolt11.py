"""BOLT 11's own examples, valid and invalid, and whatever else is thrown at the reader."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import bech32
from pennypost.protocol.bolt11 import DEFAULT_EXPIRY, MAX_LENGTH, Bolt11, parse_invoice
from pennypost.protocol.errors import InvalidInvoice
from tests.protocol.vectors import load

VECTORS = load("bolt11.json")
VALID: dict[str, str] = dict(VECTORS["valid"])
INVALID: dict[str, str] = dict(VECTORS["invalid"])
# A reader that pays nothing does not judge features; who pays does (BOLT 11, Feature Bits).
UNKNOWN_FEATURE = "Same, but adding invalid unknown feature 100"
BITCOIN = 10**11
KEY = b"\x07" * 32


def titled(words: str) -> str:
    (found,) = [text for title, text in VALID.items() if words in title]
    return found


@pytest.mark.parametrize("title", VALID)
def test_published_examples(title: str) -> None:
    invoice = parse_invoice(VALID[title])
    if "high-S" not in title:
        assert invoice.payee.hex() == VECTORS["payee"]
    if "pico-BTC" not in title:
        assert invoice.payment_hash.hex() == VECTORS["payment_hash"]
        assert invoice.created_at == 1_496_314_658
    assert invoice.payment_secret == b"\x11" * 32
    assert (invoice.description is None) != (invoice.description_hash is None)


AMOUNTS: list[tuple[str, str, int | None, int]] = [
    ("donation of any amount", "bc", None, DEFAULT_EXPIRY),
    ("$3 for a cup", "bc", 250_000_000, 60),
    ("cup of nonsense", "bc", 250_000_000, 60),
    ("entire list of things", "bc", 2_000_000_000, DEFAULT_EXPIRY),
    ("on testnet", "tb", 2_000_000_000, DEFAULT_EXPIRY),
    ("within one week", "bc", 967_878_534, 604_800),
    ("all upper case", "bc", 2_500_000_000, DEFAULT_EXPIRY),
]


@pytest.mark.parametrize(("words", "network", "msat", "expiry"), AMOUNTS)
def test_amount_network_and_expiry(words: str, network: str, msat: int | None, expiry: int) -> None:
    invoice = parse_invoice(titled(words))
    assert (invoice.network, invoice.amount_msat) == (network, msat)
    assert invoice.expires_at - invoice.created_at == expiry


def test_descriptions_and_features() -> None:
    assert parse_invoice(titled("cup of nonsense")).description == "ナンセンス 1杯"
    cake = "One piece of chocolate cake, one icecream cone, one pickle, one slice of swiss cheese, one slice of "
    cake += "salami, one lollypop, one piece of cherry pie, one sausage, one cupcake, and one slice of watermelon"
    assert parse_invoice(titled("entire list of things")).description_hash == sha256(cake.encode()).digest()
    assert parse_invoice(titled("8, 14 and 99, using")).features == 1 << 8 | 1 << 14 | 1 << 99
    assert parse_invoice(INVALID[UNKNOWN_FEATURE]).features >> 100 & 1


@pytest.mark.parametrize("title", sorted(set(INVALID) - {UNKNOWN_FEATURE}))
def test_published_invalid_examples(title: str) -> None:
    with pytest.raises(InvalidInvoice):
        parse_invoice(INVALID[title])


def test_links_and_spaces_are_passed_over() -> None:
    text = titled("$3 for a cup")
    assert parse_invoice(f" lightning:{text}\n") == parse_invoice(text)


def signed(prefix: str, groups: list[int], key: bytes = KEY) -> str:
    message = prefix.encode() + bytes(bech32.regroup(groups, 5, 8))
    signature = PrivateKey(key).sign_recoverable(sha256(message).digest(), hasher=None)
    return bech32.encode(prefix, groups + bech32.regroup(signature, 8, 5))


def field(kind: str, data: bytes | list[int]) -> list[int]:
    groups = bech32.regroup(data, 8, 5) if isinstance(data, bytes) else data
    return [bech32.ALPHABET.index(kind), len(groups) >> 5, len(groups) & 31, *groups]


TIME = [0] * 6 + [1]
FIELDS = field("p", bytes(32)) + field("s", bytes(32)) + field("d", b"x")
PREFIX = "lnbcrt10n"


def test_what_is_made_here_is_read() -> None:
    invoice = parse_invoice(signed(PREFIX, TIME + FIELDS))
    payee = PrivateKey(KEY).public_key.format()
    assert invoice == Bolt11("bcrt", 1_000, 1, 1 + DEFAULT_EXPIRY, bytes(32), bytes(32), payee, "x", None, 0)
    named = signed(PREFIX, TIME + FIELDS + field("n", payee))
    assert parse_invoice(named).payee == payee


BAD: list[tuple[str, str, list[int]]] = [
    ("no field", PREFIX, TIME),
    ("no time", PREFIX, []),
    ("no hash", PREFIX, TIME + field("s", bytes(32)) + field("d", b"")),
    ("no secret", PREFIX, TIME + field("p", bytes(32)) + field("d", b"")),
    ("no description", PREFIX, TIME + field("p", bytes(32)) + field("s", bytes(32))),
    ("two descriptions", PREFIX, TIME + FIELDS + field("h", bytes(32))),
    ("a description that is no text", PREFIX, TIME + FIELDS[:-5] + field("d", b"\xff")),
    ("a hash of the wrong length", PREFIX, TIME + field("p", bytes(31)) + FIELDS[55:]),
    ("a field that is cut off", PREFIX, TIME + FIELDS + [1, 31, 31, 0]),
    ("a field without its length", PREFIX, TIME + FIELDS + [1]),
    ("another key named", PREFIX, TIME + FIELDS + field("n", b"\x02" + bytes(32))),
    ("an expiry past all time", PREFIX, TIME + FIELDS + field("x", [1] + [0] * 30)),
    ("amount zero", "lnbcrt0n", TIME + FIELDS),
    ("amount with a leading zero", "lnbcrt010n", TIME + FIELDS),
    ("a part of a millisatoshi", "lnbcrt15p", TIME + FIELDS),
    ("a multiplier without an amount", "lnbcrtn2", TIME + FIELDS),
    ("no network", "ln10n", TIME + FIELDS),
    ("an unknown network", "lnxy10n", TIME + FIELDS),
    ("another beginning", "xnbc10n", TIME + FIELDS),
    ("an endless amount", "lnbc" + "9" * 30, TIME + FIELDS),
]


@pytest.mark.parametrize(("prefix", "groups"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_refused(prefix: str, groups: list[int]) -> None:
    with pytest.raises(InvalidInvoice):
        parse_invoice(signed(prefix, groups))


def test_every_changed_character_is_noticed() -> None:
    text = titled("$3 for a cup")
    for place in range(0, len(text), 7):
        other = "q" if text[place] != "q" else "p"
        with pytest.raises(InvalidInvoice):
            parse_invoice(text[:place] + other + text[place + 1 :])


def test_a_long_text_is_refused_unread() -> None:
    with pytest.raises(InvalidInvoice):
        parse_invoice("lnbc1" + "q" * MAX_LENGTH)


@settings(max_examples=200)
@given(st.text(max_size=200) | st.text(alphabet=bech32.ALPHABET + "1", max_size=400).map(lambda text: "lnbc1" + text))
def test_whatever_is_sent_is_refused_by_its_own_error(text: str) -> None:
    with pytest.raises(InvalidInvoice):
        parse_invoice(text)


@settings(max_examples=100)
@given(groups=st.lists(st.integers(0, 31), max_size=300), prefix=st.from_regex(re.compile(r"\Aln[a-z0-9]{1,12}\Z")))
def test_fields_of_any_kind_never_raise_anything_else(groups: list[int], prefix: str) -> None:
    try:
        found: Any = parse_invoice(signed(prefix, TIME + FIELDS + groups))
    except InvalidInvoice:
        return
    assert found.payment_hash == bytes(32)
