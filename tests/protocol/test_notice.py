"""Lightning notices: sizes, who wrote them, what a stranger can send, and the letter they announce."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidInput, InvalidNotice
from pennypost.protocol.giftwrap import RANDOMNESS, make_rumor
from pennypost.protocol.headers import header_of
from pennypost.protocol.notice import (
    BLASTR,
    MAX_NOTICE,
    SHORTEST,
    confirms,
    find_notice,
    new_notice,
    read_notice,
)
from pennypost.protocol.stealth import Address, Scanner, open_letter, wrap_letter

ALICE, BOB, MALLORY = (bytes([n]) * 32 for n in (1, 2, 3))
NOW = 1_800_000_000


def made(**changed: Any) -> Any:
    given: dict[str, Any] = {"expiry": NOW, "sender_secret": ALICE, "aux": secrets.token_bytes(32)}
    return new_notice(secp.xonly(BOB), secrets.token_bytes(32), **given | changed)


@pytest.mark.parametrize(
    ("changed", "length"),
    [
        ({"sender_secret": None}, SHORTEST),
        ({"where": "relay-of-24-chars.exampl"}, 235),
        ({"where": "x" * 39}, MAX_NOTICE),
        ({}, 203),
    ],
)
def test_sizes_of_the_wire_contract(changed: dict[str, Any], length: int) -> None:
    assert len(made(**changed).text) == length


@pytest.mark.parametrize("where", ["", BLASTR, "relay.example", "a.example b.example"])
@pytest.mark.parametrize("signed", [True, False])
def test_what_the_receiver_reads(where: str, signed: bool) -> None:
    new = made(where=where, sender_secret=ALICE if signed else None)
    notice = read_notice(new.text, BOB)
    assert (notice.expiry, notice.where) == (NOW, where)
    assert notice.sender == (secp.xonly(ALICE) if signed else None)
    assert notice.author == secp.xonly(new.author_secret)


def test_the_letter_it_announces() -> None:
    new = made()
    notice, bob = read_notice(new.text, BOB), secp.xonly(BOB)
    rumor = make_rumor(secp.xonly(ALICE), created_at=NOW, content="hello", tags=[new.tag])
    event = wrap_letter(
        rumor,
        ALICE,
        Address(bob, bob),
        new.author_secret,
        created_at=NOW,
        expiration=NOW + 60,
        randomness=bytes(RANDOMNESS),
    )
    assert bytes.fromhex(event.pubkey) == notice.author
    sender, opened = open_letter(event, BOB, BOB)
    assert confirms(notice, sender, opened)
    header = header_of(event, 1)
    assert header is not None and Scanner(BOB, bob).scan([header]), "found by scanning too"
    assert not confirms(read_notice(made().text, BOB), sender, opened), "the tag of another notice"
    assert not confirms(notice, secp.xonly(MALLORY), opened), "another sender than the one named"
    for tags in ([], [["notice"]], [["notice", "00" * 64]], [["notice", "zz"]], [["notice", new.tag[1].upper()]]):
        assert not confirms(notice, sender, make_rumor(sender, created_at=NOW, content="hello", tags=tags))


def test_only_the_receiver_reads_it() -> None:
    new = made()
    with pytest.raises(InvalidNotice):
        read_notice(new.text, MALLORY)
    assert secp.xonly(ALICE).hex() not in urlsafe_b64decode(new.text[4:] + "==").hex()


def test_a_forged_identity() -> None:
    """Mallory names Alice; and takes Alice's signature out of a notice to him into one of his to Bob."""
    from pennypost.protocol import notice as module

    ephemeral = secrets.token_bytes(32)
    shared = secp.ecdh_x(ephemeral, secp.xonly(BOB))
    head = b"\1" + NOW.to_bytes(4, "big")
    old = new_notice(secp.xonly(MALLORY), b"\7" * 32, expiry=NOW, sender_secret=ALICE, aux=bytes(32))
    stolen = read_notice(old.text, MALLORY).plain[5:]
    for identity in (secp.xonly(ALICE) + bytes(64), stolen):
        key = module._key(shared, secp.xonly(ephemeral))
        sealed = module.ChaCha20Poly1305(key).encrypt(bytes(12), head + identity, b"ppn1" + secp.xonly(ephemeral))
        text = "ppn1" + urlsafe_b64encode(secp.xonly(ephemeral) + sealed).decode().rstrip("=")
        with pytest.raises(InvalidNotice):
            read_notice(text, BOB)


@pytest.mark.parametrize(
    "changed",
    [
        {"where": "x" * 40},
        {"where": "two  spaces"},
        {"where": "ünï"},
        {"where": "\n"},
        {"expiry": 0},
        {"expiry": 2**32},
    ],
)
def test_notices_that_cannot_be_made(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        made(**changed)


def test_found_in_a_comment() -> None:
    text = made().text
    for comment in (text, f"hello {text} bye", f"\n{text}\n", f"({text})"):
        assert find_notice(comment) == text
    for comment in ("", "ppn1", "ppn1" + "A" * 60, "ppn1" + "A" * 400, "x" * 10_000 + text):
        assert find_notice(comment) is None


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_bytes_of_strangers(data: bytes) -> None:
    with pytest.raises(InvalidNotice):
        read_notice("ppn1" + urlsafe_b64encode(data).decode().rstrip("="), BOB)


@settings(max_examples=60)
@given(text=st.text(max_size=300))
def test_texts_of_strangers(text: str) -> None:
    find_notice(text)
    for tried in (text, "ppn1" + text):
        with pytest.raises(InvalidNotice):
            read_notice(tried, BOB)


SAMPLE = made(where="relay.example").text


@settings(max_examples=100)
@given(place=st.integers(4, len(SAMPLE) - 1), char=st.sampled_from("ABCDEFGHabcdefgh0123456789-_"))
def test_no_character_can_be_changed(place: int, char: str) -> None:
    changed = SAMPLE[:place] + char + SAMPLE[place + 1 :]
    if changed != SAMPLE:
        with pytest.raises(InvalidNotice):
            read_notice(changed, BOB)


@settings(max_examples=60)
@given(rest=st.binary(max_size=140), version=st.integers(0, 255))
def test_what_a_writer_can_seal(rest: bytes, version: int) -> None:
    """Sealed correctly to Bob, with any content: read in bounds, or refused."""
    from pennypost.protocol import notice as module

    ephemeral = b"\x09" * 32
    shared = secp.ecdh_x(ephemeral, secp.xonly(BOB))
    key = module._key(shared, secp.xonly(ephemeral))
    plain = bytes((version,)) + NOW.to_bytes(4, "big") + rest
    sealed = module.ChaCha20Poly1305(key).encrypt(bytes(12), plain, b"ppn1" + secp.xonly(ephemeral))
    try:
        found = read_notice("ppn1" + urlsafe_b64encode(secp.xonly(ephemeral) + sealed).decode().rstrip("="), BOB)
    except InvalidNotice:
        return
    assert version == 1 and found.sender is None and len(found.where) <= 39 and found.where.isascii()
