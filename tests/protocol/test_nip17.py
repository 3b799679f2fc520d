"""What a NIP-17 message says, as anyone may have written it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from pennypost.protocol import nip17, nip44, secp
from pennypost.protocol.errors import InvalidInput, InvalidKey, InvalidPayload
from pennypost.protocol.event import KIND_GIFT_WRAP, KIND_SEAL, Event, sign_event, tag_value, verify_event
from pennypost.protocol.giftwrap import RANDOMNESS, Rumor, make_rumor, unwrap
from pennypost.protocol.nip42 import answer_challenge

ALICE, BOB, ONCE = b"\1" * 32, b"\2" * 32, b"\3" * 32
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAMES = st.sampled_from(
    ["subject", "e", "p", "x", "size", "file-type", "encryption-algorithm", "decryption-key", "decryption-nonce"]
)
TAGS = st.lists(st.one_of(st.lists(TEXTS, min_size=1, max_size=4), st.tuples(NAMES, TEXTS).map(list)), max_size=20)


@given(kind=st.sampled_from([1, 14, 15]), content=TEXTS, tags=TAGS)
def test_whatever_is_written_is_read_or_passed_over(kind: int, content: str, tags: list[list[str]]) -> None:
    rumor = make_rumor(secp.xonly(ALICE), created_at=1, content=content, tags=tags, kind=kind)
    assert isinstance(nip17.subject_of(rumor), str)
    assert re.fullmatch(r"([0-9a-f]{64})?", nip17.parent_of(rumor))
    file = nip17.file_of(rumor)
    if file is not None:
        assert kind == 15 and file.url == content and file.algorithm and file.key and file.nonce
        assert 0 <= file.size < 10**15 and re.fullmatch(r"([0-9a-f]{64})?", file.digest)


@pytest.mark.parametrize("size", ["", "-1", "1.5", "1e9", "١", " 1", "1_000", "9" * 16])
def test_sizes_that_are_none(size: str) -> None:
    tags = [["encryption-algorithm", "a"], ["decryption-key", "k"], ["decryption-nonce", "n"], ["size", size]]
    file = nip17.file_of(Rumor("", 0, 15, tags, "https://x"))
    assert file is not None and file.size == 0


def wrapped(**options: int) -> list[list[str]]:
    rumor = make_rumor(secp.xonly(ALICE), created_at=1_000, content="x", tags=nip17.message_tags(secp.xonly(BOB)))
    event = nip17.wrap_message(
        rumor,
        ALICE,
        secp.xonly(BOB),
        ONCE,
        sealed_at=10,
        created_at=20,
        randomness=bytes(RANDOMNESS),
        **({"now": 1_000_000, "keep": 3_600} | options),
    )
    verify_event(event)
    assert (event.kind, event.created_at, event.pubkey) == (1059, 20, secp.xonly(ONCE).hex())
    return event.tags


@pytest.mark.parametrize(
    ("now", "keep", "until"),
    [
        (1_000_000, 3_600, 1_004_400),
        (1_000_800, 3_600, 1_004_400),
        (1_000_000, 86_400, 1_123_200),
        (1_000_000, 30 * 86_400, 3_628_800),
    ],
)
def test_expiration_is_no_clock(now: int, keep: int, until: int) -> None:
    assert wrapped(now=now, keep=keep) == [["p", secp.xonly(BOB).hex()], ["expiration", str(until)]]
    assert until - now >= keep


@pytest.mark.parametrize("wrong", [{"subject": "a\x00"}, {"subject": "\u202e"}, {"reply_to": "0" * 63}])
def test_tags_that_are_not_written(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        nip17.message_tags(secp.xonly(BOB), **wrong)


def test_the_answer_to_a_challenge() -> None:
    event = answer_challenge(ALICE, "wss://relay.example/", "c", created_at=5, aux=bytes(32))
    verify_event(event)
    assert (event.kind, event.created_at, event.pubkey) == (22242, 5, secp.xonly(ALICE).hex())
    assert (tag_value(event, "relay"), tag_value(event, "challenge")) == ("wss://relay.example/", "c")
    with pytest.raises(InvalidKey):
        answer_challenge(bytes(32), "wss://relay.example/", "c", created_at=5, aux=bytes(32))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["", "ab" * 32]) | JSON,
        "pubkey": st.sampled_from([secp.xonly(ALICE).hex(), secp.xonly(BOB).hex()]) | JSON,
        "created_at": st.integers(-1, 2**64) | JSON,
        "kind": st.sampled_from([13, 14, 15, 65_536]) | JSON,
        "tags": TAGS | JSON,
        "content": TEXTS | JSON,
        "sig": JSON,
    },
)


def sealed(text: str, author: bytes, kind: int) -> Event:
    content = nip44.encrypt(text, nip44.conversation_key(author, secp.xonly(BOB)), bytes(32))
    tags = [["p", secp.xonly(BOB).hex()]] if kind == KIND_GIFT_WRAP else []
    return sign_event(author, created_at=1, kind=kind, tags=tags, content=content, aux=bytes(32))


def text_of(value: object) -> str:
    return json.encode(value).decode() or " "


@settings(max_examples=150, deadline=None)
@given(inside=FIELDS | JSON, where=st.sampled_from(["seal", "rumor"]))
def test_whatever_is_in_a_wrap_it_is_a_message_of_its_author_or_nothing(inside: object, where: str) -> None:
    """Alice's own seal around anything, and her own wrap around anything in the place of a seal."""
    try:
        text = text_of(inside)
    except (OverflowError, UnicodeEncodeError):
        return
    if where == "rumor":
        text = text_of(sealed(text, ALICE, KIND_SEAL))
    try:
        sender, rumor = unwrap(sealed(text, ONCE, KIND_GIFT_WRAP), BOB)
    except InvalidPayload:
        return
    assert where == "rumor" and sender == secp.xonly(ALICE) and rumor.pubkey == sender.hex()
