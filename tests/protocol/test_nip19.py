"""Identifiers against NIP-19's examples, nostr-sdk, and hostile strings."""

from __future__ import annotations

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import nip19, secp
from pennypost.protocol.errors import InvalidInput, InvalidKey
from pennypost.protocol.nip19 import Entity

NPUB = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"
PUB = bytes.fromhex("7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e")
NSEC = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5"
SECRET = bytes.fromhex("67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa")
NPROFILE = (
    "nprofile1qqsrhuxx8l9ex335q7he0f09aej04zpazpl0ne2cgukyawd24mayt8gpp4mhxue69uhhytnc9e3k7mgpz4mhxue69uhkg6nzv9ej"
    "uumpv34kytnrdaksjlyr9p"
)
PROFILE = Entity(
    "nprofile",
    bytes.fromhex("3bf0c63fcb93463407af97a5e5ee64fa883d107ef9e558472c4eb9aaaefa459d"),
    ("wss://r.x.com", "wss://djbas.sadkb.com"),
)


def test_examples_of_the_nip() -> None:
    assert nip19.encode_npub(PUB) == NPUB and nip19.decode_npub(NPUB) == PUB
    assert nip19.encode_nsec(SECRET) == NSEC and nip19.decode_nsec(NSEC) == SECRET
    assert nip19.decode(NPROFILE) == PROFILE
    assert nip19.decode(NPUB) == Entity("npub", PUB)
    assert nip19.decode(nip19.encode_note(PUB)) == Entity("note", PUB)
    assert nip19.decode_note(nip19.encode_note(PUB)) == PUB


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (NPUB, PUB),
        (f"nostr:{NPUB}", PUB),
        (f" {NPUB}\n", PUB),
        (NPUB.upper(), PUB),
        (PUB.hex(), PUB),
        (NPROFILE, PROFILE.key),
    ],
)
def test_parse_public_key(text: str, key: bytes) -> None:
    assert nip19.parse_public_key(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "npub",
        "npub1",
        "alice",
        NPUB[:-1],
        NPUB[:-1] + "q",
        NPUB[:10] + "b" + NPUB[11:],
        "N" + NPUB[1:],
        NPUB.replace("npub", "nsec"),
        NSEC,
        nip19.encode_note(PUB),
        PUB.hex().upper(),
        PUB.hex()[:-1],
        "f" * 64,
        nip19.encode_npub(b"\xff" * 32),
        "npub1" + "q" * 6_000,
        "пpub" + NPUB[4:],
        "١" * 64,
        "\ud800",
    ],
)
def test_parse_public_key_refuses(text: str) -> None:
    with pytest.raises(InvalidKey):
        nip19.parse_public_key(text)


def test_parse_secret_key() -> None:
    assert nip19.parse_secret_key(NSEC) == nip19.parse_secret_key(SECRET.hex()) == SECRET


@pytest.mark.parametrize("text", [NPUB, "0" * 64, "f" * 64, SECRET.hex().upper(), "", nip19.encode_nsec(bytes(32))])
def test_parse_secret_key_refuses(text: str) -> None:
    with pytest.raises(InvalidKey):
        nip19.parse_secret_key(text)


def test_a_signer_elsewhere_is_refused_by_its_kind() -> None:
    """And its address, which holds a secret, is not repeated."""
    with pytest.raises(InvalidKey, match="NIP-46") as caught:
        nip19.parse_secret_key(f" bunker://{PUB.hex()}?relay=wss://r.example&secret=hunter2")
    assert "hunter2" not in str(caught.value)


def test_decode_shows_no_secret_key() -> None:
    with pytest.raises(InvalidKey) as caught:
        nip19.decode(NSEC)
    assert SECRET.hex() not in str(caught.value) and NSEC not in str(caught.value)


def _raw(prefix: str, data: bytes) -> str:
    return nip19._bech32(prefix, data)  # pyright: ignore[reportPrivateUsage]


KEY_PART = b"\x00\x20" + PUB
AUTHOR_PART = b"\x02\x20" + PUB


@pytest.mark.parametrize(
    ("prefix", "data"),
    [
        pytest.param("npub", PUB[:31], id="31 bytes"),
        pytest.param("npub", b"", id="no bytes"),
        pytest.param("nprofile", b"", id="no parts"),
        pytest.param("nprofile", KEY_PART[:-1], id="cut value"),
        pytest.param("nprofile", KEY_PART + b"\x01", id="cut header"),
        pytest.param("nprofile", b"\x00\x1f" + PUB[:31], id="short key"),
        pytest.param("nevent", KEY_PART + b"\x02\x01a", id="short author"),
        pytest.param("nevent", KEY_PART + b"\x03\x02\x00\x01", id="short kind"),
        pytest.param("nevent", KEY_PART + b"\x03\x04\x00\x01\x00\x00", id="kind 65536"),
        pytest.param("naddr", b"\x00\x00" + AUTHOR_PART, id="address without kind"),
        pytest.param("naddr", b"\x00\x00\x03\x04" + bytes(4), id="address without author"),
        pytest.param("naddr", b"\x00\x01\xff" + AUTHOR_PART + b"\x03\x04" + bytes(4), id="address not UTF-8"),
        pytest.param("nrelay", b"\x00\x01a", id="a deprecated prefix"),
    ],
)
def test_decode_refuses(prefix: str, data: bytes) -> None:
    with pytest.raises(InvalidKey):
        nip19.decode(_raw(prefix, data))


def test_unknown_parts_are_passed_over() -> None:
    for part in (b"\x09\x02hi", b"\xff\x00", b"\x01\x01\xe9", b"\x01\x02\x1b[", AUTHOR_PART):
        assert nip19.decode(_raw("nprofile", part + KEY_PART + part)) == Entity("nprofile", PUB)


@pytest.mark.parametrize(
    "entity",
    [
        Entity("nprofile", PUB[:5]),
        Entity("nprofile", PUB, ("wss://" + "x" * 250,)),
        Entity("nprofile", PUB, ("wss://relay.example.com",) * 200),
        Entity("naddr", b"", (), PUB, None, "d"),
        Entity("naddr", b"", (), PUB, -1, "d"),
        Entity("naddr", b"", (), PUB, 65_536, "d"),
        Entity("naddr", b"", (), PUB, 2**40, "d"),
        Entity("naddr", b"", (), PUB, 1, "\ud800"),
        Entity("nrelay", PUB),
        Entity("npub", PUB[:31]),
    ],
)
def test_encode_refuses(entity: Entity) -> None:
    with pytest.raises((InvalidKey, InvalidInput)):
        nip19.encode(entity)


keys = st.binary(min_size=32, max_size=32)
relays = st.lists(st.sampled_from(["wss://a.example", "ws://b.example:7777/x", ""]), max_size=4).map(tuple)
kinds = st.integers(0, 65_535)
entities = (
    st.builds(Entity, st.sampled_from(["npub", "note"]), keys)
    | st.builds(Entity, st.just("nprofile"), keys, relays)
    | st.builds(Entity, st.just("nevent"), keys, relays, st.none() | keys, st.none() | kinds)
    | st.builds(Entity, st.just("naddr"), st.just(b""), relays, keys, kinds, st.text(max_size=40))
)


@given(entity=entities)
@settings(max_examples=100, deadline=None)
def test_round_trip(entity: Entity) -> None:
    assert nip19.decode(nip19.encode(entity)) == entity


@given(entity=entities, position=st.integers(0, 4_999), char=st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
@settings(max_examples=100, deadline=None)
def test_a_wrong_character_is_noticed(entity: Entity, position: int, char: str) -> None:
    text = nip19.encode(entity)
    start = text.rindex("1") + 1
    position = start + position % (len(text) - start)
    changed = text[:position] + char + text[position + 1 :]
    if changed != text:
        with pytest.raises(InvalidKey):
            nip19.decode(changed)


@given(text=st.text(max_size=120))
@settings(max_examples=100, deadline=None)
def test_no_text_breaks_it(text: str) -> None:
    for read in (nip19.decode, nip19.parse_public_key, nip19.parse_secret_key):
        with pytest.raises(InvalidKey):
            read(text)


def test_nostr_sdk_agrees() -> None:
    pub = secp.xonly(SECRET)
    sdk_key = nostr_sdk.PublicKey.parse(pub.hex())
    address = Entity("naddr", b"", ("wss://r.example.com",), pub, 30_023, "d tag")
    event = Entity("nevent", PUB, ("wss://r.example.com",), pub, 1)
    coordinate = nostr_sdk.Nip19Coordinate.from_bech32(nip19.encode(address))
    assert coordinate.coordinate().identifier() == "d tag"
    assert coordinate.coordinate().public_key().to_hex() == pub.hex()
    assert nip19.decode(coordinate.to_bech32()) == address
    read = nostr_sdk.Nip19Event.from_bech32(nip19.encode(event))
    assert read.event_id().to_hex() == PUB.hex()
    assert nip19.decode(read.to_bech32()) == event
    assert sdk_key.to_bech32() == nip19.encode_npub(pub)
