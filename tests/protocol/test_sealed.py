"""A secret in a line of text: opened by its passphrase, under its name, alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.errors import InvalidPayload
from pennypost.protocol.sealed import LEAST_LOG_N, MOST_LOG_N, is_sealed, seal, unseal

SECRET = bytes(range(32))
WORDS = "correct horse battery staple"
TEXT = seal(SECRET, WORDS, name="a", salt=bytes(16), nonce=bytes(12), log_n=LEAST_LOG_N)


def test_it_opens_with_its_passphrase_alone() -> None:
    assert is_sealed(TEXT) and "\n" not in TEXT and SECRET.hex() not in TEXT
    assert unseal(TEXT, WORDS, name="a", size=32) == SECRET
    assert unseal(TEXT, WORDS + " ", name="a", size=32) is None


def test_it_does_not_open_under_another_name() -> None:
    for text in (TEXT, json.dumps({("b" if k == "a" else k): v for k, v in json.loads(TEXT).items()})):
        try:
            assert unseal(text, WORDS, name="b", size=32) is None
        except InvalidPayload:
            assert text is TEXT


@pytest.mark.parametrize(
    "change",
    [{"log_n": MOST_LOG_N + 1}, {"log_n": 9}, {"log_n": True}, {"r": 1 << 20}, {"salt": "00" * 65}, {"nonce": "00"}],
)
def test_costs_and_sizes_are_bounded(change: dict[str, object]) -> None:
    with pytest.raises(InvalidPayload):
        unseal(json.dumps(json.loads(TEXT) | change), WORDS, name="a", size=32)
    with pytest.raises(InvalidPayload):
        unseal(TEXT, WORDS, name="a", size=16)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    with pytest.raises(InvalidPayload):
        unseal(text, WORDS, name="a", size=32)
