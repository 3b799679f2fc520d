"""What a NIP-17 message says, as anyone may have written it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennypost.protocol import nip17, secp
from pennypost.protocol.errors import InvalidInput, InvalidKey
from pennypost.protocol.event import tag_value, verify_event
from pennypost.protocol.giftwrap import RANDOMNESS, Rumor, make_rumor
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
