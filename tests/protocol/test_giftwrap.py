"""Gift wraps against the NIPs' examples and nostr-sdk, and every way to pretend to be somebody."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import nip19, nip44, secp
from pennypost.protocol.errors import InvalidEvent, InvalidInput, InvalidPayload, InvalidSignature
from pennypost.protocol.event import Event, compute_id, event_json, parse_event, sign_event, verify_event
from pennypost.protocol.giftwrap import Rumor, make_rumor, open_seal, seal, unwrap, wrap
from tests.protocol.vectors import load

VECTORS: Any = load("nip59.json")

ALICE, BOB, CAROL, ONCE = (bytes([number]) * 32 for number in (1, 2, 3, 4))
NOISE = bytes(range(64))


def sealed_by(secret: bytes, plaintext: str, *, kind: int = 13, to: bytes = BOB) -> Event:
    """A seal around any text."""
    content = nip44.encrypt(plaintext, nip44.conversation_key(secret, secp.xonly(to)), bytes(32))
    return sign_event(secret, created_at=5, kind=kind, tags=[], content=content, aux=bytes(32))


def wrapped(plaintext: str, *, kind: int = 1059, to: bytes = BOB) -> Event:
    """A wrap around any text."""
    return sealed_by(ONCE, plaintext, kind=kind, to=to)


def letter(content: str = "hello", **fields: Any) -> Rumor:
    return make_rumor(secp.xonly(ALICE), created_at=1_700_000_000, content=content, **fields)


def test_example_of_nip59() -> None:
    example = VECTORS["nip59"]
    sender, rumor = unwrap(parse_event(example["wrap"]), bytes.fromhex(example["recipient_secret"]))
    assert sender == secp.xonly(bytes.fromhex(example["author_secret"]))
    assert msgspec.to_builtins(rumor) == example["rumor"]
    text = json.dumps(example["seal"])
    assert open_seal(text, bytes.fromhex(example["recipient_secret"])) == (sender, rumor)


@pytest.mark.parametrize(("name", "reader"), [("to_receiver", "receiver_nsec"), ("to_sender", "sender_nsec")])
def test_examples_of_nip17(name: str, reader: str) -> None:
    example = VECTORS["nip17"]
    sender, rumor = unwrap(parse_event(example[name]), nip19.decode_nsec(example[reader]))
    assert sender == secp.xonly(nip19.decode_nsec(example["sender_nsec"]))
    assert (rumor.kind, rumor.content) == (14, example["message"])


@pytest.mark.parametrize("pad_to", [0, 1_024])
def test_round_trip(pad_to: int) -> None:
    rumor = letter("Grüße 😀", tags=[["p", secp.xonly(BOB).hex()]])
    inner = seal(rumor, ALICE, secp.xonly(BOB), created_at=7, randomness=NOISE, pad_to=pad_to)
    outer = wrap(inner, ONCE, secp.xonly(BOB), created_at=8, randomness=NOISE, tags=[["expiration", "9"]])
    verify_event(inner)
    verify_event(outer)
    assert (inner.kind, inner.tags, inner.created_at) == (13, [], 7)
    assert (outer.kind, outer.pubkey, outer.created_at) == (1059, secp.xonly(ONCE).hex(), 8)
    assert outer.tags == [["p", secp.xonly(BOB).hex()], ["expiration", "9"]]
    assert unwrap(outer, BOB) == (secp.xonly(ALICE), rumor)
    for other in (ALICE, CAROL, ONCE):
        with pytest.raises(InvalidPayload):
            unwrap(outer, other) if other != ONCE else open_seal(event_json(inner).decode(), other)


def rumor_json(**changes: Any) -> str:
    return json.dumps(msgspec.to_builtins(letter()) | changes)


GOOD_SEAL = event_json(sealed_by(ALICE, rumor_json())).decode()


@pytest.mark.parametrize(
    "plaintext",
    [
        pytest.param("x", id="no JSON"),
        pytest.param("null", id="null"),
        pytest.param("[" * 50_000, id="50,000 brackets"),
        pytest.param("{}", id="an empty object"),
        pytest.param(rumor_json(), id="a rumor without seal"),
        pytest.param(event_json(sealed_by(ALICE, rumor_json(), kind=1)).decode(), id="a seal of kind 1"),
        pytest.param(GOOD_SEAL.replace('"sig":"', '"sig":"00')[:-4] + '"}', id="a broken signature"),
        pytest.param(
            GOOD_SEAL.replace(secp.xonly(ALICE).hex(), secp.xonly(CAROL).hex()), id="another author on the seal"
        ),
        pytest.param(event_json(sealed_by(CAROL, rumor_json())).decode(), id="the rumor of somebody else"),
        pytest.param(event_json(sealed_by(ALICE, rumor_json(), to=CAROL)).decode(), id="sealed to somebody else"),
        pytest.param(event_json(sealed_by(ALICE, "x")).decode(), id="a seal around no JSON"),
        pytest.param(event_json(sealed_by(ALICE, "[" * 5_000)).decode(), id="a seal around brackets"),
        pytest.param(event_json(sealed_by(ALICE, rumor_json(id="a" * 64))).decode(), id="a rumor with a wrong id"),
        pytest.param(event_json(sealed_by(ALICE, rumor_json(kind="14"))).decode(), id="a rumor of kind '14'"),
        pytest.param(event_json(sealed_by(ALICE, rumor_json(created_at=1.5))).decode(), id="a rumor at 1.5"),
        pytest.param(event_json(sealed_by(ALICE, rumor_json(tags=[[]]))).decode(), id="a rumor with an empty tag"),
        pytest.param(event_json(sealed_by(ALICE, rumor_json(content=None))).decode(), id="a rumor without text"),
        pytest.param(
            event_json(sign_event(ALICE, created_at=5, kind=13, tags=[], content="", aux=bytes(32))).decode(),
            id="an empty seal",
        ),
    ],
)
def test_unwrap_refuses(plaintext: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        unwrap(wrapped(plaintext), BOB)
    assert not set("$`[]{}") & set(caught.value.detail)


def test_the_good_one_is_good() -> None:
    assert unwrap(wrapped(GOOD_SEAL), BOB) == (secp.xonly(ALICE), letter())
    assert unwrap(wrapped(GOOD_SEAL, kind=21_059), BOB) == (secp.xonly(ALICE), letter())


def test_rumors_as_others_write_them() -> None:
    plain = msgspec.to_builtins(letter())
    del plain["id"]
    for text in (json.dumps(plain), json.dumps(plain | {"sig": "", "seen": True}), json.dumps(plain | {"id": ""})):
        assert unwrap(wrapped(event_json(sealed_by(ALICE, text)).decode()), BOB) == (secp.xonly(ALICE), letter())


def test_only_gift_wraps_are_opened() -> None:
    with pytest.raises(InvalidPayload):
        unwrap(wrapped(GOOD_SEAL, kind=1060), BOB)
    good = wrapped(GOOD_SEAL)
    with pytest.raises(InvalidSignature):
        unwrap(msgspec.structs.replace(good, sig="0" * 128), BOB)
    with pytest.raises(InvalidSignature):
        unwrap(msgspec.structs.replace(good, tags=[["p", "0" * 64]]), BOB)


def test_seal_refuses() -> None:
    with pytest.raises(InvalidInput):
        seal(letter(), CAROL, secp.xonly(BOB), created_at=0, randomness=NOISE)
    with pytest.raises(InvalidInput):
        seal(letter("x" * 65_536), ALICE, secp.xonly(BOB), created_at=0, randomness=NOISE)
    with pytest.raises(ValueError):
        seal(letter(), ALICE, secp.xonly(BOB), created_at=0, randomness=NOISE[:63])
    with pytest.raises(InvalidEvent):
        letter("\ud800")


def test_rumor_id() -> None:
    rumor = letter("hello", kind=1, tags=[["t", "x"]])
    assert rumor.id == compute_id(secp.xonly(ALICE).hex(), 1_700_000_000, 1, [["t", "x"]], "hello")


@given(content=st.text(st.characters(exclude_categories=["Cs"]), max_size=200), kind=st.integers(0, 65_535))
@settings(max_examples=25, deadline=None)
def test_any_text(content: str, kind: int) -> None:
    rumor = letter(content, kind=kind)
    inner = seal(rumor, ALICE, secp.xonly(BOB), created_at=7, randomness=NOISE, pad_to=1_024)
    assert unwrap(wrap(inner, ONCE, secp.xonly(BOB), created_at=8, randomness=NOISE), BOB)[1] == rumor


def test_nostr_sdk_opens_ours() -> None:
    inner = seal(letter("für dich"), ALICE, secp.xonly(BOB), created_at=7, randomness=NOISE, pad_to=1_024)
    outer = wrap(inner, ONCE, secp.xonly(BOB), created_at=8, randomness=NOISE)
    bob = nostr_sdk.Keys.parse(BOB.hex())
    opened = nostr_sdk.UnwrappedGift.from_gift_wrap(bob, nostr_sdk.Event.from_json(event_json(outer).decode()))
    assert opened.sender().to_hex() == secp.xonly(ALICE).hex()
    assert opened.rumor().content() == "für dich"


def test_ours_opens_nostr_sdk() -> None:
    alice, bob = nostr_sdk.Keys.parse(ALICE.hex()), nostr_sdk.PublicKey.parse(secp.xonly(BOB).hex())
    theirs = nostr_sdk.nip17_make_private_msg(alice, bob, "from elsewhere 😀")
    sender, rumor = unwrap(parse_event(theirs.as_json()), BOB)
    assert (sender, rumor.kind, rumor.content) == (secp.xonly(ALICE), 14, "from elsewhere 😀")
