"""The short way for stamps agrees with the full reader about every token: the same stamp, or the same refusal."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any, cast

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.errors import PennypostError
from pennypost.protocol.keyset import short_id
from pennypost.protocol.token import Proof, Token, encode_token
from pennypost_mint.keyring import derive_keyset
from pennypost_postoffice import shapes
from pennypost_postoffice.shapes import Shapes
from pennypost_postoffice.stamps import StampReader

URL, ORIGIN, NOW = "https://mint.example", "mint.example", 1_800_000_000
OLD = derive_keyset(bytes(32), 0, "sat", active=False, input_fee_ppk=0, final_expiry=NOW + 10)
KEYSET = derive_keyset(bytes(32), 1, "sat", active=True, input_fee_ppk=0, final_expiry=None)
SECRETS = ["a1" * 32, "b2" * 32, "c3" * 32]
POINTS = ["02" + "d4" * 32, "03" + "e5" * 32]


def reader() -> StampReader:
    keyring = SimpleNamespace(keysets=(OLD, KEYSET), identity=b"\2" + bytes(32))
    return StampReader(cast("Any", keyring), URL, f"{URL}/buy")


def outcome(read: StampReader, token: str, price: int = 1, now: int = NOW, origin: str = ORIGIN) -> object:
    try:
        return read.read(token, price, now, origin)
    except PennypostError as error:
        return error.code


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """Tokens that differ little from each other, and mutations of them."""
    # one in every few is odd, so that most are read the short way
    secret = st.sampled_from([*SECRETS, *SECRETS, SECRETS[0].upper(), "x" * 64])
    point = st.sampled_from([*POINTS, POINTS[0][:64] + "e5"])
    keyset = st.sampled_from([KEYSET.id, KEYSET.id, OLD.id])
    count = draw(st.sampled_from([1, 1, 1, 1, 1, 1, 2]))
    amount = st.sampled_from([1, 1, 1, 2])
    proofs = [Proof(draw(amount), draw(keyset), draw(secret), draw(point)) for _ in range(count)]
    memo = draw(st.sampled_from([None, None, None, None, SECRETS[0]]))
    mint = draw(st.sampled_from([URL, URL, URL, URL, "https://mint.exampel"]))
    text = encode_token(Token(mint, "sat", proofs, memo), draw(st.sampled_from(["B", "B", "B", "B", "B", "A"])))
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(text) - 1))
        text = text[:at] + draw(st.sampled_from(["A", "-", "/", "=", "é", "cashu:", ""])) + text[at + 1 :]
    return text


@given(
    st.lists(
        st.tuples(tokens(), st.sampled_from([1, 1, 1, 2]), st.sampled_from([NOW, NOW, NOW + 20])),
        min_size=2,
        max_size=12,
    )
)
@settings(max_examples=400, deadline=None)
def test_what_was_read_before_changes_no_answer(given_tokens: list[tuple[str, int, int]]) -> None:
    warm = reader()
    for token, price, now in given_tokens:
        assert outcome(warm, token, price, now) == outcome(reader(), token, price, now)


def stamp(secret: str, memo: str | None = None, amount: int = 1) -> str:
    return encode_token(Token(URL, "sat", [Proof(amount, KEYSET.id, secret, POINTS[0])], memo))


def test_a_second_stamp_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    read = reader()
    first = outcome(read, stamp(SECRETS[0]))
    monkeypatch.setattr("pennypost_postoffice.stamps.parse_token", None)
    second: Any = outcome(read, stamp(SECRETS[1]))
    assert second.proofs == [(KEYSET.id, 1, SECRETS[1], POINTS[0])] and (second.positions, second.sat) == ([1], 1)
    assert type(first) is type(second)


def test_a_memo_that_repeats_the_secret_teaches_nothing() -> None:
    read = reader()
    for secret in SECRETS:
        found: Any = outcome(read, stamp(secret, memo=SECRETS[0]))
        assert found.proofs[0][2] == secret
    raw = {"t": [{"i": bytes.fromhex(short_id(KEYSET.id)), "p": []}], "d": SECRETS[1], "m": URL, "u": "sat"}
    raw["t"][0]["p"].append({"a": 1, "s": SECRETS[1], "c": bytes.fromhex(POINTS[0])})
    token = "cashuB" + base64.urlsafe_b64encode(cbor2.dumps(raw)).decode().rstrip("=")
    shape = Shapes()
    shape.learn(token, ORIGIN, KEYSET, 1, SECRETS[1], POINTS[0])
    assert shape.read(token, ORIGIN) is None


def test_shapes_are_bounded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MOST", 2)
    known = Shapes()
    texts = [stamp(SECRETS[0], memo="x" * length) for length in (3, 6, 9)]
    for text in texts:
        known.learn(text, ORIGIN, KEYSET, 1, SECRETS[0], POINTS[0])
    assert [known.read(text, ORIGIN) is not None for text in texts] == [False, True, True]
    assert known.read(texts[2], "another.example") is None
    known.clear()
    assert known.read(texts[2], ORIGIN) is None


def test_other_keysets_are_learned_anew() -> None:
    read = reader()
    outcome(read, stamp(SECRETS[0]))
    cast("Any", read)._keyring.keysets = (OLD,)
    assert outcome(read, stamp(SECRETS[1])) == "stamp-keyset"
