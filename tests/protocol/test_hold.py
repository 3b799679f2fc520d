"""Hold tags: T against a vector, what opens it, and which events may carry one."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.errors import InvalidEvent
from pennypost.protocol.event import Event, sign_event
from pennypost.protocol.hold import hold_of, hold_tag, opens

X, ID = bytes(range(32)), bytes(range(32, 64))
T = "9bd28338fd9636aec864952ff89fe5946da56eb12c735d4940e90bd51c98387a"
"""SHA-256 of SHA-256("pennypost/hold/v1") twice, SHA-256 of X, and ID; made apart from our code."""


def event(*tags: list[str], kind: int = 1059) -> Event:
    return sign_event(bytes([7]) * 32, created_at=1_000_000, kind=kind, tags=list(tags), content="", aux=bytes(32))


def test_vector() -> None:
    assert hold_tag(sha256(X).digest(), ID).hex() == T
    assert opens(bytes.fromhex(T), X, ID)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
@settings(max_examples=50, deadline=None)
def test_nothing_else_opens_it(preimage: bytes, identifier: bytes) -> None:
    assert opens(bytes.fromhex(T), preimage, identifier) == ((preimage, identifier) == (X, ID))
    assert not opens(bytes.fromhex(T), sha256(X).digest(), ID)
    assert not opens(bytes.fromhex(T), X, ID[::-1])


def test_lengths() -> None:
    for payment_hash, identifier in ((X, ID + b"0"), (X[1:], ID), (b"", b"")):
        with pytest.raises(ValueError, match="32"):
            hold_tag(payment_hash, identifier)


def test_the_tag_of_an_event() -> None:
    assert hold_of(event(["p", T])) is None
    assert hold_of(event(["p", T], ["hold", T, "more"])) == bytes.fromhex(T)
    assert hold_of(event(["hold", T], kind=1)) == bytes.fromhex(T)


REFUSED = {
    "two": [["hold", T], ["hold", T]],
    "no value": [["hold"]],
    "empty": [["hold", ""]],
    "short": [["hold", T[:-1]]],
    "upper case": [["hold", T.upper()]],
    "not hex": [["hold", "x" * 64]],
    "a space": [["hold", " " + T[1:]]],
}


@pytest.mark.parametrize("tags", REFUSED.values(), ids=REFUSED)
def test_refused_tags(tags: list[list[str]]) -> None:
    with pytest.raises(InvalidEvent):
        hold_of(event(*tags))


@pytest.mark.parametrize("kind", [0, 3, 5, 10_002, 20_001, 23_194, 30_023])
def test_kinds_that_cannot_wait(kind: int) -> None:
    with pytest.raises(InvalidEvent):
        hold_of(event(["hold", T], kind=kind))
